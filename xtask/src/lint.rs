//! `cargo xtask lint`: what reviewers would otherwise have to look for.

pub(crate) mod order;

mod abi;
mod manifests;
mod sources;

use crate::shell;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Folders with sources of ours.
const CRATES: [&str; 5] = ["clovisor-common", "clovisor-ebpf", "clovisor-agent", "tests", "xtask"];

/// Runs every check; all findings are shown, then it fails.
pub(crate) fn run(bless_abi: bool) -> Result<()> {
    if bless_abi {
        return abi::bless();
    }
    let mut findings = Vec::new();
    let files = files()?;
    findings.extend(order::check()?);
    findings.extend(abi::check()?);
    findings.extend(manifests::check(&CRATES)?);
    findings.extend(sources::check(&files)?);
    for finding in &findings {
        eprintln!("{finding}");
    }
    let format = shell::run(shell::cargo().args(["fmt", "--all", "--", "--check"]));
    let words = ["clippy", "--locked", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    let clippy = shell::run(shell::cargo().args(words));
    if !findings.is_empty() {
        bail!("{} findings, see above", findings.len());
    }
    format.and(clippy)?;
    eprintln!("lint: {} files, nothing to complain about", files.len());
    Ok(())
}

/// Every Rust source with its text.
fn files() -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for folder in CRATES {
        collect(Path::new(folder), &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, String)>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path)?;
            files.push((path, text));
        }
    }
    Ok(())
}
