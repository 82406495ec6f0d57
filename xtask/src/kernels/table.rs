//! One table: each kernel, its tests, what it has.

use super::guest::Outcome;
use crate::test;
use anyhow::{Result, ensure};

/// With fewer kernels the run says nothing about "every kernel".
const ENOUGH: usize = 4;

/// What became of one kernel.
pub(super) struct Row {
    pub(super) version: String,
    pub(super) outcome: Result<Outcome>,
    pub(super) seconds: u64,
}

/// Prints the table; an error if too few kernels ran.
pub(super) fn summed(rows: &[Row]) -> Result<test::Count> {
    let mut count = test::Count::default();
    let ran: Vec<_> = rows.iter().filter_map(|row| Some((row, row.outcome.as_ref().ok()?))).collect();
    let names: Vec<_> = ran.first().map(|(_, o)| o.features.keys().cloned().collect()).unwrap_or_default();
    println!("\n{:<28} {:>14} {:>8}  {}", "kernel", "tests", "seconds", names.join("  "));
    for (row, outcome) in &ran {
        let cell = |name: &String| {
            let value = outcome.features.get(name).map_or("?", String::as_str);
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
    Ok(count)
}
