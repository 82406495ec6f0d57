use super::*;

const fn at(hook: Hook, ifindex: u32) -> AttachPoint {
    AttachPoint { hook, ifindex }
}

#[test]
fn the_way_back_is_attached_before_the_way_out() {
    let wanted = BTreeSet::from([at(Hook::PodIn, 7), at(Hook::WanOut, 3), at(Hook::WanIn, 3)]);
    let steps = plan(&BTreeSet::new(), &BTreeSet::new(), &wanted);
    let order = [at(Hook::WanIn, 3), at(Hook::WanOut, 3), at(Hook::PodIn, 7)];
    assert_eq!(steps, order.map(AttachStep::Attach));
    let gone = plan(&wanted, &BTreeSet::new(), &BTreeSet::new());
    assert_eq!(gone, [order[2], order[1], order[0]].map(AttachStep::Detach));
}

#[test]
fn a_restart_replaces_what_it_inherits_and_a_change_does_not() {
    let (none, both) = (BTreeSet::new(), BTreeSet::from([at(Hook::WanIn, 3)]));
    assert_eq!(plan(&both, &none, &both), []);
    assert_eq!(plan(&none, &both, &both), [AttachStep::Attach(at(Hook::WanIn, 3))]);
    assert_eq!(plan(&none, &both, &none), [AttachStep::Detach(at(Hook::WanIn, 3))]);
}

#[test]
fn names_of_pins_are_read_back() {
    for hook in Hook::ALL {
        let place = at(hook, 42);
        assert_eq!(AttachPoint::parse(&place.to_string()), Some(place));
    }
    for name in ["pod_in", "pod_in-", "pod_in-x", "other-3", ""] {
        assert_eq!(AttachPoint::parse(name), None, "{name}");
    }
}

#[test]
fn only_fresh_attachments_are_taken_back() {
    let place = at(Hook::WanIn, 3);
    assert_eq!(AttachStep::Attach(place).undo(true), Some(AttachStep::Detach(place)));
    assert_eq!(AttachStep::Attach(place).undo(false), None);
    assert_eq!(AttachStep::Detach(place).undo(true), None);
}
