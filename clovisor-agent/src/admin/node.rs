//! What the agent says of its node in the cluster: a `WanNode`, and Events of its links.

use super::serve::Sources;
use crate::causes::causes;
use crate::cluster::condition::{Said, conditions};
use crate::cluster::wan_node::{NodeLink, WanNode, WanNodeStatus};
use crate::kernel::state::KernelState;
use crate::kernel::tables::Fill;
use crate::link::table::{Health, Link, LinkTable};
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Owner of the fields that the agent writes.
const MANAGER: &str = "clovisor-agent";
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(10);
/// Between two looks at what has no channel.
const LOOK: Duration = Duration::from_secs(1);

/// Says what changes: Events at once, the status at most once in `pace`. For ever. What cannot be written changes
/// nothing else.
pub async fn run(client: Client, node: String, mut sources: Sources, pace: Duration) {
    let mut teller = Teller::new(client, node);
    let mut state = sources.kernel.state();
    let mut full = sources.kernel.full();
    let started = Instant::now();
    let (mut earliest, mut written, mut failure) = (started, false, None);
    loop {
        let links = sources.links.borrow_and_update().clone();
        let kernel = state.borrow_and_update().clone();
        let waiting = sources.ready.waiting_for();
        let tables = full_tables(&full.borrow_and_update());
        teller.events(&links).await;
        teller.table_event(&tables).await;
        let now = Instant::now();
        // The first words are the last ones for a while: there should be something to say.
        let begins = !waiting.is_empty() || links.links.is_empty() || links.asked > 0;
        if begins && !written && now < started + pace {
            earliest = now + LOOK;
        }
        if now >= earliest {
            let (ready, of_links) = said(&links, &kernel, &waiting);
            match teller.write(&([ready, tables], of_links)).await {
                Ok(false) => {}
                Ok(true) => (written, earliest, failure) = (true, now + pace, None),
                Err(error) => {
                    let error = causes(&error);
                    if failure.as_ref() != Some(&error) {
                        tracing::warn!(error, "WanNode not written");
                    }
                    (earliest, failure) = (now + RETRY, Some(error));
                }
            }
        }
        // Readiness has no channel of its own.
        let wake = if waiting.is_empty() { earliest } else { earliest.max(now + LOOK) };
        let changed = tokio::select! {
            changed = sources.links.changed() => changed,
            changed = state.changed() => changed,
            changed = full.changed() => changed,
            () = sleep_until(wake), if wake > now => continue,
        };
        if changed.is_err() {
            return;
        }
        // A change seldom comes alone: a new link is down until its gateway has answered.
        if earliest <= now {
            earliest = Instant::now() + LOOK.min(pace);
        }
    }
}

/// The words for the node and for each link.
fn said(links: &LinkTable, kernel: &KernelState, waiting: &[&'static str]) -> (Said, BTreeMap<String, Said>) {
    let of_link = |link: &Link| match link.health {
        Health::Up => {
            let words = link.closed().map_or("it takes traffic".into(), |closed| format!("it {closed}"));
            Said::new("Ready", Some(true), "Up", words)
        }
        Health::Down(reason) => Said::new("Ready", Some(false), reason.name(), reason.to_string()),
    };
    let links: BTreeMap<_, _> =
        links.links.iter().map(|(name, link)| (name.clone(), of_link(link))).collect();
    let down: Vec<_> = links.iter().filter(|(_, said)| said.holds != Some(true)).collect();
    let node = if !waiting.is_empty() {
        Said::new("Ready", Some(false), "Starting", format!("waiting for {}", waiting.join(", ")))
    } else if let Some(error) = &kernel.error {
        Said::new("Ready", Some(false), "NotProgrammed", error.to_string())
    } else if down.is_empty() {
        Said::new("Ready", Some(true), "Steering", "programs and maps are in place, every link is usable")
    } else {
        let down: Vec<_> = down.iter().map(|(name, said)| format!("{name}: {}", said.reason)).collect();
        Said::new("Ready", Some(false), "LinkDown", down.join(", "))
    };
    (node, links)
}

/// The words for the tables of replied flows.
fn full_tables(full: &[Fill]) -> Said {
    let one = |fill: &Fill| format!("{} holds {} of {} entries", fill.map, fill.entries, fill.capacity);
    let words: Vec<_> = full.iter().map(one).collect();
    match words.is_empty() {
        true => Said::new("TablesFull", Some(false), "Room", "new flows find room"),
        false => Said::new("TablesFull", Some(true), "NearlyFull", words.join(", ")),
    }
}

fn status(
    said: &([Said; 2], BTreeMap<String, Said>),
    before: &WanNodeStatus,
    now: jiff::Timestamp,
) -> WanNodeStatus {
    let (node, links) = said;
    let ready = links.values().filter(|said| said.holds == Some(true)).count();
    let one = |(name, said): (&String, &Said)| {
        let old =
            before.links.iter().find(|link| link.name == *name).map_or(&[][..], |link| &link.conditions);
        NodeLink { name: name.clone(), conditions: conditions(old, std::slice::from_ref(said), None, now) }
    };
    WanNodeStatus {
        conditions: conditions(&before.conditions, node, None, now),
        links_ready: format!("{ready}/{}", links.len()),
        links: links.iter().map(one).collect(),
        agent_version: env!("CARGO_PKG_VERSION").into(),
    }
}

struct Teller {
    client: Client,
    node: String,
    recorder: Recorder,
    /// As the server has it; none: not asked yet.
    last: Option<WanNodeStatus>,
    /// Health of the links that Events were written for.
    told: BTreeMap<String, Health>,
    /// Whether an Event said that tables are nearly full.
    told_full: bool,
}

impl Teller {
    fn new(client: Client, node: String) -> Self {
        let reporter = Reporter { controller: MANAGER.into(), instance: Some(node.clone()) };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { client, node, recorder, last: None, told: BTreeMap::new(), told_full: false }
    }

    /// Writes the status if it says something new; whether it did.
    async fn write(&mut self, said: &([Said; 2], BTreeMap<String, Said>)) -> kube::Result<bool> {
        let api: Api<WanNode> = Api::all(self.client.clone());
        let before = match &self.last {
            Some(last) => last.clone(),
            None => self.create(&api).await?,
        };
        let now = status(said, &before, jiff::Timestamp::now());
        if now != before {
            let document = json!({
                "apiVersion": "clovisor.io/v1alpha1", "kind": "WanNode",
                "metadata": { "name": self.node }, "status": now,
            });
            api.patch_status(&self.node, &mine(), &Patch::Apply(document)).await?;
        }
        let wrote = now != before;
        self.last = Some(now);
        Ok(wrote)
    }

    /// Makes the object, which goes with its Node; its status now.
    async fn create(&self, api: &Api<WanNode>) -> kube::Result<WanNodeStatus> {
        let mut metadata =
            json!({ "name": self.node, "labels": { "app.kubernetes.io/managed-by": "clovisor" } });
        let nodes: Api<Node> = Api::all(self.client.clone());
        if let Some(uid) = nodes.get_opt(&self.node).await?.and_then(|node| node.uid()) {
            metadata["ownerReferences"] =
                json!([{ "apiVersion": "v1", "kind": "Node", "name": self.node, "uid": uid }]);
        }
        let document = json!({
            "apiVersion": "clovisor.io/v1alpha1", "kind": "WanNode", "metadata": metadata, "spec": {},
        });
        let object = api.patch(&self.node, &mine(), &Patch::Apply(document)).await?;
        Ok(object.status.unwrap_or_default())
    }

    /// An Event on the Node for each link that came or went since the last time.
    async fn events(&mut self, links: &LinkTable) {
        for (name, link) in &links.links {
            let before = self.told.insert(name.clone(), link.health);
            if before.is_none_or(|health| health == link.health) {
                continue;
            }
            let (type_, reason, note) = match link.health {
                Health::Up => (EventType::Normal, "LinkUp", format!("WanLink {name} takes traffic")),
                Health::Down(why) => {
                    (EventType::Warning, "LinkDown", format!("WanLink {name} takes no traffic: {why}"))
                }
            };
            self.publish(type_, reason, note).await;
        }
    }

    /// An Event when tables of flows become nearly full.
    async fn table_event(&mut self, tables: &Said) {
        let full = tables.holds == Some(true);
        if full && !self.told_full {
            self.publish(EventType::Warning, "TablesFull", tables.message.clone()).await;
        }
        self.told_full = full;
    }

    async fn publish(&self, type_: EventType, reason: &str, note: String) {
        let event = Event {
            type_,
            reason: reason.into(),
            note: Some(note),
            action: "Observe".into(),
            secondary: None,
        };
        // As the kubelet writes them: the uid is the name.
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(self.node.clone()),
            uid: Some(self.node.clone()),
            ..ObjectReference::default()
        };
        if let Err(error) = self.recorder.publish(&event, &about).await {
            tracing::warn!(error = causes(&error), "no Event written");
        }
    }
}

fn mine() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}
