use super::*;

fn route(destination: &str, prefix: u8, gateway: Option<&str>, ifindex: u32, metric: u32) -> HostRoute {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    HostRoute {
        destination: address(destination),
        prefix,
        gateway: gateway.map(address),
        ifindex,
        metric,
        source: None,
    }
}

fn routes() -> Routes {
    Routes::from(vec![
        route("0.0.0.0", 0, Some("192.0.2.2"), 3, 200),
        route("10.0.0.0", 8, Some("192.0.2.9"), 2, 0),
        route("0.0.0.0", 0, Some("192.0.2.1"), 2, 100),
        route("192.0.2.0", 24, None, 2, 0),
        route("10.1.0.0", 16, None, 4, 5),
        route("10.1.0.0", 16, None, 5, 4),
        route("198.51.100.0", 24, Some("10.1.0.9"), 4, 7),
        route("198.51.100.0", 24, Some("10.1.0.8"), 4, 6),
        route("::", 0, Some("fe80::1"), 2, 1024),
        route("2001:db8::", 32, None, 6, 0),
    ])
}

#[test]
fn the_longest_prefix_and_the_lowest_metric_win() {
    let routes = routes();
    for (address, ifindex) in [
        ("10.1.2.3", Some(5)),
        ("10.2.2.3", Some(2)),
        ("8.8.8.8", Some(2)),
        ("192.0.2.77", Some(2)),
        ("2001:db8::7", Some(6)),
        ("2001:db9::7", Some(2)),
    ] {
        let to = address.parse().expect("an address");
        assert_eq!(routes.to(to).map(|route| route.ifindex), ifindex, "{address}");
    }
    assert_eq!(Routes::default().to("8.8.8.8".parse().expect("an address")), None);
}

#[test]
fn the_gateway_of_a_device_is_that_of_its_widest_route() {
    let routes = routes();
    for (ifindex, v4, gateway) in [
        (2, true, Some("192.0.2.1")),
        (3, true, Some("192.0.2.2")),
        (4, true, Some("10.1.0.8")),
        (5, true, None),
        (2, false, Some("fe80::1")),
        (6, false, None),
    ] {
        let found = routes.gateway(ifindex, v4).and_then(|route| route.gateway);
        assert_eq!(found, gateway.map(|text| text.parse().expect("an address")), "{ifindex} {v4}");
    }
}

#[test]
fn default_routes_come_by_family_and_metric() {
    let devices: Vec<_> = routes().defaults().map(|route| (route.ifindex, route.metric)).collect();
    assert_eq!(devices, [(2, 100), (3, 200), (2, 1024)]);
}

/// As many routes as a node with a full view of others' networks has: each question is answered from the few that matter.
#[test]
fn the_answers_are_those_of_a_walk_through_all() {
    let mut all = Vec::new();
    let mut seed = 7_u32;
    for _ in 0..3000 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (prefix, ifindex) = ((seed >> 9) as u8 % 33, seed >> 3 & 3);
        let gateway = (seed & 4 == 0).then(|| IpAddr::from([192, 0, 2, (seed >> 20) as u8]));
        let destination = network(IpAddr::V4(seed.rotate_left(11).into()), prefix);
        all.push(HostRoute { destination, prefix, gateway, ifindex, metric: seed >> 28, source: None });
    }
    let routes = Routes::from(all.clone());
    for step in 0..500_u32 {
        let address = IpAddr::V4(step.wrapping_mul(0x9e37_79b9).into());
        let covering = all.iter().filter(|route| network(address, route.prefix) == route.destination);
        let best = covering.max_by_key(|route| (route.prefix, Reverse(route.metric)));
        let key = |route: &HostRoute| (route.destination, route.prefix, route.metric);
        assert_eq!(routes.to(address).map(key), best.map(key), "{address}");
    }
    for ifindex in 0..4 {
        let through = all.iter().filter(|route| route.ifindex == ifindex && route.gateway.is_some());
        let best = through.map(|route| (route.prefix, route.metric)).min();
        assert_eq!(routes.gateway(ifindex, true).map(|route| (route.prefix, route.metric)), best);
    }
}
