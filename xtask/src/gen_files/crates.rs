//! The table of crates in the agent's code map.

use super::markers;
use crate::workspace::{self, Crate};
use anyhow::{Context, Result};

pub(super) const FILE: &str = "clovisor-agent/README.md";
const PART: &str = "crates";

/// The code map with its table. `keep`: the numbers of lines stay as they stand there, since they change with every
/// commit and a comparison should not fail for that.
pub(super) fn code_map(keep: bool) -> Result<String> {
    let text = std::fs::read_to_string(FILE).with_context(|| format!("read {FILE}"))?;
    let mut rows = Vec::new();
    for one in workspace::crates()? {
        let lines = workspace::lines(&one.sources()?);
        rows.push((one, lines));
    }
    let old = if keep { markers::present(&text, PART).with_context(|| FILE)? } else { "" };
    markers::filled(&text, PART, &table(&rows, old)).with_context(|| FILE)
}

fn table(rows: &[(Crate, usize)], old: &str) -> String {
    let mut table = "| crate | what | lines | built from |\n|---|---|---:|---|\n".to_owned();
    for (one, lines) in rows {
        let link = format!("[`{}`](../{})", one.name, one.folder.display());
        let hundreds = lines.div_ceil(100) * 100;
        let lines = written(old, &link).unwrap_or_else(|| hundreds.to_string());
        let needed: Vec<_> = one.dependencies.iter().map(|name| format!("`{name}`")).collect();
        table += &format!("| {link} | {} | {lines} | {} |\n", one.description, needed.join(", "));
    }
    table
}

/// The lines that a table gives for a crate.
fn written(table: &str, link: &str) -> Option<String> {
    let row = table.lines().find(|row| row.starts_with(&format!("| {link} |")))?;
    row.split(" | ").nth(2).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_lines_are_rounded_and_can_stay() {
        let one = Crate {
            name: "a".into(),
            description: "What it is".into(),
            folder: "x/a".into(),
            roots: Vec::new(),
            dependencies: vec!["b".into()],
        };
        let first = table(&[(one.clone(), 1234)], "");
        assert!(first.ends_with("| [`a`](../x/a) | What it is | 1300 | `b` |\n"), "{first}");
        assert_eq!(table(&[(one.clone(), 2000)], &first), first);
        assert!(table(&[(one, 2000)], "").contains("| 2000 |"));
    }
}
