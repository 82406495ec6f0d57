//! One table: each kernel, its tests, what it has.

use crate::guest::Outcome;
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::fmt;

/// With fewer kernels the run says nothing about "every kernel".
const ENOUGH: usize = 4;
/// What some kernel must show: nothing else proves it, since this machine's own may lack it.
const PROVEN_HERE: [&str; 3] = ["GRE", "VLAN", "WireGuard"];

/// What became of one kernel.
pub(crate) struct Row {
    pub(crate) version: String,
    pub(crate) outcome: Result<Outcome>,
    pub(crate) seconds: u64,
}

/// The tests of all kernels.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// Kernels that did not run to their end, with why.
    pub(crate) broken: Vec<String>,
}

/// As cargo prints a result, so that whoever reads cargo's reads this.
impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.failed == 0 { "ok" } else { "FAILED" };
        write!(f, "test result: {word}. {} passed; {} failed; 0 ignored", self.passed, self.failed)
    }
}

/// Prints the table; an error if too few kernels ran, or if all tests ran and none showed what only they can.
pub(crate) fn summed(rows: &[Row], all_tests: bool) -> Result<Sum> {
    let mut sum = Sum::default();
    let ran: Vec<_> = rows.iter().filter_map(|row| Some((row, row.outcome.as_ref().ok()?))).collect();
    let names: BTreeSet<&String> = ran.iter().flat_map(|(_, outcome)| outcome.features.keys()).collect();
    let heads: Vec<_> = names.iter().map(|name| name.as_str()).collect();
    println!("\n{:<28} {:>14} {:>8}  {}", "kernel", "tests", "seconds", heads.join("  "));
    for (row, outcome) in &ran {
        let cell = |name: &&String| {
            let value = outcome.features.get(*name).map_or("?", String::as_str);
            format!("{value:<width$}", width = name.len())
        };
        let cells: Vec<_> = names.iter().map(cell).collect();
        let tests = format!("{} of {}", outcome.passed, outcome.passed + outcome.failed);
        println!("{:<28} {:>14} {:>8}  {}", row.version, tests, row.seconds, cells.join("  "));
        sum.passed += outcome.passed;
        sum.failed += outcome.failed;
    }
    for row in rows {
        if let Err(error) = &row.outcome {
            println!("{:<28} did not run to its end: {error:#}", row.version);
            sum.broken.push(format!("kernel {}: {error:#}", row.version));
        }
    }
    ensure!(ran.len() >= ENOUGH, "only {} kernels ran, fewer than {ENOUGH}", ran.len());
    let shown = |name: &&str| ran.iter().any(|(_, o)| o.features.get(*name).is_some_and(|has| has == "yes"));
    let unproven: Vec<_> = PROVEN_HERE.into_iter().filter(|name| all_tests && !shown(name)).collect();
    ensure!(unproven.is_empty(), "no kernel showed {}", unproven.join(", "));
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enough kernels, of which one has these.
    fn rows(features: &[&str]) -> Vec<Row> {
        let row = |names: &[&str]| Row {
            version: "6.1".to_owned(),
            outcome: Ok(Outcome {
                passed: 1,
                failed: 0,
                features: names.iter().map(|name| ((*name).to_owned(), "yes".to_owned())).collect(),
            }),
            seconds: 1,
        };
        [&[], &[], features, &[]].map(row).into()
    }

    #[test]
    fn what_no_kernel_showed_is_an_error_unless_it_was_not_asked_for() -> Result<()> {
        assert!(summed(&rows(&["VLAN", "GRE"]), true).is_err());
        summed(&rows(&["VLAN", "GRE"]), false)?;
        assert_eq!(summed(&rows(&PROVEN_HERE), true)?.passed, 4);
        Ok(())
    }
}
