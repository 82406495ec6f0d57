//! Tools that cargo builds, and standard libraries that rustup brings.

use super::apt;
use crate::shell;
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// Builds a program of crates.io into `target/tools`. `feature` names the LLVM that it links.
pub(super) fn install(name: &str, version: &str, feature: &str) -> Result<()> {
    let mut command = shell::cargo();
    command
        .args(["install", name, "--version", version, "--no-default-features", "--features", feature])
        .args(["--locked", "--root", "target/tools", "--target-dir", "target/tools/build"])
        .env("LLVM_PREFIX", format!("/usr/lib/{feature}"));
    shell::run(&mut command)
}

/// A C compiler and a standard library for static binaries.
pub(crate) fn musl(target: &str) -> Result<()> {
    if !shell::has("musl-gcc") {
        apt::install(&["musl-tools"])?;
    }
    let sysroot = shell::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(target).is_dir() {
        return Ok(());
    }
    eprintln!("adding the standard library of {target} with rustup");
    shell::run(Command::new("rustup").args(["target", "add", target]))
}
