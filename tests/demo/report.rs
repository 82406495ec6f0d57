//! The result of the demo.

use harness::summary::{CallerSummary, Summary};
use serde::Serialize;
use std::collections::BTreeMap;

/// The result of the demo; the object that `--json` prints.
#[derive(Serialize, Clone, Debug, Default)]
pub(crate) struct Report {
    /// Every request took the right link and got a good answer, and every flow was kept.
    pub(crate) ok: bool,
    /// Requests of all phases.
    pub(crate) requests: usize,
    /// Requests that arrived by another link than their mapping names.
    pub(crate) wrong: usize,
    /// Requests without a good answer, except those in flight on the link that was cut.
    pub(crate) errors: usize,
    /// Upstream connections that carried requests of several classes.
    pub(crate) shared_connections: usize,
    /// Time from the cut of s9 to the next good answer to a request of minions.
    pub(crate) failover_ms: Option<u64>,
    /// Link of that answer.
    pub(crate) failover_link: Option<String>,
    /// Requests in flight on s9 when it was cut.
    pub(crate) lost_in_cut: usize,
    /// Flows before the agent was killed, and how many of them the restarted agent still had.
    pub(crate) flows_before: usize,
    pub(crate) flows_kept: usize,
    pub(crate) seconds: f64,
    /// The first phase, by user.
    pub(crate) per_user: BTreeMap<String, User>,
    /// Every phase.
    pub(crate) phases: Vec<Phase>,
}

/// One row of the table.
#[derive(Serialize, Clone, Debug, Default)]
pub(crate) struct User {
    pub(crate) asked: String,
    pub(crate) links: BTreeMap<String, usize>,
    pub(crate) wrong: usize,
    pub(crate) errors: usize,
}

/// Counts of one phase.
#[derive(Serialize, Clone, Debug, Default)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) requests: usize,
    pub(crate) wrong: usize,
    pub(crate) errors: usize,
}

impl Report {
    /// Adds a phase. `lost` of its errors are requests in flight on the link that was cut.
    pub(crate) fn add(&mut self, name: &'static str, summary: &Summary, lost: usize) {
        let errors = summary.errors - lost;
        self.requests += summary.requests;
        self.wrong += summary.wrong + summary.leaked;
        self.errors += errors;
        self.shared_connections += summary.shared;
        self.lost_in_cut += lost;
        self.phases.push(Phase { name, requests: summary.requests, wrong: summary.wrong, errors });
    }

    /// Sets the rows of the table.
    pub(crate) fn users(&mut self, callers: &[CallerSummary]) {
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

    /// Sets the duration, and `ok` from the counts.
    pub(crate) fn close(&mut self, seconds: f64) {
        self.seconds = seconds;
        self.ok = self.wrong + self.errors + self.shared_connections == 0
            && self.failover_ms.is_some()
            && self.flows_kept == self.flows_before;
    }
}
