use super::*;

const fn at(hook: Hook, ifindex: u32) -> Place {
    Place { hook, ifindex }
}

#[test]
fn the_way_back_is_attached_before_the_way_out() {
    let wanted = BTreeSet::from([at(Hook::PodIn, 7), at(Hook::WanOut, 3), at(Hook::WanIn, 3)]);
    let steps = plan(&BTreeSet::new(), &wanted, false);
    let order = [at(Hook::WanIn, 3), at(Hook::WanOut, 3), at(Hook::PodIn, 7)];
    assert_eq!(steps, order.map(Step::Attach));
    let gone = plan(&wanted, &BTreeSet::new(), false);
    assert_eq!(gone, [order[2], order[1], order[0]].map(Step::Detach));
}

#[test]
fn a_restart_renews_and_a_change_does_not() {
    let both = BTreeSet::from([at(Hook::WanIn, 3)]);
    assert_eq!(plan(&both, &both, false), []);
    assert_eq!(plan(&both, &both, true), [Step::Attach(at(Hook::WanIn, 3))]);
}

#[test]
fn names_of_pins_are_read_back() {
    for hook in Hook::ALL {
        let place = at(hook, 42);
        assert_eq!(Place::parse(&place.to_string()), Some(place));
    }
    for name in ["pod_in", "pod_in-", "pod_in-x", "other-3", ""] {
        assert_eq!(Place::parse(name), None, "{name}");
    }
}

#[test]
fn only_fresh_attachments_are_taken_back() {
    let place = at(Hook::WanIn, 3);
    assert_eq!(Step::Attach(place).undo(true), Some(Step::Detach(place)));
    assert_eq!(Step::Attach(place).undo(false), None);
    assert_eq!(Step::Detach(place).undo(true), None);
}
