//! The table of crates in the agent's code map.

use super::markers;
use crate::workspace::{self, Crate};
use anyhow::{Context, Result};

pub(super) const FILE: &str = "clovisor-agent/README.md";
const PART: &str = "crates";

/// The code map with its table.
pub(super) fn code_map() -> Result<String> {
    let text = std::fs::read_to_string(FILE).with_context(|| format!("read {FILE}"))?;
    markers::filled(&text, PART, &table(&workspace::crates()?)).with_context(|| FILE)
}

fn table(crates: &[Crate]) -> String {
    let mut table = "| crate | what | built from |\n|---|---|---|\n".to_owned();
    for one in crates {
        let link = format!("[`{}`](../{})", one.name, one.folder.display());
        let needed: Vec<_> = one.dependencies.iter().map(|name| format!("`{name}`")).collect();
        table += &format!("| {link} | {} | {} |\n", one.description, needed.join(", "));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_a_crate_is_and_needs() {
        let one = Crate {
            name: "a".into(),
            description: "What it is".into(),
            folder: "x/a".into(),
            roots: Vec::new(),
            dependencies: vec!["b".into()],
        };
        let table = table(&[one]);
        assert!(table.ends_with("| [`a`](../x/a) | What it is | `b` |\n"), "{table}");
    }
}
