//! `cargo xtask bench`: what steering costs.

use crate::{demo, shell};
use anyhow::{Result, ensure};
use serde_json::Value;

/// Builds and runs it as root, ahead of what else the machine does.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    shell::require_root("the bench (network namespaces and BPF)")?;
    demo::build()?;
    shell::present(shell::as_root("nice").args(["-n", "-20", "target/debug/clovisor-bench"]).args(arguments))
}

/// One short round: every way works and every figure is there.
pub(crate) fn check() -> Result<()> {
    demo::build()?;
    let words = ["-n", "-20", "target/debug/clovisor-bench", "--rounds", "2", "--json"];
    let text = shell::output(shell::as_root("nice").args(words))?;
    let report: Value = serde_json::from_str(&text)?;
    for (list, figure) in [("ratios", "ratio"), ("times", "ns"), ("memory", "bytes")] {
        let lines = report[list].as_array().map(Vec::as_slice).unwrap_or_default();
        ensure!(!lines.is_empty(), "no {list} in the report");
        let wrong = lines.iter().find(|line| !line[figure].is_number());
        ensure!(wrong.is_none(), "{wrong:?} has no {figure}");
    }
    Ok(())
}
