//! The state of a node as conditions; pure.

use crate::link::table::{Health, LinkEntry, LinkTable};
use clovisor_datapath::kernel::state::KernelState;
use clovisor_datapath::kernel::tables::Fill;
use clovisor_objects::condition::{NewCondition, conditions};
use clovisor_objects::wan_node::{NodeLink, WanNodeStatus};
use std::collections::BTreeMap;

/// The conditions of a node and of its links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeState {
    pub(super) ready: NewCondition,
    pub(super) tables_full: NewCondition,
    pub(super) links: BTreeMap<String, NewCondition>,
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
        let ready = self.links.values().filter(|condition| condition.status == Some(true)).count();
        let one = |(name, condition): (&String, &NewCondition)| {
            let old =
                before.links.iter().find(|link| link.name == *name).map_or(&[][..], |link| &link.conditions);
            let conditions = conditions(old, std::slice::from_ref(condition), None, now);
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

fn of_link(link: &LinkEntry) -> NewCondition {
    match link.health {
        Health::Up => {
            let message = link.closed().map_or("it takes traffic".into(), |closed| format!("it {closed}"));
            NewCondition::new("Ready", Some(true), "Up", message)
        }
        Health::Down(reason) => NewCondition::new("Ready", Some(false), reason.name(), reason.to_string()),
    }
}

fn ready(
    links: &BTreeMap<String, NewCondition>,
    kernel: &KernelState,
    waiting: &[&'static str],
) -> NewCondition {
    let down = links.iter().filter(|(_, condition)| condition.status != Some(true));
    let down: Vec<_> = down.map(|(name, condition)| format!("{name}: {}", condition.reason)).collect();
    if !waiting.is_empty() {
        NewCondition::new("Ready", Some(false), "Starting", format!("waiting for {}", waiting.join(", ")))
    } else if let Some(error) = &kernel.error {
        NewCondition::new("Ready", Some(false), "NotProgrammed", error.to_string())
    } else if down.is_empty() {
        let message = "programs and maps are in place, every link is usable";
        NewCondition::new("Ready", Some(true), "Steering", message)
    } else {
        NewCondition::new("Ready", Some(false), "LinkDown", down.join(", "))
    }
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
