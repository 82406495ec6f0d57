//! Problems and nodes to the status of each object.

use clovisor_objects::condition::NewCondition;
use clovisor_objects::identity::{ObjectKey, ObjectKind};
use clovisor_objects::problem::{Problem, Subject};
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::snapshot::Snapshot;
use clovisor_objects::wan_mapping::{ClassNumber, Fallback, WanMappingSpec};
use clovisor_policy::compiled::Compiled;
use std::collections::{BTreeMap, BTreeSet};

/// Nodes that a message names.
const NAMED: usize = 5;

/// The status of a mapping, without the times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MappingState {
    pub(super) classes: Vec<ClassNumber>,
    pub(super) conditions: Vec<NewCondition>,
}

/// The status of a link, without the times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkReadiness {
    pub(super) ready: i32,
    pub(super) total: i32,
    /// Nodes where it is usable for one address family only.
    pub(super) partial: i32,
    pub(super) condition: NewCondition,
}

/// Whether what proxies need of a mapping is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Nobody has to write anything.
    NotNeeded,
    Done,
    Failed(String),
}

/// The class numbers of each mapping in force.
pub(super) fn classes(compiled: &Compiled) -> BTreeMap<ObjectKey, Vec<ClassNumber>> {
    let mut all = BTreeMap::<ObjectKey, Vec<ClassNumber>>::new();
    for (namespace, ns) in &compiled.policy.namespaces {
        for class in ns.classes.values() {
            let key = ObjectKey { namespace: namespace.clone(), name: class.key.mapping.clone() };
            let number = ClassNumber { rule: class.key.rule.clone(), number: class.id.0.into() };
            all.entry(key).or_default().push(number);
        }
    }
    for numbers in all.values_mut() {
        numbers.sort_by(|a, b| a.rule.cmp(&b.rule));
    }
    all
}

/// The status of every mapping.
pub(super) fn mappings(
    snapshot: &Snapshot,
    compiled: &Compiled,
    links: &BTreeMap<String, LinkReadiness>,
    written: impl Fn(&ObjectKey) -> Written,
) -> BTreeMap<ObjectKey, MappingState> {
    let mut numbers = classes(compiled);
    let mut one = |(key, mapping): (&ObjectKey, _)| {
        let mapping: &clovisor_objects::snapshot::MappingObject = mapping;
        let subject = Subject::object(ObjectKind::WanMapping, key);
        let of_mapping = |p: &&Problem| p.subject == subject;
        let (partial, whole): (Vec<_>, Vec<_>) =
            compiled.problems.iter().filter(of_mapping).partition(|p| p.reason.is_partial());
        let partial: Vec<_> = partial.into_iter().filter(|p| p.reason != ProblemReason::NoEffect).collect();
        let accepted = accepted(&whole);
        let programmed = match (accepted.status, written(key)) {
            (Some(true), Written::NotNeeded) => NewCondition::new(
                "Programmed",
                Some(true),
                "NotNeeded",
                "proxies are configured by the nodes' agents, or by hand",
            ),
            (Some(true), Written::Done) => NewCondition::new(
                "Programmed",
                Some(true),
                "Written",
                "Istio's control plane has what sidecars need",
            ),
            (Some(true), Written::Failed(why)) => {
                NewCondition::new("Programmed", Some(false), "NotWritten", why)
            }
            _ => NewCondition::new("Programmed", Some(false), "NotAccepted", "see Accepted"),
        };
        let degraded = degraded(&partial, &mapping.spec, links);
        let ready = ready(&accepted, &programmed, &all_down(&mapping.spec, links));
        let conditions = vec![accepted, programmed, degraded, ready];
        (key.clone(), MappingState { classes: numbers.remove(key).unwrap_or_default(), conditions })
    };
    snapshot.mappings.iter().map(|(key, mapping)| one((key, &**mapping))).collect()
}

fn accepted(refused: &[&Problem]) -> NewCondition {
    let Some(first) = refused.first() else {
        return NewCondition::new(
            "Accepted",
            Some(true),
            "Accepted",
            "its requests can be told apart and steered",
        );
    };
    let lines: Vec<_> = refused.iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
    NewCondition::new("Accepted", Some(false), first.reason.name(), lines.join("\n"))
}

fn degraded(
    partial: &[&Problem],
    spec: &WanMappingSpec,
    links: &BTreeMap<String, LinkReadiness>,
) -> NewCondition {
    if let Some(first) = partial.first() {
        let lines: Vec<_> = partial.iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
        return NewCondition::new("Degraded", Some(true), first.reason.name(), lines.join("\n"));
    }
    let named = spec.links.iter().chain(spec.rules.iter().flat_map(|rule| &rule.links));
    let named: BTreeMap<_, _> = named.filter_map(|name| Some((name, links.get(name)?))).collect();
    let lacking = |(name, readiness): (&&String, &&LinkReadiness)| {
        let LinkReadiness { ready, total, partial, condition } = readiness;
        match condition.status {
            Some(false) => Some(("LinkDown", format!("{name} is usable on {ready} of {total} nodes"))),
            _ if *partial > 0 => {
                let said =
                    format!("{name} is usable for one address family only on {partial} of {total} nodes");
                Some(("LinkPartial", said))
            }
            _ => None,
        }
    };
    let lacking: Vec<_> = named.iter().filter_map(lacking).collect();
    let Some(reason) = lacking.iter().map(|(reason, _)| *reason).min() else {
        return NewCondition::new(
            "Degraded",
            Some(false),
            "AllLinksUsable",
            "every link is usable where it is",
        );
    };
    let said: Vec<_> = lacking.into_iter().map(|(_, said)| said).collect();
    NewCondition::new("Degraded", Some(true), reason, said.join("; "))
}

fn ready(accepted: &NewCondition, programmed: &NewCondition, all_down: &Option<String>) -> NewCondition {
    match [accepted, programmed].into_iter().find(|condition| condition.status != Some(true)) {
        Some(failed) => NewCondition::new("Ready", Some(false), &failed.reason, failed.message.clone()),
        None => match all_down {
            Some(message) => NewCondition::new("Ready", Some(false), "AllLinksDown", message),
            None => NewCondition::new("Ready", Some(true), "Steering", "its requests leave by its links"),
        },
    }
}

/// Says that no node has a usable link for any of the mapping's lists. A link that no node has reported on may be usable.
fn all_down(spec: &WanMappingSpec, links: &BTreeMap<String, LinkReadiness>) -> Option<String> {
    let named: BTreeSet<_> =
        spec.links.iter().chain(spec.rules.iter().flat_map(|rule| &rule.links)).collect();
    let mut down = Vec::new();
    for name in named {
        match links.get(name) {
            None => down.push(format!("{name} does not exist")),
            Some(LinkReadiness { ready: 0, condition, .. }) if condition.status == Some(false) => {
                down.push(format!("{name} is {}", condition.message));
            }
            Some(_) => return None,
        }
    }
    let then = match spec.on_links_down {
        Fallback::Default => "its requests take the default route (onLinksDown: Default)",
        Fallback::Refuse => "its requests are refused (onLinksDown: Refuse)",
    };
    (!down.is_empty())
        .then(|| format!("none of its links is usable on any node: {}; {then}", down.join("; ")))
}

/// The status of every link, by what the nodes say.
pub(super) fn links(snapshot: &Snapshot) -> BTreeMap<String, LinkReadiness> {
    snapshot.links.keys().map(|name| (name.clone(), link(snapshot, name))).collect()
}

fn link(snapshot: &Snapshot, name: &str) -> LinkReadiness {
    let (mut ready, mut down, mut partial) = (0, Vec::new(), Vec::new());
    for (node, status) in &snapshot.nodes {
        let Some(link) = status.links.iter().find(|link| link.name == name) else { continue };
        match link.conditions.iter().find(|c| c.type_ == "Ready") {
            Some(condition) if condition.status == "True" => {
                ready += 1;
                partial.extend(
                    link.lacking().into_iter().map(|(family, why)| format!("{node}: {family} {why}")),
                );
            }
            Some(condition) => down.push((condition.reason.clone(), node)),
            None => down.push(("Unknown".to_owned(), node)),
        }
    }
    down.sort();
    let total = ready + i32::try_from(down.len()).unwrap_or(i32::MAX - ready);
    let condition = match down.first() {
        _ if total == 0 => {
            NewCondition::new("Ready", None, "NoNode", "no node's agent has said anything of it yet")
        }
        None if partial.is_empty() => {
            NewCondition::new("Ready", Some(true), "AllNodes", "usable on every node that has it")
        }
        None => {
            let message = format!("usable for one address family only on {}", named(&partial));
            NewCondition::new("Ready", Some(true), "Partial", message)
        }
        Some((reason, _)) => {
            let down: Vec<_> = down.iter().map(|(why, node)| format!("{node}: {why}")).collect();
            NewCondition::new("Ready", Some(false), reason, format!("not usable on {}", named(&down)))
        }
    };
    LinkReadiness { ready, total, partial: i32::try_from(partial.len()).unwrap_or(i32::MAX), condition }
}

/// The first ones of a list.
fn named(all: &[String]) -> String {
    let more = if all.len() > NAMED { ", …" } else { "" };
    let first: Vec<_> = all.iter().take(NAMED).map(String::as_str).collect();
    format!("{}{more}", first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clovisor_objects::condition::conditions;
    use clovisor_objects::wan_link::WanLinkSpec;
    use clovisor_objects::wan_node::{NodeLink, WanNodeStatus};
    use std::sync::Arc;

    fn node(link: &str, up: bool) -> Arc<WanNodeStatus> {
        let new = [NewCondition::new("Ready", Some(up), if up { "Up" } else { "NoCarrier" }, "")];
        let conditions = conditions(&[], &new, None, jiff::Timestamp::default());
        let links = vec![NodeLink { name: link.into(), conditions }];
        Arc::new(WanNodeStatus { links, ..WanNodeStatus::default() })
    }

    #[test]
    fn a_link_is_as_good_as_its_worst_node() {
        let spec: WanLinkSpec =
            serde_json::from_str("{\"device\": \"s9\"}").unwrap_or_else(|e| panic!("{e}"));
        let mut snapshot =
            Snapshot { links: [("s9".to_owned(), Arc::new(spec))].into(), ..Snapshot::default() };
        let readiness = |snapshot: &Snapshot| {
            let readiness = link(snapshot, "s9");
            (readiness.ready, readiness.total, readiness.condition.status, readiness.condition.reason)
        };
        assert_eq!(readiness(&snapshot), (0, 0, None, "NoNode".into()));
        snapshot.nodes.insert("a".into(), node("s9", true));
        snapshot.nodes.insert("other".into(), node("s8", false));
        assert_eq!(readiness(&snapshot), (1, 1, Some(true), "AllNodes".into()));
        snapshot.nodes.insert("b".into(), node("s9", false));
        assert_eq!(readiness(&snapshot), (1, 2, Some(false), "NoCarrier".into()));
        assert!(link(&snapshot, "s9").condition.message.contains("b: NoCarrier"));
    }

    #[test]
    fn a_mapping_is_not_ready_while_no_node_has_a_link_for_it() {
        let spec: WanMappingSpec = serde_json::from_value(serde_json::json!({
            "targetRefs": [], "links": ["s9"], "onLinksDown": "Refuse",
            "rules": [{ "name": "crew", "links": ["s8", "s9"] }],
        }))
        .unwrap_or_else(|e| panic!("{e}"));
        let readiness = |ready: i32, status| LinkReadiness {
            ready,
            total: 2,
            partial: 0,
            condition: NewCondition::new("Ready", status, "NoCarrier", "not usable on a: NoCarrier"),
        };
        let ready = |s8, s9| {
            let links = BTreeMap::from([("s8".to_owned(), s8), ("s9".to_owned(), s9)]);
            let good = NewCondition::new("Accepted", Some(true), "Accepted", "");
            ready(&good, &good, &all_down(&spec, &links))
        };
        let (down, somewhere, unknown) =
            (readiness(0, Some(false)), readiness(1, Some(false)), readiness(0, None));
        let found = ready(down.clone(), down.clone());
        assert_eq!((found.status, found.reason.as_str()), (Some(false), "AllLinksDown"));
        assert!(found.message.contains("s9 is not usable on a: NoCarrier"), "{}", found.message);
        assert!(found.message.ends_with("refused (onLinksDown: Refuse)"), "{}", found.message);
        for other in [somewhere, unknown] {
            assert_eq!(ready(down.clone(), other).status, Some(true));
        }
    }
}
