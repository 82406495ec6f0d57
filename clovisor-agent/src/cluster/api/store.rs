//! What was heard from the API server, to consistent snapshots; pure.

use crate::cluster::identity::{Identity, ObjectKey, ObjectKind};
use crate::cluster::last_good::LastGood;
use crate::cluster::object::{Object, insert};
use crate::cluster::problem::{Problem, Subject};
use crate::cluster::reason::ProblemReason;
use crate::cluster::refusal::Refusal;
use crate::cluster::snapshot::Snapshot;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// An object as it came.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub(super) identity: Identity,
    pub(super) decoded: Result<Object, Refusal>,
}

/// One event of the watch on a kind.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    /// A list begins: what it does not name is gone, once it is complete.
    Begin,
    Listed(Raw),
    Complete,
    Changed(Raw),
    Gone(ObjectKey),
    /// The server does not know the kind.
    Absent,
    /// The kind cannot be read now.
    Failed(String),
    /// A watch broke; it goes on where it was, and nothing is heard of that unless it breaks again by then.
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

/// Everything heard so far, by kind.
#[derive(Clone, Debug)]
pub(super) struct Store {
    kinds: BTreeMap<ObjectKind, KindState>,
}

impl Store {
    /// Nothing heard of these kinds yet.
    pub(super) fn new(kinds: impl IntoIterator<Item = ObjectKind>) -> Self {
        Self { kinds: kinds.into_iter().map(|kind| (kind, KindState::default())).collect() }
    }

    /// Takes in one event.
    pub(super) fn hear(&mut self, kind: ObjectKind, heard: Heard) {
        let kind = self.kinds.entry(kind).or_default();
        match heard {
            Heard::Begin => kind.fresh = Some(LastGood::default()),
            Heard::Listed(raw) => {
                let fresh = kind.fresh.get_or_insert_default();
                fresh.list(&kind.objects, raw.identity.key.clone(), version(raw));
            }
            Heard::Complete => {
                kind.objects = kind.fresh.take().unwrap_or_default();
                (kind.known, kind.failure, kind.over) = (true, None, None);
            }
            Heard::Changed(raw) => {
                kind.objects.update(raw.identity.key.clone(), version(raw));
                (kind.failure, kind.over) = (None, None);
            }
            Heard::Gone(key) => kind.objects.remove(&key),
            Heard::Absent => *kind = KindState { known: true, ..KindState::default() },
            Heard::Failed(reason) => {
                kind.fresh = None;
                (kind.failure, kind.over) = (Some(reason), None);
            }
            Heard::Interrupted(reason, over) => (kind.failure, kind.over) = (Some(reason), Some(over)),
        }
    }

    /// Kinds that were never heard of completely: without them nothing can be concluded.
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
        let mut snapshot = Snapshot::default();
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
    raw.decoded.map_err(|refusal| {
        let message = format!("{}; the object's last good state stays in force", refusal.message);
        Problem::new(Subject::Object(raw.identity), Refusal { message, ..refusal })
    })
}

fn unreadable(kind: ObjectKind, reason: &str) -> Problem {
    let message = format!("{reason}; what was known of them stays in force");
    Problem::whole(ProblemReason::Unreadable, Subject::AllOf(kind), message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::pod::PodObject;
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

    fn hear(store: &mut Store, heard: impl IntoIterator<Item = Heard>) {
        heard.into_iter().for_each(|heard| store.hear(ObjectKind::Pod, heard));
    }

    #[test]
    fn nothing_is_concluded_before_every_kind_was_heard() {
        let mut store = Store::new([ObjectKind::Pod, ObjectKind::WanLink]);
        hear(&mut store, [Heard::Begin, Heard::Listed(raw("a", Some(1))), Heard::Complete]);
        assert_eq!((pods(&store), store.missing()), (None, vec![ObjectKind::WanLink]));
        store.hear(ObjectKind::WanLink, Heard::Failed("forbidden".into()));
        assert_eq!(pods(&store), None);
        store.hear(ObjectKind::WanLink, Heard::Absent);
        assert_eq!(pods(&store), Some(vec![("a".into(), 1)]));
    }

    #[test]
    fn a_new_list_deletes_nothing_until_it_is_complete() {
        let mut store = Store::new([ObjectKind::Pod]);
        let both = [Heard::Listed(raw("a", Some(1))), Heard::Listed(raw("b", Some(1)))];
        hear(&mut store, [Heard::Begin]);
        hear(&mut store, both);
        hear(&mut store, [Heard::Complete, Heard::Begin, Heard::Listed(raw("a", Some(2)))]);
        assert_eq!(pods(&store), Some(vec![("a".into(), 1), ("b".into(), 1)]));
        hear(&mut store, [Heard::Failed("cut".into())]);
        assert_eq!(pods(&store).map(|p| p.len()), Some(2));
        assert_eq!(store.snapshot().map(|s| s.problems.len()), Some(1));
        hear(&mut store, [Heard::Begin, Heard::Listed(raw("a", Some(2))), Heard::Complete]);
        assert_eq!(pods(&store), Some(vec![("a".into(), 2)]));
        assert_eq!(store.snapshot().map(|s| s.problems.len()), Some(0));
    }

    #[test]
    fn a_bad_object_keeps_its_last_good_state() {
        let mut store = Store::new([ObjectKind::Pod]);
        hear(&mut store, [Heard::Begin, Heard::Listed(raw("a", Some(1))), Heard::Complete]);
        hear(&mut store, [Heard::Changed(raw("a", None)), Heard::Changed(raw("new", None))]);
        assert_eq!(pods(&store), Some(vec![("a".into(), 1)]));
        assert_eq!(store.snapshot().map(|s| s.problems.len()), Some(2));
        hear(&mut store, [Heard::Gone(raw("a", None).identity.key), Heard::Changed(raw("new", Some(3)))]);
        assert_eq!(pods(&store), Some(vec![("new".into(), 3)]));
        assert_eq!(store.objects().len(), 1);
    }
}
