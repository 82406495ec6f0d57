//! The state of a node as conditions; pure.

use crate::link::table::{Health, LinkEntry, LinkTable, Overall};
use clovisor_datapath::kernel::state::KernelState;
use clovisor_datapath::kernel::tables::Fill;
use clovisor_objects::condition::{NewCondition, conditions};
use clovisor_objects::family::IpFamily;
use clovisor_objects::wan_node::{NodeLink, WanNodeStatus, ready_kind};
use std::collections::BTreeMap;

/// The conditions of a node and of its links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeState {
    pub(super) ready: NewCondition,
    pub(super) tables_full: NewCondition,
    pub(super) links: BTreeMap<String, LinkConditions>,
}

/// The conditions of a link: of both families taken together, and of each that the link has or should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkConditions {
    pub(super) ready: NewCondition,
    pub(super) families: Vec<NewCondition>,
}

impl NodeState {
    /// `waiting`: what the start still waits for; `full`: the flow tables that are nearly full.
    pub(super) fn new(
        links: &LinkTable,
        kernel: &KernelState,
        waiting: &[&'static str],
        full: &[Fill],
    ) -> Self {
        let links: BTreeMap<_, _> =
            links.links.iter().map(|(name, link)| (name.clone(), of_link(link))).collect();
        let ready = ready(&links, kernel, waiting);
        Self { ready, tables_full: tables_full(full), links }
    }

    /// The status now; a condition that stays as it was before keeps its time.
    pub(super) fn status(&self, before: &WanNodeStatus, now: jiff::Timestamp) -> WanNodeStatus {
        let ready = self.links.values().filter(|link| link.ready.status == Some(true)).count();
        let one = |(name, link): (&String, &LinkConditions)| {
            let old =
                before.links.iter().find(|link| link.name == *name).map_or(&[][..], |link| &link.conditions);
            let all = [&[link.ready.clone()][..], &link.families].concat();
            let conditions = conditions(old, &all, None, now);
            NodeLink { name: name.clone(), conditions }
        };
        let own = [self.ready.clone(), self.tables_full.clone()];
        WanNodeStatus {
            conditions: conditions(&before.conditions, &own, None, now),
            links_ready: format!("{ready}/{}", self.links.len()),
            links: self.links.iter().map(one).collect(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

fn of_link(link: &LinkEntry) -> LinkConditions {
    let trouble = link.trouble().unwrap_or_default();
    let ready = match (link.overall(), link.faults().first()) {
        (Overall::Down, fault) => {
            let reason = fault.map_or("Down", |(_, reason)| reason.name());
            NewCondition::new("Ready", Some(false), reason, trouble)
        }
        (Overall::Partial, _) => {
            let message = format!("it takes traffic of one address family only: {trouble}");
            NewCondition::new("Ready", Some(true), "Partial", message)
        }
        (Overall::Up, _) => {
            let message = link.closed().map_or("it takes traffic".into(), |closed| format!("it {closed}"));
            NewCondition::new("Ready", Some(true), "Up", message)
        }
    };
    let expected = link.health.iter().filter(|(family, _)| *link.expected.of(*family));
    LinkConditions {
        ready,
        families: expected.map(|(family, health)| of_family(link, family, *health)).collect(),
    }
}

fn of_family(link: &LinkEntry, family: IpFamily, health: Health) -> NewCondition {
    let kind = ready_kind(family);
    match health {
        Health::Up => NewCondition::new(kind, Some(true), "Up", format!("it takes {family} traffic")),
        Health::Down(reason) => NewCondition::new(kind, Some(false), reason.name(), link.words(reason)),
    }
}

fn ready(
    links: &BTreeMap<String, LinkConditions>,
    kernel: &KernelState,
    waiting: &[&'static str],
) -> NewCondition {
    let down = links.values().any(|link| link.ready.status != Some(true));
    let lacking = links.iter().filter_map(|(name, link)| lacks(name, link));
    let lacking: Vec<_> = lacking.collect();
    if !waiting.is_empty() {
        NewCondition::new("Ready", Some(false), "Starting", format!("waiting for {}", waiting.join(", ")))
    } else if let Some(error) = &kernel.error {
        NewCondition::new("Ready", Some(false), "NotProgrammed", error.to_string())
    } else if lacking.is_empty() {
        let message = "programs and maps are in place, every link is usable";
        NewCondition::new("Ready", Some(true), "Steering", message)
    } else {
        let reason = if down { "LinkDown" } else { "LinkPartial" };
        NewCondition::new("Ready", Some(false), reason, lacking.join(", "))
    }
}

/// What a link cannot do now, shortly.
fn lacks(name: &str, link: &LinkConditions) -> Option<String> {
    if link.ready.status != Some(true) {
        return Some(format!("{name}: {}", link.ready.reason));
    }
    let family = link.families.iter().find(|condition| condition.status != Some(true))?;
    let lacking = if family.kind == ready_kind(IpFamily::V4) { IpFamily::V4 } else { IpFamily::V6 };
    Some(format!("{name}: {lacking} {}", family.reason))
}

fn tables_full(full: &[Fill]) -> NewCondition {
    let one = |fill: &Fill| format!("{} holds {} of {} flows", fill.map, fill.entries, fill.capacity);
    if full.is_empty() {
        return NewCondition::new(
            "TablesFull",
            Some(false),
            "Room",
            "the flow tables have room for new flows",
        );
    }
    let message: Vec<_> = full.iter().map(one).collect();
    NewCondition::new("TablesFull", Some(true), "NearlyFull", message.join(", "))
}
