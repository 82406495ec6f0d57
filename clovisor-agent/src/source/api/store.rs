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

    /// Takes in one event.
    pub(super) fn apply(&mut self, kind: ObjectKind, event: KindEvent) {
        let kind = self.kinds.entry(kind).or_default();
        match event {
            KindEvent::ListBegins => kind.fresh = Some(LastGood::default()),
            KindEvent::Listed(raw) => {
                let fresh = kind.fresh.get_or_insert_default();
                fresh.list(&kind.objects, raw.identity.key.clone(), version(raw));
            }
            KindEvent::ListEnds => {
                kind.objects = kind.fresh.take().unwrap_or_default();
                (kind.known, kind.failure, kind.over) = (true, None, None);
            }
            KindEvent::Changed(raw) => {
                kind.objects.update(raw.identity.key.clone(), version(raw));
                (kind.failure, kind.over) = (None, None);
            }
            KindEvent::Deleted(key) => kind.objects.remove(&key),
            KindEvent::Absent => *kind = KindState { known: true, ..KindState::default() },
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
mod tests {
    use super::*;
    use clovisor_objects::pod::PodObject;
    use std::sync::Arc;

    fn raw(name: &str, uid: Option<u32>) -> Raw {
        let key = ObjectKey { namespace: "shop".into(), name: name.into() };
        let pod = |proxy_uid| Object::Pod(Arc::new(PodObject { proxy_uid, ..PodObject::default() }));
        let bad = Refusal::invalid_object("status.podIP", "is no address");
        Raw { identity: Identity { kind: ObjectKind::Pod, key }, decoded: uid.map(pod).ok_or(bad) }
    }

    fn pods(store: &Store) -> Option<Vec<(String, u32)>> {
        let snapshot = store.snapshot()?;
        Some(snapshot.pods.iter().map(|(key, pod)| (key.name.clone(), pod.proxy_uid)).collect())
    }

    fn apply(store: &mut Store, events: impl IntoIterator<Item = KindEvent>) {
        events.into_iter().for_each(|event| store.apply(ObjectKind::Pod, event));
    }

    #[test]
    fn no_snapshot_before_every_kind_was_listed() {
        let mut store = Store::new([ObjectKind::Pod, ObjectKind::WanLink]);
        apply(&mut store, [KindEvent::ListBegins, KindEvent::Listed(raw("a", Some(1))), KindEvent::ListEnds]);
        assert_eq!((pods(&store), store.missing()), (None, vec![ObjectKind::WanLink]));
        store.apply(ObjectKind::WanLink, KindEvent::Failed("forbidden".into()));
        assert_eq!(pods(&store), None);
        store.apply(ObjectKind::WanLink, KindEvent::Absent);
        assert_eq!(pods(&store), Some(vec![("a".into(), 1)]));
    }

    #[test]
    fn a_new_list_deletes_nothing_until_it_is_complete() {
        let mut store = Store::new([ObjectKind::Pod]);
        let both = [KindEvent::Listed(raw("a", Some(1))), KindEvent::Listed(raw("b", Some(1)))];
        apply(&mut store, [KindEvent::ListBegins]);
        apply(&mut store, both);
        apply(&mut store, [KindEvent::ListEnds, KindEvent::ListBegins, KindEvent::Listed(raw("a", Some(2)))]);
        assert_eq!(pods(&store), Some(vec![("a".into(), 1), ("b".into(), 1)]));
        apply(&mut store, [KindEvent::Failed("cut".into())]);
        assert_eq!(pods(&store).map(|p| p.len()), Some(2));
        assert_eq!(store.snapshot().map(|s| s.problems.len()), Some(1));
        apply(&mut store, [KindEvent::ListBegins, KindEvent::Listed(raw("a", Some(2))), KindEvent::ListEnds]);
        assert_eq!(pods(&store), Some(vec![("a".into(), 2)]));
        assert_eq!(store.snapshot().map(|s| s.problems.len()), Some(0));
    }

    #[test]
    fn a_bad_object_keeps_its_last_good_state() {
        let mut store = Store::new([ObjectKind::Pod]);
        apply(&mut store, [KindEvent::ListBegins, KindEvent::Listed(raw("a", Some(1))), KindEvent::ListEnds]);
        apply(&mut store, [KindEvent::Changed(raw("a", None)), KindEvent::Changed(raw("new", None))]);
        assert_eq!(pods(&store), Some(vec![("a".into(), 1)]));
        assert_eq!(store.snapshot().map(|s| s.problems.len()), Some(2));
        apply(
            &mut store,
            [KindEvent::Deleted(raw("a", None).identity.key), KindEvent::Changed(raw("new", Some(3)))],
        );
        assert_eq!(pods(&store), Some(vec![("new".into(), 3)]));
        assert_eq!(store.objects().len(), 1);
    }
}
