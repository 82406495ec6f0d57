//! Problems and nodes to the status of each object.

use crate::cluster::condition::Said;
use crate::cluster::identity::{ObjectKey, ObjectKind};
use crate::cluster::problem::{Problem, Subject};
use crate::cluster::snapshot::Snapshot;
use crate::cluster::wan_mapping::{ClassNumber, WanMappingSpec};
use crate::policy::compiled::Compiled;
use std::collections::BTreeMap;

/// Nodes that a message names.
const NAMED: usize = 5;

/// What is to be said of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MappingWords {
    pub(super) classes: Vec<ClassNumber>,
    pub(super) said: Vec<Said>,
}

/// What is to be said of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkWords {
    pub(super) ready: i32,
    pub(super) total: i32,
    pub(super) said: Said,
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
    for (namespace, own) in &compiled.policy.namespaces {
        for class in own.classes.values() {
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
    links: &BTreeMap<String, LinkWords>,
    written: impl Fn(&ObjectKey) -> Written,
) -> BTreeMap<ObjectKey, MappingWords> {
    let mut numbers = classes(compiled);
    let mut one = |(key, mapping): (&ObjectKey, _)| {
        let mapping: &crate::cluster::snapshot::Mapping = mapping;
        let subject = Subject::object(ObjectKind::WanMapping, key);
        let of_mapping = |p: &&Problem| p.subject == subject;
        let (partial, whole): (Vec<_>, Vec<_>) =
            compiled.problems.iter().filter(of_mapping).partition(|p| p.reason.is_partial());
        let accepted = accepted(&whole);
        let programmed = match (accepted.holds, written(key)) {
            (Some(true), Written::NotNeeded) => Said::new(
                "Programmed",
                Some(true),
                "NotNeeded",
                "proxies are configured by the nodes' agents, or by hand",
            ),
            (Some(true), Written::Done) => {
                Said::new("Programmed", Some(true), "Written", "Istio's control plane has what sidecars need")
            }
            (Some(true), Written::Failed(why)) => Said::new("Programmed", Some(false), "NotWritten", why),
            _ => Said::new("Programmed", Some(false), "NotAccepted", "see Accepted"),
        };
        let degraded = degraded(&partial, &mapping.spec, links);
        let ready = ready(&accepted, &programmed);
        let said = vec![accepted, programmed, degraded, ready];
        (key.clone(), MappingWords { classes: numbers.remove(key).unwrap_or_default(), said })
    };
    snapshot.mappings.iter().map(|(key, mapping)| one((key, &**mapping))).collect()
}

fn accepted(refused: &[&Problem]) -> Said {
    let Some(first) = refused.first() else {
        return Said::new("Accepted", Some(true), "Accepted", "its requests can be told apart and steered");
    };
    let lines: Vec<_> = refused.iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
    Said::new("Accepted", Some(false), first.reason.name(), lines.join("\n"))
}

fn degraded(partial: &[&Problem], spec: &WanMappingSpec, links: &BTreeMap<String, LinkWords>) -> Said {
    if let Some(first) = partial.first() {
        let lines: Vec<_> = partial.iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
        return Said::new("Degraded", Some(true), first.reason.name(), lines.join("\n"));
    }
    let named = spec.links.iter().chain(spec.rules.iter().flat_map(|rule| &rule.links));
    let mut down: Vec<_> = named
        .filter_map(|name| {
            links.get(name).filter(|words| words.said.holds == Some(false)).map(|words| (name, words))
        })
        .map(|(name, words)| format!("{name} is usable on {} of {} nodes", words.ready, words.total))
        .collect();
    down.sort();
    down.dedup();
    if down.is_empty() {
        return Said::new("Degraded", Some(false), "AllLinksUsable", "every link is usable where it is");
    }
    Said::new("Degraded", Some(true), "LinkDown", down.join("; "))
}

fn ready(accepted: &Said, programmed: &Said) -> Said {
    match [accepted, programmed].into_iter().find(|said| said.holds != Some(true)) {
        None => Said::new("Ready", Some(true), "Steering", "its requests leave by its links"),
        Some(said) => Said::new("Ready", Some(false), &said.reason, said.message.clone()),
    }
}

/// The status of every link, by what the nodes say.
pub(super) fn links(snapshot: &Snapshot) -> BTreeMap<String, LinkWords> {
    snapshot.links.keys().map(|name| (name.clone(), link(snapshot, name))).collect()
}

fn link(snapshot: &Snapshot, name: &str) -> LinkWords {
    let (mut ready, mut down) = (0, Vec::new());
    for (node, status) in &snapshot.nodes {
        let Some(link) = status.links.iter().find(|link| link.name == name) else { continue };
        match link.conditions.iter().find(|c| c.type_ == "Ready") {
            Some(condition) if condition.status == "True" => ready += 1,
            Some(condition) => down.push((condition.reason.clone(), node)),
            None => down.push(("Unknown".to_owned(), node)),
        }
    }
    down.sort();
    let total = ready + i32::try_from(down.len()).unwrap_or(i32::MAX - ready);
    let said = match down.first() {
        _ if total == 0 => Said::new("Ready", None, "NoNode", "no node's agent has said anything of it yet"),
        None => Said::new("Ready", Some(true), "AllNodes", "usable on every node that has it"),
        Some((reason, _)) => {
            let more = if down.len() > NAMED { ", …" } else { "" };
            let named: Vec<_> = down.iter().take(NAMED).map(|(why, node)| format!("{node}: {why}")).collect();
            Said::new("Ready", Some(false), reason, format!("not usable on {}{more}", named.join(", ")))
        }
    };
    LinkWords { ready, total, said }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::condition::conditions;
    use crate::cluster::wan_link::WanLinkSpec;
    use crate::cluster::wan_node::{NodeLink, WanNodeStatus};
    use std::sync::Arc;

    fn node(link: &str, up: bool) -> Arc<WanNodeStatus> {
        let said = [Said::new("Ready", Some(up), if up { "Up" } else { "NoCarrier" }, "")];
        let conditions = conditions(&[], &said, None, jiff::Timestamp::default());
        let links = vec![NodeLink { name: link.into(), conditions }];
        Arc::new(WanNodeStatus { links, ..WanNodeStatus::default() })
    }

    #[test]
    fn a_link_is_as_good_as_its_worst_node() {
        let spec: WanLinkSpec =
            serde_json::from_str("{\"device\": \"s9\"}").unwrap_or_else(|e| panic!("{e}"));
        let mut snapshot =
            Snapshot { links: [("s9".to_owned(), Arc::new(spec))].into(), ..Snapshot::default() };
        let words = |snapshot: &Snapshot| {
            let words = link(snapshot, "s9");
            (words.ready, words.total, words.said.holds, words.said.reason)
        };
        assert_eq!(words(&snapshot), (0, 0, None, "NoNode".into()));
        snapshot.nodes.insert("a".into(), node("s9", true));
        snapshot.nodes.insert("other".into(), node("s8", false));
        assert_eq!(words(&snapshot), (1, 1, Some(true), "AllNodes".into()));
        snapshot.nodes.insert("b".into(), node("s9", false));
        assert_eq!(words(&snapshot), (1, 2, Some(false), "NoCarrier".into()));
        assert!(link(&snapshot, "s9").said.message.contains("b: NoCarrier"));
    }
}
