//! The kernel half's object, loaded without an agent.

use anyhow::{Context as _, Result, ensure};
use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfLoader};
use clovisor_common::abi::{ABI_VERSION, PROGRAMS};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::path::{Path, PathBuf};

/// The object named so, from `cargo xtask ebpf`; `$CLOVISOR_EBPF_OBJECT` stands for the one of the programs.
pub fn object(name: &str) -> Result<PathBuf> {
    let built = crate::repository::path("target/ebpf").join(name);
    let path = std::env::var_os("CLOVISOR_EBPF_OBJECT").map_or(built, PathBuf::from);
    ensure!(path.exists(), "no kernel object at {}; run `cargo xtask ebpf`", path.display());
    Ok(path)
}

/// What is set otherwise than in the programs as they are shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Shipped,
    /// Packets in the middle of a flow take the slow path too.
    LongWay,
    /// The kernel fail_rewrites to rewrite packets.
    Refusing,
}

/// Loads the programs with maps of their own, with room for `flows` entries of replied flows and `unreplied` of others.
/// The object asks for pins; they go to a file system that only this thread sees and that goes at once.
pub fn load(flows: u32, unreplied: u32, variant: Variant) -> Result<Ebpf> {
    const NONE: Option<&str> = None;
    let pins = tempfile::tempdir()?;
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).context("root is needed")?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(Some("bpf"), pins.path(), Some("bpf"), MsFlags::empty(), NONE)?;
    let mut loader = EbpfLoader::new();
    let (fast_path, fail_rewrites) =
        (u8::from(variant != Variant::LongWay), u8::from(variant == Variant::Refusing));
    loader.default_map_pin_directory(pins.path());
    loader.override_global("FAST_PATH", &fast_path, true).override_global(
        "FAIL_REWRITES",
        &fail_rewrites,
        true,
    );
    for (map, entries) in
        [("FLOW4", flows), ("FLOW6", flows), ("UNREPLIED4", unreplied), ("UNREPLIED6", unreplied)]
    {
        loader.map_max_entries(map, entries);
    }
    let ebpf = verified(&mut loader, &PROGRAMS);
    umount2(pins.path(), MntFlags::MNT_DETACH)?;
    ebpf
}

/// Another generation of one of the programs, on the maps that an agent has pinned.
pub fn on_maps_of(bpffs: &Path, program: &str) -> Result<Ebpf> {
    let pins = bpffs.join("clovisor").join(format!("v{ABI_VERSION}"));
    verified(EbpfLoader::new().default_map_pin_directory(pins), &[program])
}

fn verified(loader: &mut EbpfLoader<'_>, programs: &[&str]) -> Result<Ebpf> {
    let mut ebpf = loader.load(&std::fs::read(object("clovisor")?)?)?;
    for name in programs {
        let program: &mut SchedClassifier = ebpf.program_mut(name).context("no such program")?.try_into()?;
        program.load().with_context(|| format!("the verifier refused {name}"))?;
    }
    Ok(ebpf)
}
