//! Writes to the API server about this node.

use super::events::EventWriter;
use super::node::NodeState;
use crate::link::table::{LinkTable, Overall};
use clovisor_objects::condition::NewCondition;
use clovisor_objects::wan_node::{WanNode, WanNodeStatus};
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use std::collections::BTreeMap;

/// Owner of the fields that the agent writes.
const MANAGER: &str = "clovisor-agent";

/// Writes the node's WanNode, and Events on its Node.
pub(super) struct NodeWriter {
    client: Client,
    node: String,
    events: EventWriter,
    /// As the API server has it; none: not read yet.
    status: Option<WanNodeStatus>,
    /// State of the links at the last Event, with what is wrong.
    links: BTreeMap<String, (Overall, Option<String>)>,
    /// Whether the last Event of the flow tables reported them as nearly full.
    tables_full: bool,
}

impl NodeWriter {
    pub(super) fn new(client: Client, node: String) -> Self {
        let events = EventWriter::new(client.clone(), MANAGER, &node);
        Self { client, node, events, status: None, links: BTreeMap::new(), tables_full: false }
    }

    /// Writes the status if it changed; true if it did.
    pub(super) async fn write(&mut self, state: &NodeState) -> kube::Result<bool> {
        let api: Api<WanNode> = Api::all(self.client.clone());
        let before = match &self.status {
            Some(status) => status.clone(),
            None => self.create(&api).await?,
        };
        let now = state.status(&before, jiff::Timestamp::now());
        let changed = now != before;
        if changed {
            let document = json!({
                "apiVersion": "clovisor.io/v1alpha1", "kind": "WanNode",
                "metadata": { "name": self.node }, "status": now,
            });
            api.patch_status(&self.node, &params(), &Patch::Apply(document)).await?;
        }
        self.status = Some(now);
        Ok(changed)
    }

    /// Creates the object, which is deleted with its Node; returns its status.
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
        let object = api.patch(&self.node, &params(), &Patch::Apply(document)).await?;
        Ok(object.status.unwrap_or_default())
    }

    /// An Event for each link whose state changed since the last call.
    pub(super) async fn link_events(&mut self, table: &LinkTable) {
        for (name, link) in &table.links {
            let now = (link.overall(), link.trouble());
            let before = self.links.insert(name.clone(), now.clone());
            if before.is_none_or(|before| before == now) {
                continue;
            }
            let (is_normal, reason, note) = event(name, now.0, &now.1.unwrap_or_default());
            self.publish(is_normal, reason, &note).await;
        }
    }

    /// An Event when the flow tables become nearly full.
    pub(super) async fn table_event(&mut self, condition: &NewCondition) {
        let is_full = condition.status == Some(true);
        if is_full && !self.tables_full {
            self.publish(false, "TablesFull", &condition.message).await;
        }
        self.tables_full = is_full;
    }

    async fn publish(&self, is_normal: bool, reason: &str, note: &str) {
        // As the kubelet writes them: the uid is the name.
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(self.node.clone()),
            uid: Some(self.node.clone()),
            ..ObjectReference::default()
        };
        self.events.publish(&about, is_normal, ("Observe", reason), note).await;
    }
}

/// Whether the Event of a link's new state is a normal one, its reason, its text.
fn event(link: &str, state: Overall, trouble: &str) -> (bool, &'static str, String) {
    match state {
        Overall::Up => (true, "LinkUp", format!("WanLink {link} takes traffic")),
        Overall::Partial => (
            false,
            "LinkPartial",
            format!("WanLink {link} takes traffic of one address family only: {trouble}"),
        ),
        Overall::Down => (false, "LinkDown", format!("WanLink {link} takes no traffic: {trouble}")),
    }
}

fn params() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}
