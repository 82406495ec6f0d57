//! Observations to a verdict; pure.

use crate::load::{Caller, Exchange};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What a run came to.
#[derive(Serialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub requests: usize,
    /// Answered requests that arrived by another link than asked.
    pub wrong: usize,
    /// Requests without a good answer.
    pub errors: usize,
    /// Upstream connections in all.
    pub connections: usize,
    /// Upstream connections that carried requests of several groups.
    pub shared: usize,
    /// Connections whose SYN carried a DSCP on the wire.
    pub marked: usize,
    /// Requests that reached the far end with a header of Clovisor's own.
    pub leaked: usize,
    /// In the order of the callers.
    pub callers: Vec<CallerSummary>,
    /// The first error, as an example.
    pub example: Option<String>,
}

/// One caller's part.
#[derive(Serialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerSummary {
    pub name: String,
    pub asked: String,
    pub requests: usize,
    /// Answers per link.
    pub links: BTreeMap<String, usize>,
    pub wrong: usize,
    /// Answers over connections that may stay where they are.
    pub kept: usize,
    pub errors: usize,
}

impl Summary {
    /// No wrong request, no error, no shared connection, nothing of Clovisor's on the wire.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.wrong + self.errors + self.shared + self.marked + self.leaked == 0
    }
}

/// Judges what was seen against what the callers asked for.
#[must_use]
pub fn summarize(callers: &[Caller], seen: &[Exchange]) -> Summary {
    summarize_except(callers, seen, &BTreeSet::new())
}

/// The same where some connections may stay on the link they have (`established: Stay`).
#[must_use]
pub fn summarize_except(callers: &[Caller], seen: &[Exchange], kept: &BTreeSet<String>) -> Summary {
    let mut summary = Summary { requests: seen.len(), ..Summary::default() };
    summary.callers = callers
        .iter()
        .map(|caller| CallerSummary {
            name: caller.name.clone(),
            asked: caller.link.clone(),
            ..CallerSummary::default()
        })
        .collect();
    let mut groups: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut marked = BTreeSet::new();
    for observation in seen {
        let (caller, row) = (&callers[observation.caller], &mut summary.callers[observation.caller]);
        row.requests += 1;
        let Some(observed) = observation.observed.as_ref().filter(|_| observation.error.is_none()) else {
            row.errors += 1;
            summary.example.get_or_insert_with(|| describe(caller, observation));
            continue;
        };
        *row.links.entry(observed.link.clone()).or_default() += 1;
        let stays = kept.contains(&observed.connection);
        row.wrong += usize::from(observed.link != caller.link && !stays);
        row.kept += usize::from(observed.link != caller.link && stays);
        summary.leaked += usize::from(observed.leaked.is_some());
        groups.entry(&observed.connection).or_default().insert(&caller.group);
        if observed.tos.is_some_and(|tos| tos >> 2 != 0) {
            marked.insert(&observed.connection);
        }
    }
    summary.wrong = summary.callers.iter().map(|row| row.wrong).sum();
    summary.errors = summary.callers.iter().map(|row| row.errors).sum();
    summary.connections = groups.len();
    summary.shared = groups.values().filter(|groups| groups.len() > 1).count();
    summary.marked = marked.len();
    summary
}

fn describe(caller: &Caller, seen: &Exchange) -> String {
    let status = seen.status.map_or_else(|| "no answer".to_owned(), |status| format!("status {status}"));
    let error = seen.error.as_deref().unwrap_or_default();
    format!("{} at {:.3} s: {status}: {error}", caller.name, seen.sent.as_secs_f64())
}
