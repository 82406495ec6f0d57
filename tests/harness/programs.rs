//! Loading the eBPF object without an agent.

use anyhow::{Context as _, Result, ensure};
use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfLoader};
use clovisor_common::abi::{ABI_VERSION, PROGRAMS};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::path::{Path, PathBuf};

/// Path of an eBPF object that `cargo xtask ebpf` builds. `$CLOVISOR_EBPF_OBJECT` takes precedence.
pub fn object(name: &str) -> Result<PathBuf> {
    let built = crate::repository::path("target/ebpf").join(name);
    let path = std::env::var_os("CLOVISOR_EBPF_OBJECT").map_or(built, PathBuf::from);
    ensure!(path.exists(), "no eBPF object at {}; run `cargo xtask ebpf`", path.display());
    Ok(path)
}

/// Test switches of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Shipped,
    /// Established flows take the slow path too.
    SlowPath,
    /// Every rewrite of a packet fails.
    FailRewrites,
}

/// Loads the programs with maps of their own: room for `flows` replied flows and for `unreplied` others.
///
/// The object pins its maps. Here the pins go to a BPF file system in a private mount namespace of this thread, which is
/// unmounted before the function returns.
pub fn load(flows: u32, unreplied: u32, variant: Variant) -> Result<Ebpf> {
    const NONE: Option<&str> = None;
    let pins = tempfile::tempdir()?;
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).context("root is needed")?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(Some("bpf"), pins.path(), Some("bpf"), MsFlags::empty(), NONE)?;
    let mut loader = EbpfLoader::new();
    let fast_path = u8::from(variant != Variant::SlowPath);
    let fail_rewrites = u8::from(variant == Variant::FailRewrites);
    loader.default_map_pin_directory(pins.path());
    loader.override_global("FAST_PATH", &fast_path, true);
    loader.override_global("FAIL_REWRITES", &fail_rewrites, true);
    for (map, entries) in
        [("FLOW4", flows), ("FLOW6", flows), ("UNREPLIED4", unreplied), ("UNREPLIED6", unreplied)]
    {
        loader.map_max_entries(map, entries);
    }
    let ebpf = verified(&mut loader, &PROGRAMS);
    umount2(pins.path(), MntFlags::MNT_DETACH)?;
    ebpf
}

/// A second instance of one of the programs, on the maps that an agent has pinned.
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
