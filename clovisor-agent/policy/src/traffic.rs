//! Mappings with `traffic` to a table of prefixes.

mod shadowed;

use super::attachment::{Attachments, of_mapping};
use super::class::ClassId;
use super::model::{HOST_NETWORK, NamespacePolicy, PodIdentity, PodTraffic, PortClass, PrefixRules};
use clovisor_common::abi::TRAFFIC_RULES;
use clovisor_objects::identity::{ObjectKey, ObjectKind};
use clovisor_objects::near::remedy;
use clovisor_objects::problem::{Problem, Subject};
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::{FieldPath, Refusal};
use clovisor_objects::wan_mapping::traffic::{TrafficDestination, TrafficProtocol, TrafficSelector};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};

/// One destination of a mapping.
#[derive(Clone, Debug)]
struct TrafficEntry<'a> {
    mapping: &'a ObjectKey,
    field: FieldPath,
    net: IpNet,
    except: Vec<IpNet>,
    protocol: TrafficProtocol,
    ports: PortClass,
}

/// Adds the traffic of a namespace's accepted mappings to its policy.
pub(super) fn add(
    policy: &mut NamespacePolicy,
    namespace: &str,
    attachments: &Attachments<'_>,
) -> Vec<Problem> {
    let mut all = Vec::new();
    for (key, spec) in attachments.accepted.iter().filter(|(key, _)| key.namespace == namespace) {
        let class = policy.mappings.get(&key.name).and_then(|mapping| mapping.class);
        let (Some(class), Some(traffic)) = (class, &spec.traffic) else { continue };
        policy.traffic_pods.push(PodTraffic { labels: traffic.pods.clone(), class });
        all.extend(entries(key, traffic, class));
    }
    let (prefixes, mut problems) = prefixes(&all);
    policy.traffic = prefixes;
    problems.extend(shadowed::shadowed(namespace, attachments));
    problems
}

/// The mappings of the namespace whose labels none of its pods has; nothing is said where no pod is known.
pub(super) fn unselected(
    namespace: &str,
    attachments: &Attachments<'_>,
    pods: &BTreeMap<ObjectKey, PodIdentity>,
) -> Vec<Problem> {
    let here: Vec<_> =
        pods.iter().filter(|(key, _)| key.namespace == namespace).map(|(_, pod)| pod).collect();
    let selects = |labels: &BTreeMap<String, String>| {
        here.iter().any(|pod| labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value)))
    };
    let mappings =
        attachments.accepted.iter().filter(|(key, _)| key.namespace == namespace && !here.is_empty());
    let without = mappings.filter(|(_, spec)| spec.traffic.as_ref().is_some_and(|t| !selects(&t.pods)));
    let problem = |(key, _): (&ObjectKey, _)| {
        let message = "no pod of the namespace has these labels; compare them with those of the pods";
        of_mapping(key, Refusal::new(ProblemReason::NoEffect, "spec.traffic.pods", message))
    };
    without.map(problem).collect()
}

/// The mappings of a namespace that no pod is in, though pods are known.
pub(super) fn deserted(
    namespace: &str,
    attachments: &Attachments<'_>,
    pods: &BTreeMap<ObjectKey, PodIdentity>,
) -> Vec<Problem> {
    let populated: BTreeSet<_> = pods.keys().map(|pod| pod.namespace.as_str()).collect();
    if populated.is_empty() || populated.contains(namespace) {
        return Vec::new();
    }
    let message = format!(
        "no pod is in the namespace {namespace} ({}); a mapping governs pods of its own namespace",
        remedy(namespace, populated)
    );
    let mappings = attachments.accepted.keys().filter(|key| key.namespace == namespace);
    let problem =
        |key| of_mapping(key, Refusal::new(ProblemReason::NoEffect, "metadata.namespace", message.clone()));
    mappings.map(problem).collect()
}

/// The pods of the namespace that a mapping selects and that have no network of their own.
pub(super) fn unsteered(
    policy: &NamespacePolicy,
    namespace: &str,
    pods: &BTreeMap<ObjectKey, PodIdentity>,
) -> Vec<Problem> {
    let here = pods.iter().filter(|(key, pod)| key.namespace == namespace && pod.host_network);
    let selected = here.filter_map(|(key, pod)| {
        let class = policy.classes.get(policy.traffic_of(&pod.labels).first()?)?;
        let message = format!(
            "WanMapping {} selects the pod, which {HOST_NETWORK}; exclude it by spec.traffic.pods, or give it a \
             network of its own",
            class.key
        );
        let refusal = Refusal::new(ProblemReason::PodNotSteered, "spec.hostNetwork", message);
        Some(Problem::new(Subject::object(ObjectKind::Pod, key), refusal))
    });
    selected.collect()
}

fn entries<'a>(key: &'a ObjectKey, traffic: &TrafficSelector, class: ClassId) -> Vec<TrafficEntry<'a>> {
    let one = |(i, destination): (usize, &TrafficDestination)| {
        let (min, max) = destination.ports()?;
        Some(TrafficEntry {
            mapping: key,
            field: FieldPath::from("spec.traffic.destinations").index(i),
            net: destination.cidr.trunc(),
            except: destination.except.iter().map(IpNet::trunc).collect(),
            protocol: destination.protocol,
            ports: PortClass { min, max, class },
        })
    };
    traffic.destinations.iter().enumerate().filter_map(one).collect()
}

/// Each prefix with its own rules, the narrowest range first, and then those of the shorter prefixes that contain it, but
/// for those that except it: the kernel looks at the longest prefix only. An exception is a prefix, too. Rules beyond `TRAFFIC_RULES` are left out, with a problem each.
fn prefixes(entries: &[TrafficEntry<'_>]) -> (Vec<PrefixRules>, Vec<Problem>) {
    let mut by_net = BTreeMap::<(TrafficProtocol, IpNet), Vec<&TrafficEntry<'_>>>::new();
    for entry in entries {
        by_net.entry((entry.protocol, entry.net)).or_default().push(entry);
        for except in &entry.except {
            by_net.entry((entry.protocol, *except)).or_default();
        }
    }
    by_net.values_mut().for_each(|rules| rules.sort_by_key(|w| (w.ports.max - w.ports.min, w.mapping)));
    let (mut prefixes, mut problems) = (Vec::new(), Vec::new());
    for (protocol, net) in by_net.keys() {
        let around = |other: &&(TrafficProtocol, IpNet)| other.0 == *protocol && other.1.contains(net);
        let mut chain: Vec<_> = by_net.keys().filter(around).collect();
        chain.sort_by_key(|(_, other)| std::cmp::Reverse(other.prefix_len()));
        let means = |entry: &&&TrafficEntry<'_>| !entry.except.iter().any(|except| except.contains(net));
        let all: Vec<_> = chain.iter().filter_map(|key| by_net.get(key)).flatten().filter(means).collect();
        for left in all.iter().skip(TRAFFIC_RULES) {
            let message = format!(
                "more than {TRAFFIC_RULES} destinations cover {net}; this one is left out there: join port ranges \
                 or mappings"
            );
            problems.push(of_mapping(left.mapping, Refusal::invalid_rule(left.field.clone(), message)));
        }
        let rules = all.iter().take(TRAFFIC_RULES).map(|w| w.ports).collect();
        prefixes.push(PrefixRules { protocol: *protocol, net: *net, rules });
    }
    (prefixes, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(key: &'a ObjectKey, net: &str, (min, max): (u16, u16), class: u8) -> TrafficEntry<'a> {
        let net = net.parse().unwrap_or_else(|e| panic!("{e}: {net}"));
        let ports = PortClass { min, max, class: ClassId(class) };
        let protocol = TrafficProtocol::Udp;
        TrafficEntry { mapping: key, field: "f".into(), net, except: Vec::new(), protocol, ports }
    }

    #[test]
    fn a_prefix_repeats_what_is_around_it() {
        let key = ObjectKey { namespace: "shop".into(), name: "m".into() };
        let all = [
            entry(&key, "10.0.0.0/8", (0, u16::MAX), 1),
            entry(&key, "10.1.0.0/16", (1, 9), 2),
            entry(&key, "10.1.0.0/16", (5, 5), 3),
            entry(&key, "10.2.0.0/16", (5, 5), 4),
            entry(&key, "2001:db8::/32", (5, 5), 5),
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
    fn an_exception_leaves_what_others_say() {
        let key = ObjectKey { namespace: "shop".into(), name: "m".into() };
        let cidr = |net: &str| net.parse::<IpNet>().unwrap_or_else(|e| panic!("{e}: {net}"));
        let except = |nets: &[&str]| nets.iter().map(|net| cidr(net)).collect::<Vec<_>>();
        let all = [
            TrafficEntry {
                except: except(&["10.0.0.0/8", "192.0.2.0/24"]),
                ..entry(&key, "0.0.0.0/0", (0, 9), 1)
            },
            entry(&key, "10.1.0.0/16", (0, 9), 2),
            TrafficEntry { except: except(&["10.1.2.0/24"]), ..entry(&key, "10.1.0.0/16", (0, 5), 3) },
        ];
        let (prefixes, problems) = prefixes(&all);
        assert_eq!(problems, []);
        let classes = |p: &PrefixRules| p.rules.iter().map(|rule| rule.class.0).collect::<Vec<_>>();
        let found: BTreeMap<_, _> = prefixes.iter().map(|p| (p.net.to_string(), classes(p))).collect();
        let expected = [
            ("0.0.0.0/0", vec![1]),
            ("10.0.0.0/8", vec![]),
            ("10.1.0.0/16", vec![3, 2]),
            ("10.1.2.0/24", vec![2]),
            ("192.0.2.0/24", vec![]),
        ];
        assert_eq!(found, expected.map(|(net, classes)| (net.to_owned(), classes)).into());
    }

    #[test]
    fn what_has_no_room_is_named() {
        let key = ObjectKey { namespace: "shop".into(), name: "m".into() };
        let all: Vec<_> = (1..=17).map(|port| entry(&key, "10.0.0.0/8", (port, port), 1)).collect();
        let (prefixes, problems) = prefixes(&all);
        assert_eq!(prefixes.first().map(|p| p.rules.len()), Some(16));
        assert_eq!(problems.len(), 1);
    }
}
