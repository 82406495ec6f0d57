//! Mappings of traffic to a table by prefix: pure.

use super::attachment::{Claims, problem};
use super::class::ClassId;
use super::model::{NamespacePolicy, PodTraffic, PortClass, PrefixRules};
use crate::cluster::snapshot::{ObjectKey, Problem};
use crate::cluster::wan_mapping::traffic::{TrafficDestination, TrafficProtocol, TrafficSelector};
use clovisor_common::abi::TRAFFIC_RULES;
use ipnet::IpNet;
use std::collections::BTreeMap;

/// What a destination of a mapping comes to.
#[derive(Clone, Debug)]
struct Wanted<'a> {
    mapping: &'a ObjectKey,
    field: String,
    net: IpNet,
    protocol: TrafficProtocol,
    ports: PortClass,
}

/// Adds the traffic of a namespace's accepted mappings to its policy.
pub(super) fn add(own: &mut NamespacePolicy, namespace: &str, claims: &Claims<'_>) -> Vec<Problem> {
    let mut wanted = Vec::new();
    for (key, spec) in claims.accepted.iter().filter(|(key, _)| key.namespace == namespace) {
        let class = own.mappings.get(&key.name).and_then(|mapping| mapping.class);
        let (Some(class), Some(traffic)) = (class, &spec.traffic) else { continue };
        own.traffic_pods.push(PodTraffic { labels: traffic.pods.clone(), class });
        wanted.extend(of_mapping(key, traffic, class));
    }
    let (prefixes, problems) = prefixes(&wanted);
    own.traffic = prefixes;
    problems
}

fn of_mapping<'a>(key: &'a ObjectKey, traffic: &TrafficSelector, class: ClassId) -> Vec<Wanted<'a>> {
    let one = |(i, destination): (usize, &TrafficDestination)| {
        let (min, max) = destination.ports()?;
        Some(Wanted {
            mapping: key,
            field: format!("spec.traffic.destinations[{i}]"),
            net: destination.cidr.trunc(),
            protocol: destination.protocol,
            ports: PortClass { min, max, class },
        })
    };
    traffic.destinations.iter().enumerate().filter_map(one).collect()
}

/// Each prefix with its own rules, narrow ranges first, then those of the prefixes around it: the kernel looks at the
/// longest prefix only. Rules for which there is no room are left out, with a problem each.
fn prefixes(wanted: &[Wanted<'_>]) -> (Vec<PrefixRules>, Vec<Problem>) {
    let mut own = BTreeMap::<(TrafficProtocol, IpNet), Vec<&Wanted<'_>>>::new();
    for one in wanted {
        own.entry((one.protocol, one.net)).or_default().push(one);
    }
    own.values_mut().for_each(|rules| rules.sort_by_key(|w| (w.ports.max - w.ports.min, w.mapping)));
    let (mut prefixes, mut problems) = (Vec::new(), Vec::new());
    for (protocol, net) in own.keys() {
        let around = |other: &&(TrafficProtocol, IpNet)| other.0 == *protocol && other.1.contains(net);
        let mut chain: Vec<_> = own.keys().filter(around).collect();
        chain.sort_by_key(|(_, other)| std::cmp::Reverse(other.prefix_len()));
        let all: Vec<_> = chain.iter().filter_map(|key| own.get(key)).flatten().collect();
        for left in all.iter().skip(TRAFFIC_RULES) {
            let message = format!(
                "more than {TRAFFIC_RULES} destinations meet at {net}; this one does not hold there: join \
                 ranges of ports or mappings"
            );
            problems.push(problem("InvalidRule", left.mapping, left.field.clone(), message));
        }
        let rules = all.iter().take(TRAFFIC_RULES).map(|w| w.ports).collect();
        prefixes.push(PrefixRules { protocol: *protocol, net: *net, rules });
    }
    (prefixes, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted<'a>(key: &'a ObjectKey, net: &str, (min, max): (u16, u16), class: u8) -> Wanted<'a> {
        let net = net.parse().unwrap_or_else(|e| panic!("{e}: {net}"));
        let ports = PortClass { min, max, class: ClassId(class) };
        Wanted { mapping: key, field: "f".into(), net, protocol: TrafficProtocol::Udp, ports }
    }

    #[test]
    fn a_prefix_repeats_what_is_around_it() {
        let key = ObjectKey { namespace: "shop".into(), name: "m".into() };
        let all = [
            wanted(&key, "10.0.0.0/8", (0, u16::MAX), 1),
            wanted(&key, "10.1.0.0/16", (1, 9), 2),
            wanted(&key, "10.1.0.0/16", (5, 5), 3),
            wanted(&key, "10.2.0.0/16", (5, 5), 4),
            wanted(&key, "2001:db8::/32", (5, 5), 5),
        ];
        let (prefixes, problems) = prefixes(&all);
        assert_eq!(problems, []);
        let text: Vec<_> = prefixes
            .iter()
            .map(|p| (p.net.to_string(), p.rules.iter().map(|r| r.class.0).collect::<Vec<_>>()))
            .collect();
        let expected = [
            ("10.0.0.0/8", vec![1]),
            ("10.1.0.0/16", vec![3, 2, 1]),
            ("10.2.0.0/16", vec![4, 1]),
            ("2001:db8::/32", vec![5]),
        ];
        assert_eq!(text, expected.map(|(net, classes)| (net.to_owned(), classes)));
    }

    #[test]
    fn what_has_no_room_is_named() {
        let key = ObjectKey { namespace: "shop".into(), name: "m".into() };
        let all: Vec<_> = (1..=17).map(|port| wanted(&key, "10.0.0.0/8", (port, port), 1)).collect();
        let (prefixes, problems) = prefixes(&all);
        assert_eq!(prefixes.first().map(|p| p.rules.len()), Some(16));
        assert_eq!(problems.len(), 1);
    }
}
