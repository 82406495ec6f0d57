use harness::tally::{CallerTally, Tally};
use serde::Serialize;
use std::collections::BTreeMap;

/// What the demo came to; the object that `--json` prints.
#[derive(Serialize, Clone, Debug, Default)]
pub(crate) struct Verdict {
    /// True only if nothing was wrong.
    pub(crate) ok: bool,
    /// Requests of all acts.
    pub(crate) requests: usize,
    /// Requests that left by another link than asked.
    pub(crate) wrong: usize,
    /// Requests without a good answer, except those that were on the link when it was cut.
    pub(crate) errors: usize,
    /// Upstream connections that carried requests of several classes.
    pub(crate) shared_connections: usize,
    /// From the cut of s9 to the next good answer of a minions request.
    pub(crate) failover_ms: Option<u64>,
    /// Link of that answer.
    pub(crate) failover_link: Option<String>,
    /// Requests that were under way on s9 when it was cut.
    pub(crate) lost_in_cut: usize,
    /// Flows that the restarted agent found again, of those before.
    pub(crate) flows_before: usize,
    pub(crate) flows_kept: usize,
    pub(crate) seconds: f64,
    /// The first act by user.
    pub(crate) per_user: BTreeMap<String, User>,
    /// Every act in short.
    pub(crate) acts: Vec<Act>,
}

/// One line of the table.
#[derive(Serialize, Clone, Debug, Default)]
pub(crate) struct User {
    pub(crate) asked: String,
    pub(crate) links: BTreeMap<String, usize>,
    pub(crate) wrong: usize,
    pub(crate) errors: usize,
}

/// One act in short.
#[derive(Serialize, Clone, Debug, Default)]
pub(crate) struct Act {
    pub(crate) name: &'static str,
    pub(crate) requests: usize,
    pub(crate) wrong: usize,
    pub(crate) errors: usize,
}

impl Verdict {
    /// Adds an act; `lost` of its errors are the cut's own.
    pub(crate) fn add(&mut self, name: &'static str, tally: &Tally, lost: usize) {
        let errors = tally.errors - lost;
        self.requests += tally.requests;
        self.wrong += tally.wrong + tally.leaked;
        self.errors += errors;
        self.shared_connections += tally.shared;
        self.lost_in_cut += lost;
        self.acts.push(Act { name, requests: tally.requests, wrong: tally.wrong, errors });
    }

    /// Notes the lines of the table.
    pub(crate) fn users(&mut self, callers: &[CallerTally]) {
        self.per_user = callers
            .iter()
            .map(|caller| {
                let user = User {
                    asked: caller.asked.clone(),
                    links: caller.links.clone(),
                    wrong: caller.wrong,
                    errors: caller.errors,
                };
                (caller.name.clone(), user)
            })
            .collect();
    }

    /// Decides.
    pub(crate) fn close(&mut self, seconds: f64) {
        self.seconds = seconds;
        self.ok = self.wrong + self.errors + self.shared_connections == 0
            && self.failover_ms.is_some()
            && self.flows_kept == self.flows_before;
    }
}
