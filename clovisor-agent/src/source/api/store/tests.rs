use super::doubt::CONFIRMED_AFTER;
use super::*;
use clovisor_objects::pod::PodObject;
use std::sync::Arc;
use std::time::Duration;

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

fn apply_at(store: &mut Store, events: impl IntoIterator<Item = KindEvent>, now: Instant) {
    events.into_iter().for_each(|event| store.apply(ObjectKind::Pod, event, now));
}

fn apply(store: &mut Store, events: impl IntoIterator<Item = KindEvent>) {
    apply_at(store, events, Instant::now());
}

#[test]
fn no_snapshot_before_every_kind_was_listed() {
    let mut store = Store::new([ObjectKind::Pod, ObjectKind::WanLink]);
    apply(&mut store, [KindEvent::ListBegins, KindEvent::Listed(raw("a", Some(1))), KindEvent::ListEnds]);
    assert_eq!((pods(&store), store.missing()), (None, vec![ObjectKind::WanLink]));
    store.apply(ObjectKind::WanLink, KindEvent::Failed("forbidden".into()), Instant::now());
    assert_eq!(pods(&store), None);
    store.apply(ObjectKind::WanLink, KindEvent::Absent, Instant::now());
    assert_eq!(pods(&store), Some(vec![("a".into(), 1)]));
}

#[test]
fn a_new_list_deletes_nothing_until_it_is_complete() {
    let mut store = Store::new([ObjectKind::Pod]);
    apply(&mut store, listed(&["a", "b", "c"]));
    apply(&mut store, [KindEvent::ListBegins, KindEvent::Listed(raw("a", Some(2)))]);
    assert_eq!(pods(&store), Some(vec![("a".into(), 1), ("b".into(), 1), ("c".into(), 1)]));
    apply(&mut store, [KindEvent::Failed("cut".into())]);
    assert_eq!(pods(&store).map(|p| p.len()), Some(3));
    assert_eq!(store.snapshot().map(|s| s.problems.len()), Some(1));
    let two = [raw("a", Some(2)), raw("c", Some(1))].map(KindEvent::Listed);
    apply(&mut store, [KindEvent::ListBegins].into_iter().chain(two).chain([KindEvent::ListEnds]));
    assert_eq!(pods(&store), Some(vec![("a".into(), 2), ("c".into(), 1)]));
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

fn listed(names: &[&str]) -> Vec<KindEvent> {
    let items = names.iter().map(|name| KindEvent::Listed(raw(name, Some(1))));
    std::iter::once(KindEvent::ListBegins).chain(items).chain([KindEvent::ListEnds]).collect()
}

#[test]
fn a_list_that_lacks_half_counts_when_another_one_lacks_the_same() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut store = Store::new([ObjectKind::Pod]);
    let count = |store: &Store| pods(store).map_or(0, |pods| pods.len());
    apply_at(&mut store, listed(&["a", "b", "c", "d"]), at(0));
    apply_at(&mut store, listed(&["a", "b"]), at(1000));
    assert_eq!((count(&store), store.next_confirmation()), (4, Some(at(3000))));
    assert_eq!(store.confirmations_due(at(2999)), []);
    assert_eq!(
        (store.confirmations_due(at(3000)), store.confirmations_due(at(3001))),
        (vec![ObjectKind::Pod], vec![])
    );
    // Another half is another doubt.
    apply_at(&mut store, listed(&["c", "d"]), at(3100));
    assert_eq!((count(&store), store.next_confirmation()), (4, Some(at(5100))));
    // What a watch says counts at once.
    apply_at(&mut store, [KindEvent::Deleted(raw("a", None).identity.key)], at(3200));
    assert_eq!(count(&store), 3);
    apply_at(&mut store, [KindEvent::Changed(raw("b", Some(2)))], at(3300));
    assert_eq!((store.next_confirmation(), store.snapshot().map(|s| s.problems.len())), (None, Some(0)));
    // A kind that is gone, and comes back; then it is gone for good.
    apply_at(&mut store, [KindEvent::Absent], at(10_000));
    assert_eq!(count(&store), 3);
    apply_at(&mut store, listed(&["b", "c", "d"]), at(10_800));
    for (ms, left) in [(20_000, 3), (20_800, 3), (22_400, 0)] {
        apply_at(&mut store, [KindEvent::Absent], at(ms));
        assert_eq!(count(&store), left, "at {ms}");
    }
    assert_eq!(store.snapshot().map(|s| s.problems.len()), Some(0));
}

#[test]
fn a_first_list_is_compared_with_what_was_saved() {
    let now = Instant::now();
    let mut store = Store::new([ObjectKind::Pod]);
    let saved = ["a", "b"].map(|name| raw(name, Some(1)));
    let objects = saved.into_iter().filter_map(|raw| Some((raw.identity, raw.decoded.ok()?)));
    store.seed(objects.collect());
    assert_eq!((pods(&store), store.missing().len()), (None, 1));
    apply_at(&mut store, listed(&[]), now);
    assert_eq!(pods(&store).map(|pods| pods.len()), Some(2));
    apply_at(&mut store, listed(&[]), now + CONFIRMED_AFTER);
    assert_eq!(pods(&store), Some(vec![]));
}
