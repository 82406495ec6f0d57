//! `cargo xtask gen`: files that follow from the code.

use crate::modules::Tree;
use crate::{charts, shell};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// Name of the README's table of modules, in the lines around it.
const MODULES: &str = "modules";
/// The table of problem reasons.
const REASONS: &str = "reasons";

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

/// What a command of the tool prints.
fn clovisorctl(command: &str) -> Result<String> {
    let words = ["run", "--quiet", "--locked", "--package", "clovisor-agent", "--bin", "clovisorctl", "--"];
    shell::output(shell::cargo().args(words).arg(command))
}

fn crds() -> Result<String> {
    let text = clovisorctl("crds")?;
    Ok(format!("# Written by `cargo xtask gen` from clovisor-agent/src/cluster; do not edit.\n{text}"))
}

fn readme() -> Result<String> {
    let text = fs::read_to_string("README.md").context("read README.md")?;
    let text = replace(&text, MODULES, &table()?)?;
    replace(&text, REASONS, &clovisorctl("reasons")?)
}

/// The text with `content` between the lines that mark `name`.
fn replace(text: &str, name: &str, content: &str) -> Result<String> {
    let begin = format!("<!-- {name}: written by cargo xtask gen -->");
    let end = format!("<!-- /{name} -->");
    let (before, rest) = text.split_once(&begin).with_context(|| format!("README.md has no line {begin}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("README.md has no line {end}"))?;
    Ok(format!("{before}{begin}\n{content}{end}{after}"))
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
    fn a_table_is_replaced_between_its_marks() -> Result<()> {
        let text = "a\n<!-- x: written by cargo xtask gen -->\nold\n<!-- /x -->\nb\n";
        assert_eq!(replace(text, "x", "new\n")?, text.replace("old", "new"));
        assert!(replace(text, "y", "").is_err());
        Ok(())
    }

    #[test]
    fn a_module_describes_itself() {
        let source = "//! What it is.\n//!\n//! **In**: a.\n//! **Out**: [`b`].\n\nuse x;\n";
        assert_eq!(describe(source), ("What it is.".into(), "**In**: a. **Out**: `b`.".into()));
    }
}
