//! Every kind of local traffic under mappings of 0.0.0.0/0 and ::/0, from the objects to the maps.

use super::{PORTS, by_kernel, image};
use crate::desired::local::LocalRoutes;
use crate::link::table::LinkTable;
use clovisor_common::abi::Pod;
use clovisor_common::packet::{Address, TCP, UDP};
use clovisor_datapath::host::net::{Device, DeviceAddress, HostNet};
use clovisor_datapath::host::resolve::resolve_pod;
use clovisor_datapath::host::routes::HostRoute;
use clovisor_datapath::kernel::image::Image;
use clovisor_objects::document::read_all;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::wan_mapping::traffic::TrafficProtocol;
use clovisor_policy::allocation::Allocation;
use clovisor_policy::compile::{Purpose, compile};
use clovisor_policy::packet::packet;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

const OBJECTS: &str = r#"
apiVersion: clovisor.io/v1alpha1
kind: WanLink
metadata: {name: s8}
spec: {device: s8}
---
apiVersion: clovisor.io/v1alpha1
kind: WanMapping
metadata: {name: all, namespace: shop}
spec:
  traffic:
    destinations:
    - {cidr: 0.0.0.0/0, except: [192.0.2.128/25]}
    - {cidr: 0.0.0.0/0, except: [192.0.2.128/25], protocol: UDP}
    - {cidr: 0.0.0.0/0, except: [192.0.2.128/25], protocol: ICMP}
    - {cidr: "::/0", except: ["2001:db8:e::/48"]}
    - {cidr: "::/0", except: ["2001:db8:e::/48"], protocol: UDP}
    - {cidr: "::/0", except: ["2001:db8:e::/48"], protocol: ICMP}
  links: [s8]
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop}
status: {podIPs: [{ip: 10.244.0.10}, {ip: "fd00:244::10"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: bank}
status: {podIPs: [{ip: 198.18.0.11}, {ip: "2001:db8:b::11"}]}
---
apiVersion: v1
kind: Node
metadata: {name: edge-2}
spec: {podCIDRs: [198.18.2.0/24, "2001:db8:2::/64"]}
status: {addresses: [{type: InternalIP, address: 203.0.113.2}, {type: InternalIP, address: "2001:db8:a::2"}]}
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10, "fd96::a"], ports: [{port: 53}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: bank}
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.80, "fd96::80"]
  externalIPs: [203.0.113.88, "2001:db8:a::88"]
  ports: [{port: 80, nodePort: 30080}]
status: {loadBalancer: {ingress: [{ip: 203.0.113.99}, {ip: "2001:db8:a::99"}]}}
"#;

/// Row: what it is, address, why it is local; none: it is taken.
const ROWS: [(&str, &str, Option<&str>); 50] = [
    ("a pod of the node", "198.18.0.11", Some("address of Pod bank/db")),
    ("a pod of the node", "2001:db8:b::11", Some("address of Pod bank/db")),
    ("itself", "10.244.0.10", Some("address of Pod shop/client")),
    ("a pod that is not known yet", "10.244.0.77", Some("the node's route 10.244.0.0/24 by cni0")),
    ("another node's pod", "198.18.2.9", Some("pods of Node edge-2")),
    ("another node's pod", "2001:db8:2::9", Some("pods of Node edge-2")),
    ("another node's pod, by route", "198.18.3.9", Some("the node's route 198.18.3.0/24 by vxlan0")),
    ("another node's pod, by route", "2001:db8:3::9", Some("the node's route 2001:db8:3::/64 by vxlan0")),
    ("another node, its NodePorts", "203.0.113.2", Some("address of Node edge-2")),
    ("another node, its NodePorts", "2001:db8:a::2", Some("address of Node edge-2")),
    ("the node on the uplink, its NodePorts", "10.8.0.2", Some("an address of s8")),
    ("the node on the uplink, its NodePorts", "fd00:8::2", Some("an address of s8")),
    ("the node on the LAN", "192.168.7.1", Some("an address of lan0")),
    ("the node on the LAN", "fd07::1", Some("an address of lan0")),
    ("a ClusterIP", "10.96.0.80", Some("clusterIP of Service bank/web")),
    ("a ClusterIP", "fd96::80", Some("clusterIP of Service bank/web")),
    ("DNS", "10.96.0.10", Some("clusterIP of Service kube-system/kube-dns")),
    ("DNS", "fd96::a", Some("clusterIP of Service kube-system/kube-dns")),
    ("an external IP", "203.0.113.88", Some("externalIP of Service bank/web")),
    ("an external IP", "2001:db8:a::88", Some("externalIP of Service bank/web")),
    ("a load balancer", "203.0.113.99", Some("load balancer address of Service bank/web")),
    ("a load balancer", "2001:db8:a::99", Some("load balancer address of Service bank/web")),
    ("the LAN", "192.168.7.9", Some("the node's route 192.168.7.0/24 by lan0")),
    ("the LAN", "fd07::9", Some("the node's route fd07::/64 by lan0")),
    ("the LAN's broadcast", "192.168.7.255", Some("an address of lan0, or its broadcast address")),
    ("the uplink's broadcast", "10.8.0.255", Some("an address of s8, or its broadcast address")),
    ("the uplink's old broadcast", "10.8.0.0", Some("an address of s8, or its broadcast address")),
    ("limited broadcast", "255.255.255.255", Some("broadcast")),
    ("link-local, the node's DNS cache", "169.254.20.10", Some("link-local")),
    ("link-local, a cloud's metadata", "169.254.169.254", Some("link-local")),
    ("link-local", "fe80::1", Some("link-local")),
    ("multicast of the link", "224.0.0.251", Some("multicast")),
    ("multicast", "239.255.255.250", Some("multicast")),
    ("multicast of the link", "ff02::fb", Some("multicast")),
    ("multicast of the site", "ff05::c", Some("multicast")),
    ("loopback", "127.0.0.53", Some("loopback")),
    ("loopback", "::1", Some("loopback")),
    ("this network", "0.0.0.0", Some("this network")),
    ("a flag", "198.51.100.9", Some("--local-cidrs")),
    ("a flag", "2001:db8:f::9", Some("--local-cidrs")),
    ("an exception", "192.0.2.200", Some("is an exception of its destinations")),
    ("an exception", "2001:db8:e::1", Some("is an exception of its destinations")),
    ("the internet", "192.0.2.1", None),
    ("the internet", "2001:db8::1", None),
    ("the router of the uplink", "10.8.0.1", None),
    ("the router of the uplink", "fd00:8::1", None),
    ("a network by the uplink", "172.16.5.9", None),
    ("beside another node", "203.0.113.3", None),
    ("beside a ClusterIP", "10.97.0.10", None),
    ("beside a flag", "198.51.101.9", None),
];

fn cidr(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// An uplink, a LAN, the pods' bridge and an overlay.
fn node() -> HostNet {
    let device = |ifindex, name: &str, kind: &str, addresses: &[&str]| {
        let of = |text: &&str| DeviceAddress::global(cidr(text).addr(), cidr(text).prefix_len());
        let addresses = addresses.iter().map(of).collect();
        (ifindex, Device { ifindex, name: name.into(), kind: kind.into(), addresses, ..Device::default() })
    };
    let route = |to: &str, ifindex| HostRoute {
        destination: cidr(to).addr(),
        prefix: cidr(to).prefix_len(),
        gateway: None,
        ifindex,
        metric: 0,
        source: None,
    };
    let routes = [
        ("0.0.0.0/0", 8),
        ("::/0", 8),
        ("10.8.0.0/24", 8),
        ("fd00:8::/64", 8),
        ("172.16.0.0/12", 8),
        ("192.168.7.0/24", 3),
        ("fd07::/64", 3),
        ("10.244.0.0/24", 4),
        ("10.244.0.10/32", 7),
        ("fd00:244::10/128", 7),
        ("198.18.3.0/24", 5),
        ("2001:db8:3::/64", 5),
    ];
    HostNet {
        devices: [
            device(8, "s8", "", &["10.8.0.2/24", "fd00:8::2/64"]),
            device(3, "lan0", "", &["192.168.7.1/24", "fd07::1/64"]),
            device(4, "cni0", "bridge", &["10.244.0.1/24"]),
            device(5, "vxlan0", "vxlan", &[]),
            device(7, "veth7", "veth", &[]),
        ]
        .into(),
        routes: routes.map(|(to, ifindex)| route(to, ifindex)).to_vec().into(),
        ..HostNet::default()
    }
}

fn class(image: &Image, pod: &Pod, to: IpAddr, protocol: TrafficProtocol) -> u8 {
    let number = |icmp| match protocol {
        TrafficProtocol::Tcp => TCP,
        TrafficProtocol::Udp => UDP,
        TrafficProtocol::Icmp => icmp,
    };
    match to {
        IpAddr::V4(v4) => by_kernel(image, pod, (v4.octets(), 80), number(<[u8; 4]>::ICMP)),
        IpAddr::V6(v6) => by_kernel(image, pod, (v6.octets(), 80), number(<[u8; 16]>::ICMP)),
    }
}

#[test]
fn a_mapping_of_everything_takes_nothing_local() {
    let snapshot = read_all("f", OBJECTS);
    let compiled = compile(&snapshot, &Allocation::default(), 1, Purpose::default()).0;
    assert_eq!((snapshot.problems, &compiled.problems), (vec![], &vec![]));
    let (host, uplinks) = (node(), BTreeSet::from([8]));
    let client = ObjectKey { namespace: "shop".into(), name: "client".into() };
    let found = resolve_pod(&host, &uplinks, cidr("10.244.0.10/32").addr());
    let devices = BTreeMap::from([(client.clone(), found.unwrap_or_else(|e| panic!("{e}")))]);
    let flag = LocalRoutes::new(&[cidr("198.51.100.0/24"), cidr("2001:db8:f::/48")]);
    let (prefixes, left_out) = flag.prefixes(&compiled.policy.local, &host, &uplinks);
    assert_eq!(left_out, 0);
    let image = image(&compiled.policy, &LinkTable::default(), &devices, Arc::new(prefixes), PORTS);
    let pod = image.pods[&7];
    for (what, address, reason) in ROWS {
        let to: IpAddr = address.parse().unwrap_or_else(|e| panic!("{e}: {address}"));
        for protocol in [TrafficProtocol::Tcp, TrafficProtocol::Udp, TrafficProtocol::Icmp] {
            let taken = class(&image, &pod, to, protocol) != 0;
            assert_eq!(taken, reason.is_none(), "{what}, {address}, {protocol}");
            let local = |address| flag.reason(address, &compiled.policy.local, &host, &uplinks);
            let said = packet(&compiled.policy, &client, &BTreeMap::new(), address, protocol, local);
            assert_eq!(said.class.is_some(), taken, "{what}, {address}, {protocol}: {}", said.reason);
            assert!(
                reason.is_none_or(|words| said.reason.contains(words)),
                "{what}, {address}: {}",
                said.reason
            );
        }
    }
}
