//! Every crate inherits the workspace's lints, and every exception says why.

use crate::workspace::Crate;
use anyhow::{Context, Result};

/// Checks the manifests of these crates.
pub(super) fn check(crates: &[Crate]) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for one in crates {
        let path = one.folder.join("Cargo.toml").display().to_string();
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        findings.extend(finding(&path, &text));
    }
    Ok(findings)
}

fn finding(path: &str, manifest: &str) -> Option<String> {
    let inherits = manifest.contains("[lints]\nworkspace = true");
    (!inherits).then(|| format!("{path}: does not inherit the lints; add `[lints]` with `workspace = true`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_without_lints_is_found() {
        assert_eq!(finding("a", "[package]\n\n[lints]\nworkspace = true\n"), None);
        assert!(finding("a", "[package]\n").is_some());
    }
}
