//! `cargo xtask lint`: what reviewers would otherwise have to look for.

mod abi;
mod boundaries;
mod circles;
mod manifests;
mod names;
mod order;
mod sources;

use crate::count::counted;
use crate::modules::Tree;
use crate::shell;
use crate::workspace::{self, Crate, Source};
use anyhow::{Result, bail};
use std::path::Path;

/// The library whose modules form one list.
const ORDERED: &str = "clovisor-agent/src/lib.rs";

/// Runs every check; all findings are shown, then it fails.
pub(crate) fn run(bless_abi: bool) -> Result<()> {
    if bless_abi {
        return abi::bless();
    }
    let crates = workspace::crates()?;
    let sources = workspace::sources(&crates)?;
    let mut agent = Vec::new();
    let mut circles = Vec::new();
    for one in &crates {
        let trees = targets(one)?;
        circles.extend(circles::check(&trees, &|path| text(&sources, path)));
        if one.folder.starts_with(workspace::AGENT) {
            agent.extend(trees);
        }
    }
    let upward = order::check(&tree(Path::new(ORDERED), true)?);
    let structure = format!("{}, {}", counted(circles.len(), "circle"), counted(upward.len(), "upward edge"));
    let mut findings = [circles, upward, names::check(&agent)].concat();
    findings.extend(boundaries::check(&crates)?);
    findings.extend(abi::check()?);
    findings.extend(manifests::check(&crates)?);
    findings.extend(sources::check(&sources)?);
    for finding in &findings {
        eprintln!("{finding}");
    }
    let format = shell::run(shell::cargo().args(["fmt", "--all", "--", "--check"]));
    let words = ["clippy", "--locked", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    let clippy = shell::run(shell::cargo().args(words));
    table(&crates)?;
    eprintln!("{structure}");
    if !findings.is_empty() {
        bail!("{}, see above", counted(findings.len(), "finding"));
    }
    format.and(clippy)?;
    eprintln!("lint: {} files in {} crates, no findings", sources.len(), crates.len());
    Ok(())
}

/// The modules of each target of a crate, without what only tests see.
fn targets(one: &Crate) -> Result<Vec<Tree>> {
    one.roots.iter().map(|root| tree(root, false)).collect()
}

fn tree(root: &Path, tests: bool) -> Result<Tree> {
    Tree::read(root, tests, &|path| std::fs::read_to_string(path).ok())
}

fn text(sources: &[Source], path: &Path) -> String {
    sources.iter().find(|source| source.path == path).map(|source| source.text.clone()).unwrap_or_default()
}

/// One line for each crate: its size, and the crates of the workspace that it is built from.
fn table(crates: &[Crate]) -> Result<()> {
    eprintln!("{:<20} {:>6}  depends on", "crate", "lines");
    for one in crates {
        let lines = workspace::lines(&one.sources()?);
        eprintln!("{:<20} {lines:>6}  {}", one.name, one.dependencies.join(", "));
    }
    Ok(())
}
