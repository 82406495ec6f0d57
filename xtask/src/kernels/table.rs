//! One table: each kernel, its tests, what it has.

use super::guest::Outcome;
use crate::count::Count;
use anyhow::{Result, ensure};
use std::collections::BTreeSet;

/// With fewer kernels the run says nothing about "every kernel".
const ENOUGH: usize = 4;
/// What some kernel must show: nothing else proves it, since this machine's own may lack it.
const PROVEN_HERE: [&str; 3] = ["GRE", "VLAN", "WireGuard"];

/// What became of one kernel.
pub(super) struct Row {
    pub(super) version: String,
    pub(super) outcome: Result<Outcome>,
    pub(super) seconds: u64,
}

/// Prints the table; an error if too few kernels ran, or if all tests ran and none showed what only they can.
pub(super) fn summed(rows: &[Row], all_tests: bool) -> Result<Count> {
    let mut count = Count::default();
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
        count.passed += outcome.passed;
        count.failed += outcome.failed;
    }
    for row in rows {
        if let Err(error) = &row.outcome {
            println!("{:<28} did not run to its end: {error:#}", row.version);
            count.broken.push(format!("kernel {}: {error:#}", row.version));
        }
    }
    ensure!(ran.len() >= ENOUGH, "only {} kernels ran, fewer than {ENOUGH}", ran.len());
    let shown = |name: &&str| ran.iter().any(|(_, o)| o.features.get(*name).is_some_and(|has| has == "yes"));
    let unproven: Vec<_> = PROVEN_HERE.into_iter().filter(|name| all_tests && !shown(name)).collect();
    ensure!(unproven.is_empty(), "no kernel showed {}", unproven.join(", "));
    Ok(count)
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
