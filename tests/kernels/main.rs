//! The kernel tests on other kernels than this machine's; `cargo xtask test kernels` runs it.
//!
//! **In**: Debian's kernel packages, the test binary, the object of the kernel half. **Out**: one table, kernel by
//! feature, and a line of results as cargo prints it. Each kernel boots in QEMU without hardware virtualization, from an
//! initramfs that holds the tests and nothing else.
//! **Owns**: `target/kernels`. **Never**: touches this machine's kernel, packages or sources of packages.

mod debian;
mod guest;
mod packed;
mod programs;
mod series;
mod table;

use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

/// Guests at a time: each is one busy thread. One more than two processors have, so that the last ones end together.
const GUESTS: usize = 3;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `clovisor-kernels TESTS [FILTER]`, in the repository's folder.
fn run() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let tests = arguments.next().map(PathBuf::from);
    let tests = tests.context("usage: clovisor-kernels TESTS [FILTER]; see `cargo xtask test kernels`")?;
    let filter = arguments.next().map(|filter| filter.to_string_lossy().into_owned());
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "other kernels are booted on x86_64 only; this is {}",
        std::env::consts::ARCH
    );
    let kernels = debian::kernels(Path::new("target/kernels"))?;
    let rows = booted(&kernels, &tests, filter.as_deref());
    let sum = table::summed(&rows, filter.is_none())?;
    println!("{sum}");
    if !sum.broken.is_empty() {
        bail!("{}", sum.broken.join("; "));
    }
    ensure!(sum.failed == 0, "{} tests failed", sum.failed);
    Ok(())
}

/// Boots every kernel, some at a time; one row for each, the oldest first.
fn booted(kernels: &[debian::Kernel], tests: &Path, filter: Option<&str>) -> Vec<table::Row> {
    let waiting = Mutex::new(kernels.iter().collect::<Vec<_>>());
    let rows = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..GUESTS {
            scope.spawn(|| {
                while let Some(kernel) = waiting.lock().ok().and_then(|mut kernels| kernels.pop()) {
                    let start = Instant::now();
                    let outcome = guest::boot(kernel, tests, filter);
                    let (version, seconds) = (kernel.version.clone(), start.elapsed().as_secs());
                    eprintln!("{version} ended after {seconds} s");
                    if let Ok(mut rows) = rows.lock() {
                        rows.push(table::Row { version, outcome, seconds });
                    }
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_default();
    rows.sort_by_key(|row| series::order(&row.version));
    rows
}
