use super::*;
use clovisor_common::rule::Tables as _;
use clovisor_datapath::host::net::DeviceAddress;
use clovisor_datapath::kernel::image::Image;
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;

const LAN: u32 = 3;
const UPLINK: u32 = 9;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn cidr(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn route(to: &str, ifindex: u32, metric: u32) -> HostRoute {
    let net = cidr(to);
    HostRoute {
        destination: net.addr(),
        prefix: net.prefix_len(),
        gateway: None,
        ifindex,
        metric,
        source: None,
    }
}

fn device(ifindex: u32, name: &str, addresses: &[&str]) -> (u32, Device) {
    let of = |text: &&str| DeviceAddress::global(cidr(text).addr(), cidr(text).prefix_len());
    let addresses = addresses.iter().map(of).collect();
    (ifindex, Device { ifindex, name: name.into(), addresses, ..Device::default() })
}

fn objects(nets: &[&str]) -> LocalNets {
    let mut all = LocalNets::default();
    nets.iter().for_each(|net| all.add(cidr(net), "an object".to_owned()));
    all
}

fn image(local: &LocalRoutes, objects: &LocalNets, host: &HostNet) -> Image {
    let (prefixes, left_out) = local.prefixes(objects, host, &BTreeSet::from([UPLINK]));
    assert_eq!(left_out, 0);
    Image { local: Arc::new(prefixes), ..Image::default() }
}

/// A LAN with everything that routes can say, and an uplink.
fn node() -> HostNet {
    HostNet {
        devices: [
            device(LAN, "lan0", &["10.1.0.1/24"]),
            device(UPLINK, "s9", &["10.9.0.2/24", "fd09::2/64"]),
        ]
        .into(),
        routes: vec![
            route("0.0.0.0/0", LAN, 0),
            route("::/0", UPLINK, 0),
            route("10.0.0.0/8", LAN, 0),
            route("10.9.0.0/24", UPLINK, 0),
            route("10.9.0.128/25", LAN, 0),
            route("fd00::/8", LAN, 0),
            route("fd09::/64", UPLINK, 0),
            route("10.20.0.0/16", LAN, 100),
            route("10.20.0.0/16", UPLINK, 10),
            route("10.21.0.0/16", LAN, 10),
            route("10.21.0.0/16", UPLINK, 10),
            route("172.16.0.0/12", UPLINK, 0),
        ]
        .into(),
        ..HostNet::default()
    }
}

#[test]
fn routes_objects_and_flags_decide_by_the_most_specific() {
    let given = LocalRoutes::new(&[cidr("198.51.100.0/24"), cidr("0.0.0.0/0")]);
    let objects = objects(&["10.9.0.7/32", "172.16.5.0/24"]);
    let host = node();
    let image = image(&given, &objects, &host);
    for (address, reason) in [
        ("203.0.113.10", None),
        ("2001:db8::1", None),
        ("10.200.0.1", Some("the node's route 10.0.0.0/8 by lan0")),
        ("10.9.0.5", None),
        ("10.9.0.2", Some("an address of s9, or its broadcast address")),
        ("10.9.0.255", Some("an address of s9, or its broadcast address")),
        ("10.9.0.7", Some("an object")),
        ("10.9.0.200", Some("the node's route 10.9.0.128/25 by lan0")),
        ("fd01::1", Some("the node's route fd00::/8 by lan0")),
        ("fd09::5", None),
        ("fd09::2", Some("an address of s9, or its broadcast address")),
        // The lower metric; and one next hop of several is enough.
        ("10.20.1.1", None),
        ("10.21.1.1", None),
        ("172.16.5.9", Some("an object")),
        ("172.16.6.9", None),
        ("198.51.100.77", Some("--local-cidrs")),
    ] {
        let uplinks = BTreeSet::from([UPLINK]);
        assert_eq!(given.reason(ip(address), &objects, &host, &uplinks).as_deref(), reason, "{address}");
        assert_eq!(image.local(&wide(ip(address))) == LOCAL, reason.is_some(), "{address} in the map");
    }
}

#[test]
fn a_whole_internet_by_an_uplink_takes_no_room() {
    let mut host = node();
    let many = (0..60_000_u32).map(|n| HostRoute {
        destination: Ipv4Addr::from_bits(0x3000_0000 + (n << 8)).into(),
        ..route("0.0.0.0/24", UPLINK, 0)
    });
    host.routes.extend(many);
    let (prefixes, left_out) =
        LocalRoutes::default().prefixes(&objects(&[]), &host, &BTreeSet::from([UPLINK]));
    assert!(prefixes.len() < 20 && left_out == 0, "{} entries, {left_out} left out", prefixes.len());
}

#[test]
fn what_has_no_room_is_left_out_and_counted() {
    let mut nets: BTreeMap<IpNet, Scope> = (0..=MAX_LOCAL)
        .map(|n| (IpNet::from(IpAddr::from(Ipv4Addr::from_bits(n))), Scope::Local))
        .chain([(cidr("10.0.0.0/8"), Scope::Local), (cidr("192.0.2.1/32"), Scope::Always)])
        .collect();
    assert_eq!(limit(&mut nets), 3);
    assert!(nets.contains_key(&cidr("10.0.0.0/8")) && nets.contains_key(&cidr("192.0.2.1/32")));
    assert_eq!(nets.len(), MAX_LOCAL as usize);
}

/// Networks that lie within each other.
fn any_net() -> impl Strategy<Value = IpNet> {
    (any::<bool>(), 0_u32..64, 0_u8..=8).prop_filter_map("a network", |(v6, low, spare)| {
        let address = match v6 {
            true => IpAddr::from(std::net::Ipv6Addr::from_bits(0xfd << 120 | u128::from(low))),
            false => Ipv4Addr::from_bits(10 << 24 | low).into(),
        };
        let length = if v6 { 128 } else { 32 };
        IpNet::new(address, length - spare).ok().map(|net| net.trunc())
    })
}

proptest! {
    #[test]
    fn the_map_says_what_the_explanation_says(
        given in vec(any_net(), 0..3),
        of_objects in vec(any_net(), 0..3),
        routes in vec((any_net(), any::<bool>(), 0_u32..2), 0..10),
        own in vec(any_net(), 0..2),
        low in 0_u32..80,
        v6: bool,
    ) {
        let given = LocalRoutes::new(&given);
        let mut objects = LocalNets::default();
        of_objects.iter().for_each(|net| objects.add(*net, "an object".into()));
        let mut host = node();
        host.routes = routes
            .iter()
            .map(|(net, uplink, metric)| route(&net.to_string(), if *uplink { UPLINK } else { LAN }, *metric))
            .collect();
        host.routes.extend([route("::/1", LAN, 0)]);
        host.devices.entry(UPLINK).and_modify(|device| {
            device.addresses = own.iter().map(|net| DeviceAddress::global(net.addr(), net.prefix_len())).collect();
        });
        let address = match v6 {
            true => IpAddr::from(std::net::Ipv6Addr::from_bits(0xfd << 120 | u128::from(low))),
            false => Ipv4Addr::from_bits(10 << 24 | low).into(),
        };
        let reason = given.reason(address, &objects, &host, &BTreeSet::from([UPLINK]));
        let local = image(&given, &objects, &host).local(&wide(address)) == LOCAL;
        prop_assert_eq!(local, reason.is_some(), "{} {:?}", address, reason);
    }
}
