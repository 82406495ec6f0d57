//! The kernel's rule over the image, and the policy's explanation, decide alike.

use super::image;
use crate::desired::local::LocalRoutes;
use crate::link::table::LinkTable;
use clovisor_common::abi::Pod;
use clovisor_common::packet::{Address, Fragment, Segment, TCP, UDP};
use clovisor_common::rule::class_of_traffic;
use clovisor_datapath::host::net::{Device, HostNet};
use clovisor_datapath::host::resolve::{PodDevice, resolve_pod};
use clovisor_datapath::host::routes::HostRoute;
use clovisor_datapath::kernel::image::{Image, LocalPrefixes, PortRange};
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::wan_mapping::traffic::TrafficProtocol;
use clovisor_policy::class::ClassId;
use clovisor_policy::local::LocalNets;
use clovisor_policy::model::{NamespacePolicy, PodIdentity, PodTraffic, Policy, PortClass, PrefixRules};
use clovisor_policy::packet::packet;
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

mod kinds;

const ZONE: u16 = 3;
const VETH: u32 = 7;
const PORTS: PortRange = PortRange { min: 1024, max: 29_999 };

/// The only device of a node that has one.
fn device() -> PodDevice {
    let address = IpAddr::from(Ipv4Addr::new(10, 244, 0, 10));
    let veth = Device { ifindex: VETH, kind: "veth".into(), ..Device::default() };
    let route =
        HostRoute { destination: address, prefix: 32, gateway: None, ifindex: VETH, metric: 0, source: None };
    let net = HostNet { devices: [(VETH, veth)].into(), routes: vec![route].into(), ..HostNet::default() };
    resolve_pod(&net, &BTreeSet::new(), address).unwrap_or_else(|reason| panic!("{reason}"))
}

/// Addresses that share prefixes of many lengths.
fn address() -> impl Strategy<Value = IpAddr> {
    let bits = prop_oneof![Just(0_u32), Just(1), Just(0x80), Just(0x8000), 0_u32..0x1_0000];
    (any::<bool>(), bits).prop_map(|(v6, low)| {
        if v6 {
            Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(low)).into()
        } else {
            Ipv4Addr::from_bits(10 << 24 | low).into()
        }
    })
}

fn port_class() -> impl Strategy<Value = PortClass> {
    (0_u16..6, 0_u16..6, 1_u8..=3).prop_map(|(a, b, class)| PortClass {
        min: a.min(b),
        max: a.max(b),
        class: ClassId(class),
    })
}

/// Rules of one prefix, `spare` bits shorter than an address.
fn prefix() -> impl Strategy<Value = PrefixRules> {
    (address(), 0_u8..=18, any::<bool>(), vec(port_class(), 0..4)).prop_filter_map(
        "a prefix",
        |(address, spare, udp, rules)| {
            let length = if address.is_ipv4() { 32 } else { 128 };
            let net = IpNet::new(address, length - spare).ok()?.trunc();
            let protocol = if udp { TrafficProtocol::Udp } else { TrafficProtocol::Tcp };
            Some(PrefixRules { protocol, net, rules })
        },
    )
}

/// A policy whose prefixes are different ones, and one pod that may have `classes`.
fn policy(prefixes: Vec<PrefixRules>, classes: &BTreeSet<u8>) -> (Policy, ObjectKey) {
    let mut seen = BTreeSet::new();
    let traffic = prefixes.into_iter().filter(|p| seen.insert((p.protocol, p.net))).collect();
    let pods = |class: &u8| PodTraffic { labels: BTreeMap::new(), class: ClassId(*class) };
    let namespace = NamespacePolicy {
        zone: ZONE,
        traffic,
        traffic_pods: classes.iter().map(pods).collect(),
        ..NamespacePolicy::default()
    };
    let key = ObjectKey { namespace: "shop".into(), name: "till-0".into() };
    let pod = PodIdentity {
        addresses: BTreeSet::new(),
        proxy_uid: 1337,
        labels: BTreeMap::new(),
        host_network: false,
    };
    let policy = Policy {
        namespaces: BTreeMap::from([("shop".to_owned(), namespace)]),
        pods: BTreeMap::from([(key.clone(), pod)]),
        ..Policy::default()
    };
    (policy, key)
}

/// The map where one network is local.
fn local(near: &Option<IpNet>) -> Arc<LocalPrefixes> {
    let nets: Vec<_> = near.iter().copied().collect();
    let none = (&LocalNets::default(), &HostNet::default(), &BTreeSet::new());
    Arc::new(LocalRoutes::new(&nets).prefixes(none.0, none.1, none.2).0)
}

fn by_kernel<A: Address>(image: &Image, pod: &Pod, to: (A, u16), proto: u8) -> u8 {
    let segment = Segment {
        saddr: to.0,
        daddr: to.0,
        sport_be: 0,
        dport_be: to.1.to_be(),
        proto,
        is_new: true,
        tos: 0,
        ttl: 64,
        flags: 0,
        l4_len: 20,
        fragment: Fragment::Whole,
        id: 0,
        ack_be: 0,
        l4: 34,
        l3: 14,
    };
    class_of_traffic(image, pod, &segment)
}

proptest! {
    #[test]
    fn the_rule_and_the_explanation_of_a_packet_agree(
        prefixes in vec(prefix(), 0..8),
        classes in proptest::collection::btree_set(1_u8..=3, 0..3),
        to in address(),
        port in 0_u16..7,
        udp: bool,
        near in proptest::option::of((address(), 0_u8..=18)),
    ) {
        let near = near.and_then(|(address, spare)| {
            let length = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new(address, length - spare).ok().map(|net| net.trunc())
        });
        let (policy, key) = policy(prefixes, &classes);
        let devices = BTreeMap::from([(key.clone(), device())]);
        let image = image(&policy, &LinkTable::default(), &devices, local(&near), PORTS);
        let pod = image.pods[&VETH];
        let (proto, protocol) = if udp { (UDP, TrafficProtocol::Udp) } else { (TCP, TrafficProtocol::Tcp) };
        let kernel = match to {
            IpAddr::V4(v4) => by_kernel(&image, &pod, (v4.octets(), port), proto),
            IpAddr::V6(v6) => by_kernel(&image, &pod, (v6.octets(), port), proto),
        };
        let target = SocketAddr::new(to, port).to_string();
        let explained = packet(&policy, &key, &BTreeMap::new(), &target, protocol, |address| {
            near.filter(|near| near.contains(&address)).map(|near| near.to_string())
        });
        prop_assert_eq!(kernel, explained.class.map_or(0, |class| class.0), "{:?}", explained);
    }
}
