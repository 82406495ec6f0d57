use super::*;

fn key(network: &str, prefix: u8) -> RouteKey {
    let network: IpAddr = network.parse().expect("an address");
    RouteKey { v6: network.is_ipv6(), prefix, network, metric: 0 }
}

fn hop(ifindex: u32, gateway: &str) -> RouteHop {
    RouteHop { ifindex, gateway: gateway.parse().ok(), refusal: 0 }
}

fn put(key: RouteKey, hops: &[RouteHop]) -> RouteUpdate {
    RouteUpdate::Put { key, hops: hops.to_vec(), source: None, replaces: false, appends: false }
}

fn with(update: RouteUpdate, replace: bool, append: bool) -> RouteUpdate {
    match update {
        RouteUpdate::Put { key, hops, source, .. } => {
            RouteUpdate::Put { key, hops, source, replaces: replace, appends: append }
        }
        remove => remove,
    }
}

fn hops(set: &RouteSet) -> Vec<RouteHop> {
    let routes = set.routes(|_| true);
    routes
        .iter()
        .map(|route| RouteHop { ifindex: route.ifindex, gateway: route.gateway, refusal: 0 })
        .collect()
}

/// `ip route add`, `append`, `prepend`, `replace`, `del` with one destination and metric.
#[test]
fn routes_of_ipv4_with_one_key_stand_in_a_row() {
    let (all, mut set) = (key("0.0.0.0", 0), RouteSet::default());
    let (a, b, c, d) = (hop(2, "192.0.2.1"), hop(2, "192.0.2.2"), hop(3, "192.0.2.3"), hop(3, "192.0.2.4"));
    assert!(set.apply(&put(all, &[a])));
    assert!(!set.apply(&put(all, &[a])), "told twice");
    assert!(set.apply(&with(put(all, &[b]), false, true)));
    assert!(set.apply(&put(all, &[c])));
    assert_eq!(hops(&set), [c, a, b]);
    assert!(set.apply(&with(put(all, &[c, d]), true, false)));
    assert_eq!(hops(&set), [c, d, a, b], "the first one is replaced");
    assert!(!set.apply(&RouteUpdate::Remove { key: all, hops: vec![c], source: None }), "half of a route");
    assert!(set.apply(&RouteUpdate::Remove { key: all, hops: vec![c, d], source: None }));
    let refusal = |refusal| RouteHop { refusal, ..RouteHop::default() };
    assert!(set.apply(&with(put(all, &[refusal(7)]), true, false)), "unreachable in place of a");
    assert!(set.apply(&put(all, &[refusal(6)])), "a black hole before it");
    assert_eq!(hops(&set), [b]);
    assert!(set.apply(&RouteUpdate::Remove { key: all, hops: vec![refusal(7)], source: None }));
    assert!(set.apply(&with(put(all, &[a]), true, false)));
    assert_eq!(hops(&set), [a, b]);
}

#[test]
fn gateways_of_ipv6_are_paths_of_one_route() {
    let (all, mut set) = (key("::", 0), RouteSet::default());
    let (a, b, c, device) = (hop(2, "fe80::1"), hop(2, "fe80::2"), hop(3, "fe80::3"), hop(4, ""));
    assert!(set.apply(&put(all, &[device])));
    assert!(set.apply(&put(all, &[a])));
    assert!(set.apply(&put(all, &[a, b])), "the kernel tells all paths each time");
    assert_eq!(hops(&set), [device, a, b]);
    assert!(set.apply(&with(put(all, &[c]), true, false)));
    assert_eq!(hops(&set), [device, c], "all paths are replaced, the route beside them is not");
    assert!(set.apply(&RouteUpdate::Remove { key: all, hops: vec![c], source: None }));
    assert_eq!(hops(&set), [device]);
}

#[test]
fn a_route_ends_with_its_last_device() {
    let (mut set, a, b) = (RouteSet::default(), hop(2, "192.0.2.1"), hop(3, "198.51.100.1"));
    set.apply(&put(key("0.0.0.0", 0), &[a, b]));
    set.apply(&put(key("10.0.0.0", 8), &[a]));
    set.apply(&put(key("2001:db8::", 32), &[hop(2, "")]));
    assert!(!set.drop_dead(4, false, |hop| hop.ifindex == 4));
    assert!(set.drop_dead(2, true, |hop| hop.ifindex == 2));
    assert_eq!(hops(&set).len(), 3, "IPv4 alone, and not what has another device");
    assert!(set.drop_dead(2, false, |hop| hop.ifindex == 2));
    assert_eq!(hops(&set), [a, b]);
    assert_eq!(set.routes(|ifindex| ifindex == 3).len(), 1, "only hops by devices that are up are told");
    let mut removed = set.clone();
    removed.drop_device(3);
    assert!(hops(&removed).is_empty(), "the kernel removes a route with the first of its devices");
    assert!(set.drop_dead(3, false, |_| true));
    assert!(hops(&set).is_empty());
}
