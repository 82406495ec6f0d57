//! Sizes and names of files; for the programs of the kernel also lengths of functions and reasons of exceptions.

use crate::workspace::Source;
use anyhow::Result;
use std::path::Path;

const FILE_LINES: usize = 400;
const MEDIAN_LINES: usize = 120;
const FUNCTION_LINES: usize = 60;
const PROGRAMS: &str = "clovisor-ebpf";

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "helper", "helpers", "common", "types", "misc", "mod"];

/// Every finding in these files.
pub(super) fn check(files: &[Source]) -> Result<Vec<String>> {
    let mut findings: Vec<_> = files.iter().flat_map(|source| file(&source.path, &source.text)).collect();
    let mut sizes: Vec<_> = files.iter().map(|source| source.text.lines().count()).collect();
    sizes.sort_unstable();
    let median = sizes.get(sizes.len() / 2).copied().unwrap_or(0);
    if median > MEDIAN_LINES {
        findings.push(format!("the median file has {median} lines, more than {MEDIAN_LINES}; split some"));
    }
    Ok(findings)
}

fn file(path: &Path, text: &str) -> Vec<String> {
    let shown = path.display();
    let mut findings = Vec::new();
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    if EMPTY_NAMES.contains(&&*name) {
        findings.push(format!("{shown}: `{name}` does not say what is inside; name it after that"));
    }
    let lines = text.lines().count();
    if lines > FILE_LINES {
        findings.push(format!("{shown}: {lines} lines, more than {FILE_LINES}; split it"));
    }
    // Clippy checks these two in every other crate, but never compiles the programs for the kernel.
    let is_program = path.starts_with(PROGRAMS);
    if is_program {
        findings.extend(functions(path, text));
    }
    let code = text.lines().enumerate().map(|(i, line)| (i + 1, line.split("//").next().unwrap_or_default()));
    for (number, line) in code {
        let exception = is_program
            && ["#[allow(", "#[expect(", "#![allow(", "#![expect("]
                .iter()
                .any(|a| line.trim_start().starts_with(a));
        if exception && !text.lines().skip(number - 1).take(5).any(|line| line.contains("reason")) {
            findings.push(format!("{shown}:{number}: an exception without `reason = \"…\"`"));
        }
    }
    findings
}

/// Functions that are too long, in code as rustfmt lays it out.
fn functions(path: &Path, text: &str) -> Vec<String> {
    let lines: Vec<_> = text.lines().collect();
    let mut findings = Vec::new();
    for (start, line) in lines.iter().enumerate().filter(|(_, line)| begins_function(line)) {
        let indent = line.len() - line.trim_start().len();
        let closing = format!("{}}}", " ".repeat(indent));
        let Some(length) = lines.iter().skip(start).position(|line| *line == closing).map(|n| n + 1) else {
            continue;
        };
        if length > FUNCTION_LINES && !line.trim_end().ends_with(';') {
            let place = path.display();
            findings.push(format!(
                "{place}:{}: a function of {length} lines, more than {FUNCTION_LINES}; split it",
                start + 1
            ));
        }
    }
    findings
}

fn begins_function(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let mut word = words.next().unwrap_or_default();
    while word.starts_with("pub") || ["const", "async", "unsafe", "extern", "\"C\""].contains(&word) {
        word = words.next().unwrap_or_default();
    }
    word == "fn"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        file(Path::new(path), text).len()
    }

    #[test]
    fn each_rule_finds_its_violation() {
        assert_eq!(findings("a/src/good.rs", "fn a() {\n}\n"), 0);
        assert_eq!(findings("a/src/util.rs", ""), 1);
        assert_eq!(findings("a/src/long.rs", &"x\n".repeat(401)), 1);
        let long = format!("pub(crate) async fn a() {{\n{}}}\n", "    x;\n".repeat(60));
        assert_eq!(findings("clovisor-ebpf/src/f.rs", &long), 1);
        assert_eq!(findings("clovisor-ebpf/src/e.rs", "#[allow(dead_code)]\nx\n"), 1);
        assert_eq!(findings("clovisor-ebpf/src/e.rs", "#[allow(dead_code, reason = \"y\")]\n"), 0);
    }
}
