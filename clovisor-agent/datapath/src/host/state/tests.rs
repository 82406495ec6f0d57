use super::super::route_set::{RouteHop, RouteKey, RouteUpdate};
use super::*;

const GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn device(ifindex: u32, up: bool) -> NetEvent {
    NetEvent::Device(Box::new(Device {
        ifindex,
        name: format!("s{ifindex}"),
        up,
        carrier: up,
        ..Device::default()
    }))
}

fn neighbour(reachability: Option<Reachability>) -> NetEvent {
    NetEvent::Neighbour(2, GATEWAY, reachability.map(|reachability| (vec![2], reachability)))
}

fn address(text: &str, scope: u8, secondary: bool) -> DeviceAddress {
    let address = text.parse().expect("an address");
    DeviceAddress { address, prefix: 24, scope, tentative: false, deprecated: false, secondary }
}

fn default(ifindex: u32, gateway: Option<IpAddr>) -> NetEvent {
    let key = RouteKey { v6: false, prefix: 0, network: IpAddr::from([0; 4]), metric: 0 };
    let hops = vec![RouteHop { ifindex, gateway, refusal: 0 }];
    NetEvent::Route(RouteUpdate::Put { key, hops, source: None, replaces: false, appends: false })
}

fn state(events: &[NetEvent]) -> NetState {
    let mut state = NetState::default();
    for event in events {
        state.apply(event);
    }
    state
}

/// A gateway that is dead under traffic: the kernel gives it up, and asks again with the next packet, within milliseconds.
#[test]
fn a_neighbour_that_failed_is_known_only_by_an_answer() {
    use Reachability::{Asked, Failed, Known};
    for (events, expected) in [
        (&[Some(Asked)][..], Some(Asked)),
        (&[Some(Known), Some(Failed), Some(Asked)], Some(Failed)),
        (&[Some(Known), Some(Asked)], Some(Failed)),
        (&[Some(Failed), Some(Asked), Some(Known)], Some(Known)),
        (&[Some(Failed), None, Some(Asked)], Some(Asked)),
        (&[Some(Known), None], None),
    ] {
        let events: Vec<_> = events.iter().map(|reachability| neighbour(*reachability)).collect();
        let net = state(&events).view();
        assert_eq!(net.neighbours.first().map(|n| n.reachability), expected, "{events:?}");
    }
    let dumped = state(&[device(2, true), neighbour(Some(Asked))]);
    let net = dumped.after(&state(&[device(2, true), neighbour(Some(Failed))])).view();
    assert_eq!(net.neighbours[0].reachability, Failed, "a dump cannot tell");
}

#[test]
fn what_follows_from_an_event_needs_none() {
    let mut state =
        state(&[device(2, true), default(2, Some(GATEWAY)), neighbour(Some(Reachability::Known))]);
    assert_eq!(state.view().routes.len(), 1);
    let impact = state.apply(&device(2, false));
    assert_eq!(impact, Impact { changed: Some(Urgency::Urgent), doubt: Some(Doubt::Device(2)) });
    state.apply(&device(2, true));
    assert!(state.view().routes.is_empty(), "the kernel does not bring it back");
    state.apply(&default(2, Some(GATEWAY)));
    state.apply(&NetEvent::Address(2, address("192.0.2.2", 0, false)));
    state.apply(&NetEvent::AddressGone(2, address("192.0.2.2", 0, false)));
    assert!(state.view().routes.is_empty(), "nor with the last address");
    state.apply(&NetEvent::DeviceGone(2));
    state.apply(&device(2, true));
    let net = state.view();
    assert!(net.neighbours.is_empty() && net.devices[&2].epoch == 1 && net.devices[&2].addresses.is_empty());
    assert_eq!(state.apply(&device(2, true)), Impact::default(), "nothing new");
}

/// The order is that in which the kernel prefers them, other things being equal.
#[test]
fn addresses_stand_as_in_the_kernel() {
    let mut state = state(&[device(2, true)]);
    for (text, scope, secondary) in [
        ("fe80::2", 253, false),
        ("2001:db8::2", 0, false),
        ("192.0.2.2", 0, false),
        ("192.0.2.3", 0, true),
        ("198.51.100.2", 0, false),
        ("169.254.0.2", 253, false),
        ("2001:db8::3", 0, true),
        ("203.0.113.2", 0, false),
    ] {
        state.apply(&NetEvent::Address(2, address(text, scope, secondary)));
    }
    let text = |state: &mut NetState| -> Vec<String> {
        state.view().devices[&2].addresses.iter().map(|address| address.address.to_string()).collect()
    };
    let v6 = ["2001:db8::3", "2001:db8::2", "fe80::2"];
    let v4 = ["169.254.0.2", "192.0.2.2", "198.51.100.2", "203.0.113.2", "192.0.2.3"];
    assert_eq!(text(&mut state), [&v4[..], &v6[..]].concat());
    let old = address("2001:db8::2", 0, false);
    let deprecated = DeviceAddress { deprecated: true, ..old };
    assert_eq!(state.apply(&NetEvent::Address(2, deprecated)).changed, Some(Urgency::Urgent));
    assert_eq!(state.apply(&NetEvent::Address(2, deprecated)).changed, None);
    assert_eq!(text(&mut state)[6], "2001:db8::2", "where it was");
}

/// What others' routing protocols do all day is told at leisure.
#[test]
fn a_change_is_as_urgent_as_what_depends_on_it() {
    let mut state = state(&[device(2, true)]);
    let route = |prefix, gateway| {
        let key = RouteKey { v6: false, prefix, network: IpAddr::from([198, 51, 100, 0]), metric: 0 };
        let hops = vec![RouteHop { ifindex: 2, gateway, refusal: 0 }];
        NetEvent::Route(RouteUpdate::Put { key, hops, source: None, replaces: false, appends: false })
    };
    assert_eq!(state.apply(&route(24, Some(GATEWAY))).changed, Some(Urgency::Calm));
    assert_eq!(state.apply(&route(32, None)).changed, Some(Urgency::Brisk));
    assert_eq!(state.apply(&default(2, Some(GATEWAY))).changed, Some(Urgency::Urgent));
    assert_eq!(state.apply(&neighbour(Some(Reachability::Known))).changed, Some(Urgency::Brisk));
}

#[test]
fn the_routes_of_one_device_can_be_read_again() {
    let mut state = state(&[device(2, true), device(3, true), default(3, None), default(2, Some(GATEWAY))]);
    let again = state.replace(2, &[default(2, Some(GATEWAY))], &[]);
    assert_eq!(again, Impact::default());
    let impact = state.replace(2, &[], &[]);
    assert_eq!(impact.changed, Some(Urgency::Urgent));
    assert_eq!(state.view().routes.iter().map(|route| route.ifindex).collect::<Vec<_>>(), [3]);
    assert_eq!(state.replace(2, &[], &[]).changed, None);
    state.replace(2, &[], &[default(2, Some(GATEWAY))]);
    assert_eq!(state.view().routes.len(), 2, "an event of meanwhile counts");
    state.apply(&device(2, false));
    state.apply(&device(2, true));
    let order = state.replace(2, &[default(2, Some(GATEWAY))], &[]).doubt;
    assert_eq!(order, Some(Doubt::Everything), "which of the two is the first?");
}
