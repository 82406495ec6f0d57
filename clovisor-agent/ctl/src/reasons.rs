//! The reasons of problems as a table, for the README.

use clovisor_objects::reason::ProblemReason;

/// One row of Markdown for each reason.
pub(super) fn table() -> String {
    let rows = ProblemReason::ALL.iter().map(|reason| format!("| `{reason}` | {} |\n", reason.doc()));
    format!("| reason | meaning |\n|---|---|\n{}", rows.collect::<String>())
}
