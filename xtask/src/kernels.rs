//! `cargo xtask test kernels`: the kernel tests on other kernels than this machine's.
//!
//! **In**: Debian's kernel packages, the test binary. **Out**: one table, kernel by what it has. Each kernel boots in
//! QEMU without hardware virtualization, from an initramfs that holds the tests and nothing else.
//! **Never**: touches this machine's kernel, packages or sources of packages.

mod debian;
mod guest;
mod packed;
mod series;
mod table;

use crate::count::Count;
use crate::{ebpf, setup, shell};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

/// A program of each Debian package that is needed.
const PROGRAMS: [(&str, &str); 7] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("cpio", "cpio"),
    ("modinfo", "kmod"),
    ("xz", "xz-utils"),
    ("dpkg-deb", "dpkg"),
    ("busybox", "busybox-static"),
    ("wg", "wireguard-tools"),
];

/// Guests at a time: each is one busy thread. One more than two processors have, so that the last ones end together.
const GUESTS: usize = 3;

/// Boots every kernel that can be had and runs the kernel tests in each.
pub(crate) fn run(filter: Option<&str>) -> Result<Count> {
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "other kernels are booted on x86_64 only; this is {}",
        std::env::consts::ARCH
    );
    setup::programs(&PROGRAMS)?;
    ebpf::run()?;
    let tests = test_binary()?;
    let kernels = debian::kernels(Path::new("target/kernels"))?;
    let waiting = Mutex::new(kernels.iter().collect::<Vec<_>>());
    let rows = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..GUESTS {
            scope.spawn(|| {
                while let Some(kernel) = waiting.lock().ok().and_then(|mut kernels| kernels.pop()) {
                    let start = Instant::now();
                    let outcome = guest::boot(kernel, &tests, filter);
                    let row = table::Row {
                        version: kernel.version.clone(),
                        outcome,
                        seconds: start.elapsed().as_secs(),
                    };
                    eprintln!("{} ended after {} s", row.version, row.seconds);
                    if let Ok(mut rows) = rows.lock() {
                        rows.push(row);
                    }
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_default();
    rows.sort_by_key(|row| series::order(&row.version));
    table::summed(&rows, filter.is_none())
}

/// The kernel tests as a program.
fn test_binary() -> Result<PathBuf> {
    let mut cargo = shell::cargo();
    cargo.args(["test", "--locked", "--no-run", "--package", "clovisor-tests", "--test", "kernel"]);
    let messages = shell::output(cargo.args(["--message-format", "json"]))?;
    let mut path = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "kernel").then_some(())?;
        Some(PathBuf::from(message["executable"].as_str()?))
    });
    path.next_back().context("cargo built no kernel tests")
}

/// Runs a program and says its name if it is not there.
fn text(program: &str, arguments: &[&str]) -> Result<String> {
    shell::output(Command::new(program).args(arguments))
}
