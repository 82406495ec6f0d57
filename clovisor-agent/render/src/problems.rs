//! Problems as documents of the API.

use super::api;
use clovisor_objects::problem::Problem;

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
        reason: problem.reason.name().into(),
        kind: problem.subject.kind().into(),
        object: problem.subject.name(),
        field: problem.field.to_string(),
        message: problem.message.clone(),
    }
}
