//! The agent's modules form one list; each uses only those above it.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

const SOURCES: &str = "clovisor-agent/src";

/// The list, from `lib.rs`.
pub(crate) fn modules() -> Result<Vec<String>> {
    let text = std::fs::read_to_string(format!("{SOURCES}/lib.rs")).context("read the agent's lib.rs")?;
    Ok(listed(&text))
}

fn listed(lib: &str) -> Vec<String> {
    let names = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    names.map(str::to_owned).collect()
}

/// Every use of a module from one above it.
pub(crate) fn check() -> Result<Vec<String>> {
    let modules = modules()?;
    let mut findings = Vec::new();
    for (rank, module) in modules.iter().enumerate() {
        let mut files = Vec::new();
        super::collect(&Path::new(SOURCES).join(module), &mut files).ok();
        let own = PathBuf::from(format!("{SOURCES}/{module}.rs"));
        files.push((own.clone(), std::fs::read_to_string(&own).with_context(|| own.display().to_string())?));
        for (path, text) in files {
            findings.extend(upward(&path, &text, &modules, rank));
        }
    }
    Ok(findings)
}

fn upward(path: &Path, text: &str, modules: &[String], rank: usize) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
        for name in used(line) {
            let other = modules.iter().position(|module| *module == name);
            if let Some(other) = other.filter(|other| *other > rank) {
                findings.push(format!(
                    "{}:{}: module {} (place {rank}) uses {name} (place {other}), which lies below it; move the \
                     code down or the type up",
                    path.display(),
                    number + 1,
                    modules.get(rank).map_or("?", String::as_str),
                ));
            }
        }
    }
    findings
}

/// The names that directly follow `crate::`, also in a group.
fn used(line: &str) -> Vec<String> {
    let name = |text: &str| {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        text.get(..end).unwrap_or_default().to_owned()
    };
    let mut names = Vec::new();
    for rest in line.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => names.push(name(rest)),
            Some(group) => names.extend(top_level(group).into_iter().map(|part| name(part.trim()))),
        }
    }
    names
}

/// The parts of a group at its own depth.
fn top_level(group: &str) -> Vec<String> {
    let (mut depth, mut parts, mut part) = (0, Vec::new(), String::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => parts.push(std::mem::take(&mut part)),
            _ => {}
        }
        part.push(c);
    }
    parts.push(part);
    parts.iter().map(|part| part.trim_start_matches([',', ' ']).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_of_a_lower_module_is_found() {
        let modules = ["config", "policy", "kernel", "app"].map(str::to_owned);
        let check = |line: &str| upward(Path::new("f.rs"), line, &modules, 1).len();
        assert_eq!(check("use crate::config::X;"), 0);
        assert_eq!(check("use crate::policy::{kernel, app};"), 0);
        assert_eq!(check("use crate::kernel::X;"), 1);
        assert_eq!(check("    let x = crate::app::y();"), 1);
        assert_eq!(check("use crate::{config, kernel::{a, b}, app};"), 2);
        assert_eq!(check("// crate::app"), 0);
        assert_eq!(listed("/// x\npub mod a;\n\npub mod b;\n"), ["a", "b"]);
    }
}
