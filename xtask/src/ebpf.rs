//! `cargo xtask ebpf`: compiles the kernel half.
//!
//! **In**: the sources of `clovisor-ebpf`. **Out**: the object `target/ebpf/clovisor`.
//! **Owns**: the target folder `target/ebpf-build`. **Never**: touches the build of the host crates.

mod code;
mod size;
mod stack;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell;
use anyhow::{Context as _, Result, bail};

/// Where distributions with a `rustc-web` package put a compiler that has its own sources.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";
const SYSTEM_CARGO: &str = "/usr/bin/cargo";

/// A compiler that can build `core` for the kernel.
#[derive(Debug)]
pub(crate) enum Toolchain {
    /// A rustup nightly with `rust-src`.
    Nightly,
    /// The distribution's stable compiler with its sources.
    System,
}

impl std::fmt::Display for Toolchain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nightly => "rustup's nightly toolchain",
            Self::System => SYSTEM_RUSTC,
        })
    }
}

/// Builds the kernel object and returns its path; cargo skips the work when nothing changed.
///
/// # Errors
///
/// No compiler or no `bpf-linker` is installed, or the build fails.
pub(crate) fn run() -> Result<PathBuf> {
    let root = shell::root()?;
    let toolchain = find_toolchain()?;
    if !has_linker() {
        bail!("no bpf-linker in PATH or target/tools; run `cargo xtask setup`");
    }
    let build = root.join("target/ebpf-build");
    let status = cargo(&toolchain, &root)
        .current_dir(&root)
        .args(["build", "--release", "--locked", "-Zbuild-std=core"])
        .args(["--package", "clovisor-ebpf", "--target", target()])
        .arg("--target-dir")
        .arg(&build)
        .stdout(std::io::stderr())
        .status()
        .context("cargo did not start for the kernel half; run `cargo xtask setup`")?;
    if !status.success() {
        bail!("the kernel half did not compile with {toolchain}; see the errors above");
    }
    let built = build.join(target()).join("release");
    let object = built.join("clovisor");
    let bytes = std::fs::read(&object).with_context(|| format!("no object at {}", object.display()))?;
    stack::check(&code::functions(&bytes)?)?;
    publish(&built.join("baseline"), &root)?;
    publish(&object, &root)
}

/// The table of the object's sizes.
///
/// # Errors
///
/// The file is no object of the kernel half.
pub(crate) fn sizes(object: &Path) -> Result<String> {
    let bytes = std::fs::read(object).with_context(|| format!("read {}", object.display()))?;
    size::table(&code::functions(&bytes)?)
}

/// Copies the object only when it differs, so that its time stamp tells of real changes.
fn publish(object: &Path, root: &Path) -> Result<PathBuf> {
    let name = object.file_name().context("an object without a name")?;
    let place = root.join("target/ebpf").join(name);
    let bytes = std::fs::read(object).with_context(|| {
        format!("no object at {}; remove target/ebpf-build and try again", object.display())
    })?;
    if std::fs::read(&place).is_ok_and(|old| old == bytes) {
        return Ok(place);
    }
    std::fs::create_dir_all(root.join("target/ebpf")).context("create target/ebpf")?;
    // Renamed into place: a daemon that starts meanwhile reads the old object or the new one.
    let fresh = place.with_extension("new");
    std::fs::write(&fresh, bytes).with_context(|| format!("write {}", fresh.display()))?;
    std::fs::rename(&fresh, &place).with_context(|| format!("write {}", place.display()))?;
    Ok(place)
}

/// A compiler that can build `core` for the kernel, or what to install.
pub(crate) fn find_toolchain() -> Result<Toolchain> {
    if has_sources(Command::new("rustup").args(["run", "nightly", "rustc"])) {
        return Ok(Toolchain::Nightly);
    }
    if Path::new(SYSTEM_CARGO).exists() && has_sources(&mut Command::new(SYSTEM_RUSTC)) {
        return Ok(Toolchain::System);
    }
    bail!(
        "no compiler can build core for the kernel (a rustup nightly with rust-src, or the packages \
         rustc-web, rust-web-src and cargo-web); run `cargo xtask setup`"
    )
}

fn has_sources(rustc: &mut Command) -> bool {
    let Ok(output) = rustc.args(["--print", "sysroot"]).output() else {
        return false;
    };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    output.status.success() && library.exists()
}

/// Is there a `bpf-linker`, in PATH or in `target/tools`?
pub(crate) fn has_linker() -> bool {
    let found = Command::new("bpf-linker").env("PATH", path()).arg("--version").output();
    found.is_ok_and(|output| output.status.success())
}

/// PATH with the tools that `cargo xtask setup` installs.
fn path() -> OsString {
    let own = shell::root().unwrap_or_default().join("target/tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::split_paths(&path).chain([own]);
    std::env::join_paths(all).unwrap_or(path)
}

fn target() -> &'static str {
    if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" }
}

fn cargo(toolchain: &Toolchain, root: &Path) -> Command {
    let mut flags = vec![
        format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH),
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
    ];
    flags.extend(renamed_folders(root));
    let mut command = Command::new(match toolchain {
        Toolchain::Nightly => "rustup",
        Toolchain::System => SYSTEM_CARGO,
    });
    inherit_little(&mut command);
    match toolchain {
        Toolchain::Nightly => command.args(["run", "nightly", "cargo"]),
        Toolchain::System => command.env("RUSTC", SYSTEM_RUSTC).env("RUSTC_BOOTSTRAP", "1"),
    };
    command
        .env("PATH", path())
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        // Incremental builds inline otherwise, and need more of the stack.
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        // The type information that the loader reads lives in sections that a strip removes.
        .env("CARGO_PROFILE_RELEASE_STRIP", "none");
    command
}

/// The same object from every folder: paths of the builder stand neither in the type information nor in messages of panics.
fn renamed_folders(root: &Path) -> impl Iterator<Item = String> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let of_home = |variable: &str, folder: &str| {
        std::env::var_os(variable).map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join(folder)))
    };
    let folders = [
        (Some(root.to_owned()), "clovisor"),
        (of_home("CARGO_HOME", ".cargo"), "cargo"),
        (of_home("RUSTUP_HOME", ".rustup"), "rustup"),
    ];
    folders
        .into_iter()
        .filter_map(|(folder, name)| Some(format!("--remap-path-prefix={}=/{name}", folder?.display())))
}

/// An outer `cargo` exports its own compiler and folders, which would reach the inner build.
fn inherit_little(command: &mut Command) {
    let foreign = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG") || name.starts_with("CARGO_MANIFEST")
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| foreign(name)) {
        command.env_remove(name);
    }
    for name in ["RUSTC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CARGO", "CARGO_TARGET_DIR", "RUSTC_WRAPPER"] {
        command.env_remove(name);
    }
}
