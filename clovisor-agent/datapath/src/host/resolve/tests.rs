use super::super::net::{DeviceAddress, FdbEntry, Neighbour};
use super::*;

const POD: &str = "10.244.0.10";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
}

fn route(destination: &str, prefix: u8, ifindex: u32, gateway: Option<&str>) -> HostRoute {
    HostRoute {
        destination: ip(destination),
        prefix,
        gateway: gateway.map(ip),
        ifindex,
        metric: 0,
        source: None,
    }
}

fn device(ifindex: u32, kind: &str) -> (u32, Device) {
    (ifindex, Device { ifindex, kind: kind.into(), ..Device::default() })
}

/// The ifindex of the pod's device; device 9 is an uplink.
fn found(net: &HostNet, address: IpAddr) -> Result<u32, Unresolved> {
    resolve_pod(net, &BTreeSet::from([9]), address).map(PodDevice::ifindex)
}

fn node() -> HostNet {
    HostNet {
        devices: [device(3, "veth"), device(4, "bridge"), device(5, "veth"), device(9, "")].into(),
        routes: vec![route("0.0.0.0", 0, 9, Some("192.0.2.1"))].into(),
        ..HostNet::default()
    }
}

#[test]
fn a_point_to_point_veth_is_found_by_its_route() {
    let mut net = node();
    assert_eq!(found(&net, ip(POD)), Err(Unresolved::NotLocal));
    net.routes.extend([route("10.244.0.0", 24, 4, None)]);
    net.routes.extend([route(POD, 32, 3, None)]);
    assert_eq!(found(&net, ip(POD)), Ok(3));
    net.devices.remove(&3);
    assert_eq!(found(&net, ip(POD)), Err(Unresolved::DeviceMissing));
}

#[test]
fn behind_a_bridge_the_port_counts() {
    let mut net = node();
    net.routes.extend([route("10.244.0.0", 24, 4, None)]);
    assert_eq!(found(&net, ip(POD)), Err(Unresolved::NeighbourUnknown));
    let mac = vec![2, 0, 0, 0, 0, 1];
    net.neighbours.push(Neighbour {
        address: ip(POD),
        ifindex: 4,
        mac: mac.clone(),
        reachability: Reachability::Known,
    });
    assert_eq!(found(&net, ip(POD)), Err(Unresolved::PortUnknown));
    net.fdb.push(FdbEntry { mac: mac.clone(), ifindex: 4, bridge: 4 });
    assert_eq!(found(&net, ip(POD)), Err(Unresolved::PortUnknown));
    net.fdb.push(FdbEntry { mac, ifindex: 5, bridge: 4 });
    assert_eq!(found(&net, ip(POD)), Ok(5));
}

#[test]
fn pods_of_other_nodes_are_not_local() {
    let mut net = node();
    net.routes.extend([route("10.244.0.0", 24, 9, Some("192.0.2.7"))]);
    assert_eq!(found(&net, ip(POD)), Err(Unresolved::NotLocal));
    assert_eq!(found(&net, ip("fd00::1")), Err(Unresolved::NotLocal));
}

#[test]
fn the_longest_prefix_wins_then_the_metric() {
    let mut net = node();
    net.routes.extend([HostRoute { metric: 100, ..route("10.0.0.0", 8, 3, None) }]);
    net.routes.extend([HostRoute { metric: 10, ..route("10.0.0.0", 8, 5, None) }]);
    assert_eq!(route_to(&net, ip(POD)).map(|r| r.ifindex), Some(5));
    assert_eq!(route_to(&net, ip("8.8.8.8")).map(|r| r.ifindex), Some(9));
}

#[test]
fn no_device_but_the_pods_own_is_one() {
    let mut net = node();
    net.devices.extend([device(6, "macvlan"), device(7, "")]);
    net.devices
        .entry(9)
        .and_modify(|uplink| uplink.addresses = vec![DeviceAddress::global(ip("192.0.2.5"), 24)]);
    net.routes.extend([route("192.0.2.0", 24, 9, None)]);
    // A pod of the node's network, and one of the uplink's (macvlan, ipvlan).
    assert_eq!(found(&net, ip("192.0.2.5")), Err(Unresolved::HostNetwork));
    assert_eq!(found(&net, ip("192.0.2.9")), Err(Unresolved::Uplink));
    // A network's device, also where it is a veth; a host route to what no pod is alone behind.
    for (address, prefix, ifindex) in
        [("10.1.0.0", 24, 7), ("10.1.0.0", 24, 3), ("10.1.0.5", 32, 6), ("10.1.0.5", 32, 7)]
    {
        net.routes = vec![route(address, prefix, ifindex, None)].into();
        assert_eq!(found(&net, ip("10.1.0.5")), Err(Unresolved::Shared), "{address}/{prefix} by {ifindex}");
    }
    net.routes = vec![route("10.1.0.5", 32, 9, None)].into();
    assert_eq!(found(&net, ip("10.1.0.5")), Err(Unresolved::Uplink));
    net.devices.entry(9).and_modify(|uplink| uplink.kind = "veth".into());
    assert_eq!(found(&net, ip("10.1.0.5")), Err(Unresolved::Uplink), "whatever its kind");
}

#[test]
fn a_bridges_port_is_the_pods_own_or_none() {
    let mut net = node();
    net.devices.extend([device(8, "")]);
    net.routes.extend([route("10.244.0.0", 24, 4, None)]);
    let mac = vec![2, 0, 0, 0, 0, 1];
    let reachability = Reachability::Known;
    net.neighbours.push(Neighbour { address: ip(POD), ifindex: 4, mac: mac.clone(), reachability });
    // A network card in the bridge: the pod is on another machine. An uplink: it is the world's.
    for (ifindex, reason) in [(8, Unresolved::Shared), (9, Unresolved::Uplink)] {
        net.fdb = vec![FdbEntry { mac: mac.clone(), ifindex, bridge: 4 }];
        assert_eq!(found(&net, ip(POD)), Err(reason));
    }
}
