//! Lists that lack much of what was there.

use clovisor_objects::identity::{ObjectKey, ObjectKind};
use clovisor_objects::last_good::LastGood;
use clovisor_objects::object::Object;
use clovisor_objects::problem::{Problem, Subject};
use clovisor_objects::reason::ProblemReason;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// A list that lacks half of what was there counts when another one after so long lacks the same: a server that is restored or
/// has lost its cache answers too, with nothing.
pub(super) const CONFIRMED_AFTER: Duration = Duration::from_secs(2);
/// Objects that a message names.
const NAMED: usize = 3;

/// A list that lacked half of the objects or more, and waits for another one.
#[derive(Clone, Debug)]
pub(super) struct ListDoubt {
    since: Instant,
    lost: BTreeSet<ObjectKey>,
    /// Objects that there were.
    known: usize,
    /// Another list is asked for.
    is_asked: bool,
}

impl ListDoubt {
    /// The doubt about `list`; none: it counts. `earlier`: about the list before.
    pub(super) fn about(
        earlier: Option<Self>,
        before: &LastGood<ObjectKey, Object>,
        list: &LastGood<ObjectKey, Object>,
        now: Instant,
    ) -> Option<Self> {
        let names: BTreeSet<_> = list.keys().collect();
        let known = before.values().count();
        let lost = before.values().map(|(key, _)| key).filter(|key| !names.contains(key));
        let lost: BTreeSet<_> = lost.cloned().collect();
        if lost.is_empty() || 2 * lost.len() < known {
            return None;
        }
        let same = earlier.filter(|earlier| lost.is_subset(&earlier.lost));
        let since = same.map_or(now, |same| same.since);
        (now < since + CONFIRMED_AFTER).then_some(Self { since, lost, known, is_asked: false })
    }

    /// When another list is due; none: it is asked for.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.is_asked).then(|| self.since + CONFIRMED_AFTER)
    }

    /// Whether another list is due now; once.
    pub(super) fn ask(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|due| due <= now);
        self.is_asked |= is_due;
        is_due
    }

    /// The doubt about the other objects, if there are any.
    pub(super) fn without(mut self, key: &ObjectKey) -> Option<Self> {
        self.lost.remove(key);
        (!self.lost.is_empty()).then_some(self)
    }

    /// What is said of it.
    pub(super) fn problem(&self, kind: ObjectKind) -> Problem {
        let names: Vec<_> = self.lost.iter().take(NAMED).map(ToString::to_string).collect();
        let more = match self.lost.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "the API server's list lacks {} of {} that there were ({}{more}); they stay in force until another list, {} s \
             later, lacks them too",
            self.lost.len(),
            self.known,
            names.join(", "),
            CONFIRMED_AFTER.as_secs()
        );
        Problem::whole(ProblemReason::Unconfirmed, Subject::AllOf(kind), message)
    }
}
