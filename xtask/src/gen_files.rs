//! `cargo xtask gen`: files that follow from the code.

mod crates;
mod markers;

use crate::modules::Tree;
use crate::workspace;
use crate::{charts, shell};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// Writes the files, or compares them.
pub(crate) fn run(check: bool) -> Result<()> {
    let mut stale = Vec::new();
    let crds = crds()?;
    let mut files = charts::templates(&crds)?;
    files.extend([("deploy/crd/clovisor.yaml".to_owned(), crds), ("README.md".to_owned(), readme()?)]);
    let code_map = markers::filled(&crates::code_map()?, "modules", &table()?).context(crates::FILE)?;
    files.push((crates::FILE.to_owned(), code_map));
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
    let words = ["run", "--quiet", "--locked", "--package", "clovisor-ctl", "--bin", "clovisorctl", "--"];
    shell::output(shell::cargo().args(words).arg(command))
}

fn crds() -> Result<String> {
    let text = clovisorctl("crds")?;
    Ok(format!("# Written by `cargo xtask gen` from clovisor-agent/objects; do not edit.\n{text}"))
}

fn readme() -> Result<String> {
    let text = fs::read_to_string("README.md").context("read README.md")?;
    markers::filled(&text, "reasons", &clovisorctl("reasons")?).context("README.md")
}

/// One row for each library below the agent and for each module that says what goes in, from their `//!` lines; then
/// every module of the agent.
fn table() -> Result<String> {
    let mut table = "| module | what | in, out, owns, never |\n|---|---|---|\n".to_owned();
    let crates = workspace::crates()?;
    for one in crates.iter().filter(|one| one.folder.starts_with(workspace::AGENT)) {
        let Some(lib) = one.roots.iter().find(|root| root.ends_with("lib.rs")) else { continue };
        let read = |path: &Path| fs::read_to_string(path).ok();
        let own = one.folder == Path::new(workspace::AGENT);
        let mut rows = Vec::new();
        if !own {
            rows.push((one.name.clone(), read(lib).unwrap_or_default()));
        }
        for module in Tree::read(lib, false, &read)?.declared() {
            let source = read(&lib.with_file_name(format!("{module}.rs"))).unwrap_or_default();
            if own {
                rows.push((module, source));
            } else if source.contains("//! **In**") {
                rows.push((format!("{}::{module}", one.name), source));
            }
        }
        for (name, source) in rows {
            let (what, rest) = describe(&source);
            table += &format!("| `{name}` | {what} | {rest} |\n");
        }
    }
    Ok(table)
}

/// The first paragraph of the module's documentation, and the rest in one line.
fn describe(source: &str) -> (String, String) {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let text = lines.collect::<Vec<_>>().join("\n");
    let (first, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    // The contract is one paragraph; what follows is for readers of the source.
    let rest = rest.split("\n\n").next().unwrap_or_default();
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
