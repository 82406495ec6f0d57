//! Local destinations, as far as objects tell: what no mapping of traffic takes.

use clovisor_objects::snapshot::Snapshot;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks of one scope, for the longest match, each with the reason why it is local.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalNets(BTreeMap<IpNet, String>);

/// What is local by its number (RFC 6890), and why.
const BY_NUMBER: [(IpNet, &str); 9] = [
    (v4([0, 0, 0, 0], 8), "this network"),
    (v4([127, 0, 0, 0], 8), "loopback"),
    (v4([169, 254, 0, 0], 16), "link-local"),
    (v4([224, 0, 0, 0], 4), "multicast"),
    (v4([255, 255, 255, 255], 32), "broadcast"),
    (v6(0, 128), "no address"),
    (v6(1, 128), "loopback"),
    (v6(0xfe80 << 112, 10), "link-local"),
    (v6(0xff << 120, 8), "multicast"),
];

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn v6(address: u128, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(address), length))
}

impl LocalNets {
    /// What is local by its number, and the pods, nodes and Services of a snapshot.
    #[must_use]
    pub fn new(snapshot: &Snapshot) -> Self {
        let mut nets = Self::default();
        for (net, reason) in BY_NUMBER {
            nets.add(net, reason.to_owned());
        }
        for (key, pod) in &snapshot.pods {
            pod.addresses
                .iter()
                .for_each(|address| nets.add((*address).into(), format!("address of Pod {key}")));
        }
        for (name, node) in &snapshot.kube_nodes {
            node.addresses.iter().for_each(|a| nets.add((*a).into(), format!("address of Node {name}")));
            node.pod_cidrs.iter().for_each(|cidr| nets.add(*cidr, format!("pods of Node {name}")));
        }
        for (key, service) in &snapshot.services {
            service.addresses().for_each(|(a, what)| nets.add(a.into(), format!("{what} of Service {key}")));
        }
        nets
    }

    /// Why all of a network is local by its number; none: it is not.
    #[must_use]
    pub fn by_number(net: IpNet) -> Option<&'static str> {
        BY_NUMBER.iter().find(|(around, _)| around.contains(&net)).map(|(_, reason)| *reason)
    }

    /// Adds a network. Nobody means all of a family by what is local: an empty prefix is left out.
    pub fn add(&mut self, net: IpNet, reason: String) {
        if net.prefix_len() > 0 {
            self.0.entry(net.trunc()).or_insert(reason);
        }
    }

    /// Why the address is local; none: no network contains it.
    #[must_use]
    pub fn reason(&self, address: IpAddr) -> Option<&str> {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let around = (0..=length).rev().filter_map(|length| IpNet::new(address, length).ok());
        around.filter_map(|net| self.0.get(&net.trunc())).next().map(String::as_str)
    }

    /// The networks.
    pub fn nets(&self) -> impl Iterator<Item = IpNet> {
        self.0.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clovisor_objects::document::read_all;

    const OBJECTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop}
status: {podIP: 10.1.0.5, podIPs: [{ip: 10.1.0.5}, {ip: \"fd01::5\"}]}
---
apiVersion: v1
kind: Node
metadata: {name: edge-2}
spec: {podCIDR: 10.1.7.0/24, podCIDRs: [10.1.7.0/24, \"fd01:7::/64\"]}
status: {addresses: [{type: InternalIP, address: 192.0.2.7}, {type: Hostname, address: edge-2}]}
---
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: kube-system}
spec: {clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10, \"fd96::a\"], externalIPs: [198.51.100.9], ports: [{port: 53}]}
status: {loadBalancer: {ingress: [{ip: 198.51.100.10}, {hostname: x.example}]}}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: shop}
spec: {clusterIP: None}
status: {loadBalancer: null}
";

    #[test]
    fn objects_and_numbers_say_what_is_local() {
        let snapshot = read_all("f", OBJECTS);
        assert_eq!(snapshot.problems, []);
        let nets = LocalNets::new(&snapshot);
        for (address, reason) in [
            ("10.1.0.5", Some("address of Pod shop/a")),
            ("fd01::5", Some("address of Pod shop/a")),
            ("10.1.7.200", Some("pods of Node edge-2")),
            ("fd01:7::1", Some("pods of Node edge-2")),
            ("192.0.2.7", Some("address of Node edge-2")),
            ("10.96.0.10", Some("clusterIP of Service kube-system/dns")),
            ("fd96::a", Some("clusterIP of Service kube-system/dns")),
            ("198.51.100.9", Some("externalIP of Service kube-system/dns")),
            ("198.51.100.10", Some("load balancer address of Service kube-system/dns")),
            ("169.254.20.10", Some("link-local")),
            ("fe80::1", Some("link-local")),
            ("224.0.0.251", Some("multicast")),
            ("ff02::fb", Some("multicast")),
            ("255.255.255.255", Some("broadcast")),
            ("127.0.0.1", Some("loopback")),
            ("::1", Some("loopback")),
            ("10.1.0.6", None),
            ("192.0.2.8", None),
            ("203.0.113.10", None),
            ("2001:db8::1", None),
        ] {
            let parsed = address.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(nets.reason(parsed), reason, "{address}");
        }
    }
}
