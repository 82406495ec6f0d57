//! The machines that an image is for.

use crate::{setup, shell};
use anyhow::Result;
use clap::ValueEnum;
use std::path::Path;
use std::process::Command;

/// As OCI names it.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    /// That of this machine.
    pub(crate) const fn own() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 }
    }

    /// OCI's name.
    pub(super) const fn oci(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Rust's and Debian's name of the processor.
    const fn processor(self) -> (&'static str, &'static str) {
        match self {
            Self::Amd64 => ("x86_64", "x86-64"),
            Self::Arm64 => ("aarch64", "aarch64"),
        }
    }

    /// The static target.
    pub(super) fn target(self) -> String {
        format!("{}-unknown-linux-musl", self.processor().0)
    }

    /// Installs what compiles for it, and tells cargo.
    pub(super) fn toolchain(self, cargo: &mut Command) -> Result<()> {
        setup::musl(&self.target())?;
        if self == Self::own() {
            return Ok(());
        }
        let (rust, debian) = self.processor();
        let compiler = format!("{rust}-linux-gnu-gcc");
        // The compiler comes without the headers of the C library, which it only recommends.
        let headers = format!("/usr/{rust}-linux-gnu/include/stdio.h");
        if !shell::has(&compiler) || !Path::new(&headers).exists() {
            let library = format!("libc6-dev-{}-cross", self.oci());
            setup::packages(&[&format!("gcc-{debian}-linux-gnu"), &library])?;
        }
        let target = self.target().replace('-', "_");
        cargo.env(format!("CC_{target}"), compiler);
        cargo.env(format!("AR_{target}"), format!("{rust}-linux-gnu-ar"));
        // Rust brings the C library's start files, and this linker.
        cargo.env(format!("CARGO_TARGET_{}_LINKER", target.to_uppercase()), "rust-lld");
        Ok(())
    }

    /// Runs a program of the image, where this machine is another one with QEMU's help; what it prints.
    pub(super) fn output(self, program: &Path, words: &[&str]) -> Result<String> {
        if self == Self::own() {
            return shell::output(Command::new(program).args(words));
        }
        let emulator = format!("qemu-{}-static", self.processor().0);
        if !shell::has(&emulator) {
            setup::packages(&["qemu-user-static"])?;
        }
        shell::output(Command::new(emulator).arg(program).args(words))
    }
}
