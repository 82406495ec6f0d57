//! Events of the API server to consistent snapshots; pure.

use clovisor_objects::identity::{Identity, ObjectKey, ObjectKind};
use clovisor_objects::last_good::LastGood;
use clovisor_objects::object::{Object, insert};
use clovisor_objects::problem::{Problem, Subject};
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::Refusal;
use clovisor_objects::snapshot::Snapshot;
use std::collections::BTreeMap;
use tokio::time::Instant;

mod doubt;

use doubt::ListDoubt;

/// An object as the server sent it.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub(super) identity: Identity,
    pub(super) decoded: Result<Object, Refusal>,
}

/// One event of the watch on a kind.
#[derive(Clone, Debug)]
pub(super) enum KindEvent {
    /// A list begins: objects that it does not name are gone at its end.
    ListBegins,
    Listed(Raw),
    ListEnds,
    Changed(Raw),
    Deleted(ObjectKey),
    /// The server does not know the kind.
    Absent,
    /// The kind cannot be read now.
    Failed(String),
    /// A watch broke and resumes; the failure is over at this time unless the watch breaks again.
    Interrupted(String, Instant),
}

/// The objects of one kind.
#[derive(Clone, Debug, Default)]
struct KindState {
    objects: LastGood<ObjectKey, Object>,
    /// A list under way.
    fresh: Option<LastGood<ObjectKey, Object>>,
    /// Listed once, or known to be absent.
    known: bool,
    failure: Option<String>,
    /// When a failure that is not repeated is over.
    over: Option<Instant>,
    doubt: Option<ListDoubt>,
}

/// The objects so far, by kind.
#[derive(Clone, Debug)]
pub(super) struct Store {
    kinds: BTreeMap<ObjectKind, KindState>,
    /// Of an agent.
    node: Option<String>,
}

impl Store {
    /// No events of these kinds yet.
    pub(super) fn new(kinds: impl IntoIterator<Item = ObjectKind>) -> Self {
        Self { kinds: kinds.into_iter().map(|kind| (kind, KindState::default())).collect(), node: None }
    }

    /// For the agent of this node.
    pub(super) fn on_node(self, name: &str) -> Self {
        Self { node: Some(name.to_owned()), ..self }
    }

    /// Objects of an earlier process: a first list is compared with them.
    pub(super) fn seed(&mut self, objects: Vec<(Identity, Object)>) {
        for (Identity { kind, key }, object) in objects {
            if let Some(kind) = self.kinds.get_mut(&kind) {
                kind.objects.update(key, Ok(object));
            }
        }
    }

    /// Takes in one event.
    pub(super) fn apply(&mut self, kind: ObjectKind, event: KindEvent, now: Instant) {
        let kind = self.kinds.entry(kind).or_default();
        match event {
            KindEvent::ListBegins => kind.fresh = Some(LastGood::default()),
            KindEvent::Listed(raw) => {
                let fresh = kind.fresh.get_or_insert_default();
                fresh.list(&kind.objects, raw.identity.key.clone(), version(raw));
            }
            KindEvent::ListEnds => {
                let list = kind.fresh.take().unwrap_or_default();
                kind.replace(list, now);
            }
            KindEvent::Changed(raw) => {
                kind.settle(&raw.identity.key);
                kind.objects.update(raw.identity.key.clone(), version(raw));
                (kind.failure, kind.over) = (None, None);
            }
            KindEvent::Deleted(key) => {
                kind.settle(&key);
                kind.objects.remove(&key);
            }
            KindEvent::Absent => {
                kind.fresh = None;
                kind.replace(LastGood::default(), now);
            }
            KindEvent::Failed(reason) => {
                kind.fresh = None;
                (kind.failure, kind.over) = (Some(reason), None);
            }
            KindEvent::Interrupted(reason, over) => (kind.failure, kind.over) = (Some(reason), Some(over)),
        }
    }

    /// Kinds that were never listed completely: without them no snapshot is consistent.
    pub(super) fn missing(&self) -> Vec<ObjectKind> {
        self.kinds.iter().filter(|(_, kind)| !kind.known).map(|(name, _)| *name).collect()
    }

    /// Forgets failures that were not repeated.
    pub(super) fn expire(&mut self, now: Instant) {
        for kind in self.kinds.values_mut() {
            if kind.over.is_some_and(|over| over <= now) {
                (kind.failure, kind.over) = (None, None);
            }
        }
    }

    /// When the next failure is over, if it is not repeated.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.kinds.values().filter_map(|kind| kind.over).min()
    }

    /// When the next list has to be confirmed by another one.
    pub(super) fn next_confirmation(&self) -> Option<Instant> {
        self.kinds.values().filter_map(|kind| kind.doubt.as_ref()?.due()).min()
    }

    /// The kinds of which another list is due, each once.
    pub(super) fn confirmations_due(&mut self, now: Instant) -> Vec<ObjectKind> {
        let due = |kind: &mut KindState| kind.doubt.as_mut().is_some_and(|doubt| doubt.ask(now));
        self.kinds.iter_mut().filter_map(|(name, kind)| due(kind).then_some(*name)).collect()
    }

    /// Why kinds cannot be read now.
    pub(super) fn failures(&self) -> impl Iterator<Item = (ObjectKind, &str)> {
        self.kinds.iter().filter_map(|(name, kind)| Some((*name, kind.failure.as_deref()?)))
    }

    /// The kinds that cannot be read now, for people.
    pub(super) fn unreadable(&self) -> Vec<Problem> {
        self.failures().map(|(kind, reason)| unreadable(kind, reason)).collect()
    }

    /// The snapshot of now; none while a kind is missing.
    pub(super) fn snapshot(&self) -> Option<Snapshot> {
        if !self.missing().is_empty() {
            return None;
        }
        let mut snapshot = Snapshot { this_node: self.node.clone(), ..Snapshot::default() };
        for (name, kind) in &self.kinds {
            for (key, object) in kind.objects.values() {
                insert(&mut snapshot, &identity(*name, key), object);
            }
            snapshot.problems.extend(kind.objects.problems().cloned());
            snapshot.problems.extend(kind.doubt.as_ref().map(|doubt| doubt.problem(*name)));
        }
        snapshot.problems.extend(self.unreadable());
        snapshot.problems.sort();
        Some(snapshot)
    }

    /// Every object in force.
    pub(super) fn objects(&self) -> Vec<(Identity, Object)> {
        let mut objects = Vec::new();
        for (name, kind) in &self.kinds {
            objects.extend(kind.objects.values().map(|(key, object)| (identity(*name, key), object.clone())));
        }
        objects
    }
}

impl KindState {
    /// Takes a complete list for the objects; what a doubtful one lacks stays.
    fn replace(&mut self, mut list: LastGood<ObjectKey, Object>, now: Instant) {
        self.doubt = ListDoubt::about(self.doubt.take(), &self.objects, &list, now);
        if self.doubt.is_some() {
            list.keep_absent(&self.objects);
        }
        self.objects = list;
        (self.known, self.failure, self.over) = (true, None, None);
    }

    /// The server has said what became of an object.
    fn settle(&mut self, key: &ObjectKey) {
        self.doubt = self.doubt.take().and_then(|doubt| doubt.without(key));
    }
}

fn identity(kind: ObjectKind, key: &ObjectKey) -> Identity {
    Identity { kind, key: key.clone() }
}

fn version(raw: Raw) -> Result<Object, Problem> {
    raw.decoded.map_err(|refusal| Problem::new(Subject::Object(raw.identity), refusal))
}

fn unreadable(kind: ObjectKind, reason: &str) -> Problem {
    let message = format!("{reason}; what was known of them stays in force");
    Problem::whole(ProblemReason::Unreadable, Subject::AllOf(kind), message)
}

#[cfg(test)]
mod tests;
