//! What a crate must not depend on, however far down: the compiler then keeps it from being used.

use crate::shell;
use crate::workspace::Crate;
use anyhow::Result;

/// Crate, and the packages that must not be among its dependencies.
const FORBIDDEN: [(&str, &[&str]); 5] = [
    ("clovisor-objects", &["tokio", "aya", "kube-client"]),
    ("clovisor-policy", &["tokio", "aya", "kube-client"]),
    ("clovisor-render", &["tokio", "aya", "kube-client"]),
    ("clovisor-datapath", &["clovisor-objects", "clovisor-policy"]),
    ("clovisor-ctl", &["aya"]),
];

/// Every forbidden dependency, and every crate of the table that does not exist; with the features that the crate alone asks for.
pub(super) fn check(crates: &[Crate]) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for (name, forbidden) in FORBIDDEN {
        if crates.iter().any(|one| one.name == name) {
            let words = ["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"];
            let tree = shell::output(shell::cargo().args(words).args(["--package", name]))?;
            findings.extend(found(name, forbidden, &tree));
        } else {
            findings.push(format!("Cargo.toml: no crate {name}, which xtask/src/lint/boundaries.rs guards"));
        }
    }
    Ok(findings)
}

fn found(name: &str, forbidden: &[&str], tree: &str) -> Vec<String> {
    let has = |package: &str| tree.lines().any(|line| line.split(' ').next() == Some(package));
    let packages = forbidden.iter().filter(|package| has(package));
    packages
        .map(|package| {
            format!("{name} depends on {package}; `cargo tree --package {name} --invert {package}` shows through what")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_dependency_is_found() {
        let tree = "clovisor-ctl v0.1.0 (/x)\nserde v1.0.0\naya-obj v0.2.0\n";
        assert!(found("clovisor-ctl", &["aya"], tree).is_empty());
        let tree = format!("{tree}aya v0.14.0\n");
        assert_eq!(found("clovisor-ctl", &["aya", "tokio"], &tree).len(), 1);
    }
}
