//! `cargo xtask gen`: files that follow from the code.

use crate::modules::Tree;
use crate::{charts, shell};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

const BEGIN: &str = "<!-- modules: written by cargo xtask gen -->";
const END: &str = "<!-- /modules -->";

/// Writes the files, or compares them.
pub(crate) fn run(check: bool) -> Result<()> {
    let mut stale = Vec::new();
    let crds = crds()?;
    let mut files = charts::templates(&crds)?;
    files.extend([("deploy/crd/clovisor.yaml".to_owned(), crds), ("README.md".to_owned(), readme()?)]);
    for (path, content) in files {
        if fs::read_to_string(&path).is_ok_and(|old| old == content) {
            continue;
        }
        if !check {
            if let Some(folder) = Path::new(&path).parent() {
                fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
            }
            fs::write(&path, content).with_context(|| format!("write {path}"))?;
            eprintln!("written: {path}");
        }
        stale.push(path);
    }
    if check && !stale.is_empty() {
        bail!("not up to date: {}; run `cargo xtask gen` and commit the result", stale.join(", "));
    }
    Ok(())
}

fn crds() -> Result<String> {
    let words =
        ["run", "--quiet", "--locked", "--package", "clovisor-agent", "--bin", "clovisorctl", "--", "crds"];
    let text = shell::output(shell::cargo().args(words))?;
    Ok(format!("# Written by `cargo xtask gen` from clovisor-agent/src/cluster; do not edit.\n{text}"))
}

fn readme() -> Result<String> {
    let text = fs::read_to_string("README.md").context("read README.md")?;
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("README.md has no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("README.md has no line {END}"))?;
    Ok(format!("{before}{BEGIN}\n{}{END}{after}", table()?))
}

/// One row per module of the agent, from its `//!` lines.
fn table() -> Result<String> {
    let lib = Path::new("clovisor-agent/src/lib.rs");
    let tree = Tree::read(lib, false, &|path| fs::read_to_string(path).ok())?;
    let mut table = "| module | what | in, out, owns, never |\n|---|---|---|\n".to_owned();
    for name in tree.declared() {
        let path = format!("clovisor-agent/src/{name}.rs");
        let source = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let (what, rest) = describe(&source);
        table.push_str(&format!("| `{name}` | {what} | {rest} |\n"));
    }
    Ok(table)
}

/// The first paragraph of the module's documentation, and the rest in one line.
fn describe(source: &str) -> (String, String) {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let text = lines.collect::<Vec<_>>().join("\n");
    let (first, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    let line = |text: &str| text.replace('\n', " ").replace('|', "\\|").replace("[`", "`").replace("`]", "`");
    (line(first), line(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_describes_itself() {
        let source = "//! What it is.\n//!\n//! **In**: a.\n//! **Out**: [`b`].\n\nuse x;\n";
        assert_eq!(describe(source), ("What it is.".into(), "**In**: a. **Out**: `b`.".into()));
    }
}
