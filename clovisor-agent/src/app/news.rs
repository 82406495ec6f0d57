//! Lines of the log about what is another than before.

use clovisor_objects::change::ObjectChange;
use clovisor_objects::problem::Problem;
use std::collections::BTreeSet;

/// Lines of one change: a cluster that is installed anew does not flood the log.
const LINES: usize = 50;

/// A line for each object.
pub(super) fn objects(changes: &[ObjectChange]) {
    for change in changes.iter().take(LINES) {
        let ObjectChange { kind, object, generation, changes, .. } = change;
        let changes = (!changes.is_empty()).then_some(changes.as_str());
        tracing::info!(kind = kind.name(), object, generation, changes, "{change}");
    }
    if let Some(more) = changes.len().checked_sub(LINES).filter(|more| *more > 0) {
        tracing::info!(more, "and more objects changed at the same time");
    }
}

/// A line for each problem that is new, and for each that is gone. Every compilation finds the old ones again.
pub(super) fn problems(before: &[Problem], after: &[Problem]) {
    let (new, gone) = difference(before, after);
    for Problem { reason, subject, field, message } in new.iter().take(LINES) {
        let (kind, object) = (subject.kind(), subject.name());
        tracing::warn!(
            reason = reason.name(),
            kind,
            object,
            field = field.as_str(),
            why = message,
            "refused"
        );
    }
    for Problem { reason, subject, field, .. } in gone.iter().take(LINES) {
        let (kind, object) = (subject.kind(), subject.name());
        tracing::info!(reason = reason.name(), kind, object, field = field.as_str(), "no longer refused");
    }
    let more = new.len().saturating_sub(LINES) + gone.len().saturating_sub(LINES);
    if more > 0 {
        tracing::warn!(more, "and more problems came or went; see clovisorctl status");
    }
}

/// A line for each note that is new: an object that is not served, which no mapping is about.
pub(super) fn notes(before: &[Problem], after: &[Problem]) {
    let (new, _) = difference(before, after);
    for Problem { reason, subject, field, message } in new.iter().take(LINES) {
        let (kind, object) = (subject.kind(), subject.name());
        tracing::info!(
            reason = reason.name(),
            kind,
            object,
            field = field.as_str(),
            why = message,
            "not served; no mapping is about it"
        );
    }
    if new.len() > LINES {
        tracing::info!(more = new.len() - LINES, "and more objects are not served; see clovisorctl check");
    }
}

/// Problems that only one of the two lists has.
fn difference<'a>(before: &'a [Problem], after: &'a [Problem]) -> (Vec<&'a Problem>, Vec<&'a Problem>) {
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), after.iter().collect());
    (new.difference(&old).copied().collect(), old.difference(&new).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clovisor_objects::problem::Subject;
    use clovisor_objects::reason::ProblemReason;

    #[test]
    fn problems_that_stay_are_not_told_again() {
        let problem = |file: &str| {
            Problem::whole(ProblemReason::InvalidObject, Subject::File(file.into()), "not understood")
        };
        let (before, after) = ([problem("a"), problem("b")], [problem("b"), problem("c")]);
        let (new, gone) = difference(&before, &after);
        assert_eq!((new, gone), (vec![&after[1]], vec![&before[0]]));
    }
}
