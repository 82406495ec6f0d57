//! Addresses, gateways and devices that come and go.

use super::*;

/// What is away for less than the grace resets nothing; a carrier that is lost, or a gateway that fails to answer, does at once.
#[test]
fn what_a_lease_takes_away_for_a_moment_is_waited_for() {
    type Break = fn(&mut HostNet);
    let no_address: Break = |n| n.devices.values_mut().for_each(|d| d.addresses.clear());
    let no_route: Break = |n| n.routes = Routes::default();
    let nothing: Break = |n| {
        n.devices.values_mut().for_each(|d| d.addresses.clear());
        (n.routes, n.neighbours) = (Routes::default(), Vec::new());
    };
    let no_carrier: Break = |n| n.devices.values_mut().for_each(|d| d.carrier = false);
    let no_answer: Break = |n| fail(n, HOP);
    let up = link_at(&spec("s9"), &net(), None, at(0));
    let (gone, unknown) = (DownReason::NoAddress, DownReason::GatewayUnknown);
    for (break_it, waits, reason) in [
        (no_address, true, gone),
        (no_route, true, unknown),
        (nothing, true, gone),
        (no_carrier, false, DownReason::NoCarrier),
        (no_answer, false, DownReason::GatewayUnresolved),
    ] {
        let mut broken = net();
        break_it(&mut broken);
        let mut link = up.clone();
        for ms in [10, 900, 2009] {
            link = link_at(&spec("s9"), &broken, Some(&link), at(ms));
            assert_eq!(link.health.v4 == Health::Up, waits, "{reason} at {ms}");
            let same = (link.source4, link.gateway4) == (up.source4, up.gateway4);
            assert_eq!((same, link.lacking.v4), (waits, waits.then(|| at(10))), "{reason} at {ms}");
        }
        let back = link_at(&spec("s9"), &net(), Some(&link), at(2009));
        assert_eq!((back.health.v4, back.lacking.v4), (Health::Up, None), "{reason}");
        link = link_at(&spec("s9"), &broken, Some(&link), at(2010));
        assert_eq!(link.health.v4, Health::Down(reason), "for too long");
    }
}

/// The address is back, and duplicate address detection is under way.
#[test]
fn an_address_that_is_back_may_be_tentative_for_a_while() {
    let up = link_at(&spec("s9"), &net(), None, at(0));
    let (mut gone, mut tentative) = (net(), net());
    gone.devices.values_mut().for_each(|d| d.addresses.clear());
    let own = tentative.devices.values_mut().flat_map(|d| &mut d.addresses);
    own.for_each(|own| own.tentative = true);
    let mut link = link_at(&spec("s9"), &gone, Some(&up), at(0));
    for ms in [1000, 2500, 3999] {
        link = link_at(&spec("s9"), &tentative, Some(&link), at(ms));
        assert_eq!((link.health.v4, link.source4), (Health::Up, up.source4), "at {ms}");
    }
    let failed = link_at(&spec("s9"), &tentative, Some(&link), at(4000));
    assert_eq!(failed.health.v4, Health::Down(DownReason::NoAddress), "its detection has failed");
    let back = link_at(&spec("s9"), &net(), Some(&link), at(3999));
    assert_eq!((back.health.v4, back.lacking.v4), (Health::Up, None));
}

#[test]
fn another_address_takes_the_place_of_a_lost_one_at_once() {
    let up = link_at(&spec("s9"), &net(), None, at(0));
    let mut moved = net();
    let next = Ipv4Addr::new(10, 9, 0, 3);
    moved.devices.values_mut().for_each(|d| d.addresses = vec![address(next.into())]);
    let link = link_at(&spec("s9"), &moved, Some(&up), at(10));
    assert_eq!((link.source4, link.lacking.v4, link.health.v4), (Some(next), None, Health::Up));
}

/// The old gateway is given up when the new one is known, or when it fails itself.
#[test]
fn a_new_gateway_is_known_before_the_old_one_goes() {
    let next = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 7));
    let up = link(&spec("s9"), &net(), None);
    let mut changed = net();
    changed.routes = vec![default(Some(next), 9, 0)].into();
    let waits = link(&spec("s9"), &changed, Some(&up));
    assert_eq!((waits.gateway4, waits.awaited.v4, waits.health.v4), (up.gateway4, Some(next), Health::Up));
    let specs = BTreeMap::from([("s9".to_owned(), Arc::new(spec("s9")))]);
    let table = LinkTable { links: [("s9".to_owned(), waits.clone())].into(), ..LinkTable::default() };
    assert_eq!(unresolved(&specs, &table, &changed), [(next, "s9".to_owned())]);
    let mut dead = changed.clone();
    fail(&mut dead, HOP);
    assert_eq!(link(&spec("s9"), &dead, Some(&waits)).health.v4, Health::Down(DownReason::GatewayUnresolved));
    let known = Neighbour { address: next, ifindex: 9, mac: vec![7], reachability: Reachability::Known };
    changed.neighbours.push(known);
    let moved = link(&spec("s9"), &changed, Some(&waits));
    assert_eq!((moved.gateway4, moved.awaited.v4), (Some(Ipv4Addr::new(10, 9, 0, 7)), None));
}

/// A device is one link's: of several that name it, one that was there first has it.
#[test]
fn a_device_is_one_links() {
    let spec = |state| Arc::new(WanLinkSpec { state, ..spec("s9") });
    let specs = |a, b| BTreeMap::from([("a".to_owned(), spec(a)), ("b".to_owned(), spec(b))]);
    let active = || specs(LinkState::Active, LinkState::Active);
    let look = |specs: &BTreeMap<_, _>, before: &LinkTable, kept: &Kept| {
        observe(specs, &net(), before, kept, MARKS, at(0))
    };
    let owner = |table: &LinkTable| -> Vec<String> {
        let has = table.links.values().filter(|link| link.ifindex.is_some());
        has.map(|link| link.name.clone()).collect()
    };
    let (none, fresh) = (LinkTable::default(), Kept::default());
    let table = look(&active(), &none, &fresh);
    assert_eq!(owner(&table), ["a"]);
    let refused = &table.links["b"];
    assert_eq!(refused.health.v4, Health::Down(DownReason::DeviceTaken));
    let said = refused.trouble().unwrap_or_default();
    assert!(said.starts_with("the device is that of link a: ") && refused.device == "s9", "{said}");
    let only_b = BTreeMap::from([("b".to_owned(), spec(LinkState::Active))]);
    let first = look(&only_b, &none, &fresh);
    let both = look(&active(), &first, &fresh);
    assert_eq!(owner(&both), ["b"], "it had it before");
    assert_eq!(owner(&look(&active(), &none, &both.kept())), ["b"], "over a restart as well");
    assert_eq!(owner(&look(&specs(LinkState::Active, LinkState::Disabled), &both, &fresh)), ["a"]);
}
