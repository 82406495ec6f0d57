//! Problems as documents of the API.

use super::api;
use crate::cluster::snapshot::Problem;

/// Every problem once, in order.
#[must_use]
pub fn documents<'a>(all: impl IntoIterator<Item = &'a Problem>) -> Vec<api::Problem> {
    let mut problems: Vec<_> = all.into_iter().collect();
    problems.sort();
    problems.dedup();
    problems.into_iter().map(document).collect()
}

fn document(problem: &Problem) -> api::Problem {
    api::Problem {
        reason: problem.reason.into(),
        kind: problem.kind.clone(),
        object: problem.object.clone(),
        field: problem.field.clone(),
        message: problem.message.clone(),
    }
}
