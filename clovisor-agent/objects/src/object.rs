//! The objects that Clovisor reads, wherever they come from.

use super::gateway::HttpRoute;
use super::identity::{Identity, ObjectKind};
use super::istio::{DestinationRule, ServiceEntry, VirtualService};
use super::kube_node::{NodeObject, NodeObjectSpec, NodeObjectStatus};
use super::network_policy::NetworkPolicy;
use super::pod::{ISTIO_PROXY_UID, PROXY_UID, PodObject, PodObjectSpec, PodObjectStatus};
use super::refusal::Refusal;
use super::service::{ServiceObject, ServiceObjectStatus};
use super::snapshot::{Dated, MappingObject, Snapshot};
use super::wan_link::WanLinkSpec;
use super::wan_mapping::ClassNumber;
use super::wan_node::WanNodeStatus;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Label of what Clovisor writes, and its value.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const CLOVISOR: &str = "clovisor";

/// An object of a kind that Clovisor reads.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum Object {
    WanLink(Arc<WanLinkSpec>),
    WanMapping(Arc<MappingObject>),
    VirtualService(Arc<Dated<VirtualService>>),
    HttpRoute(Arc<Dated<HttpRoute>>),
    DestinationRule(Arc<DestinationRule>),
    ServiceEntry(Arc<ServiceEntry>),
    Service(Arc<ServiceObject>),
    NetworkPolicy(Arc<NetworkPolicy>),
    Pod(Arc<PodObject>),
    WanNode(Arc<WanNodeStatus>),
    Node(Arc<NodeObject>),
}

/// `metadata`, as far as it is read.
#[derive(Deserialize, Default, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    #[serde(default, deserialize_with = "time")]
    pub creation_timestamp: Option<jiff::Timestamp>,
    pub uid: Option<String>,
    pub generation: Option<i64>,
    pub name: Option<String>,
    pub namespace: Option<String>,
    #[serde(default, deserialize_with = "texts")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "texts")]
    pub annotations: BTreeMap<String, String>,
}

/// Entries of which those that are null are empty, as the API server takes them.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let entries = BTreeMap::<String, Option<String>>::deserialize(deserializer)?;
    Ok(entries.into_iter().map(|(key, text)| (key, text.unwrap_or_default())).collect())
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<jiff::Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let needed = || Error::custom(format!("is {text:?}; a time like 2026-01-31T12:00:00Z is needed"));
    text.parse().map(Some).map_err(|_| needed())
}

/// The part of a WanMapping's status that steering needs; the rest changes nothing.
#[derive(Deserialize, Default)]
struct ClassesOnly {
    #[serde(default)]
    classes: Vec<ClassNumber>,
}

/// The parts of an object that are read.
pub trait Body {
    /// `spec`.
    ///
    /// # Errors
    /// It is missing, or a field of it is not understood.
    fn spec<S: DeserializeOwned>(&self) -> Result<S, Refusal>;

    /// `spec`; its default where there is none.
    ///
    /// # Errors
    /// A field of it is not understood.
    fn spec_or_default<S: DeserializeOwned + Default>(&self) -> Result<S, Refusal>;

    /// `status`; its default where there is none.
    ///
    /// # Errors
    /// A field of it is not understood.
    fn status<S: DeserializeOwned + Default>(&self) -> Result<S, Refusal>;
}

/// The object of a known kind.
///
/// # Errors
/// Where it is not understood, and why.
pub fn decode(kind: ObjectKind, body: &impl Body, metadata: &Metadata) -> Result<Object, Refusal> {
    fn dated<S>(metadata: &Metadata, spec: S) -> Arc<Dated<S>> {
        Arc::new(Dated { created: metadata.creation_timestamp, spec })
    }
    match kind {
        ObjectKind::WanLink => {
            let spec: WanLinkSpec = body.spec()?;
            spec.check().map(|()| Object::WanLink(Arc::new(spec)))
        }
        ObjectKind::WanMapping => {
            let (spec, status) = (body.spec()?, body.status::<ClassesOnly>()?);
            let (created, generation) = (metadata.creation_timestamp, metadata.generation);
            let (uid, classes) = (metadata.uid.clone(), status.classes);
            Ok(Object::WanMapping(Arc::new(MappingObject { created, uid, generation, spec, classes })))
        }
        ObjectKind::VirtualService => body.spec().map(|spec| Object::VirtualService(dated(metadata, spec))),
        ObjectKind::HttpRoute => body.spec().map(|spec| Object::HttpRoute(dated(metadata, spec))),
        ObjectKind::DestinationRule => body.spec::<DestinationRule>().map(|mut rule| {
            rule.is_ours = metadata.labels.get(MANAGED_BY).is_some_and(|by| by == CLOVISOR);
            Object::DestinationRule(Arc::new(rule))
        }),
        ObjectKind::ServiceEntry => body.spec().map(|spec| Object::ServiceEntry(Arc::new(spec))),
        ObjectKind::NetworkPolicy => body.spec_or_default().map(|spec| Object::NetworkPolicy(Arc::new(spec))),
        ObjectKind::WanNode => body.status().map(|status| Object::WanNode(Arc::new(status))),
        ObjectKind::Node => {
            let (spec, status): (NodeObjectSpec, NodeObjectStatus) =
                (body.spec_or_default()?, body.status()?);
            Ok(Object::Node(Arc::new(NodeObject::new(metadata.labels.clone(), spec, status))))
        }
        ObjectKind::Service => {
            let mut service: ServiceObject = body.spec()?;
            service.balanced = body.status::<ServiceObjectStatus>()?.balanced();
            Ok(Object::Service(Arc::new(service)))
        }
        ObjectKind::Pod => pod(body, metadata).map(|pod| Object::Pod(Arc::new(pod))),
    }
}

fn pod(body: &impl Body, metadata: &Metadata) -> Result<PodObject, Refusal> {
    let (spec, status): (PodObjectSpec, PodObjectStatus) = (body.spec_or_default()?, body.status()?);
    let mut addresses: Vec<_> = status.pod_ips.iter().map(|p| p.ip).collect();
    if let Some(ip) = status.pod_ip.filter(|ip| !addresses.contains(ip)) {
        addresses.push(ip);
    }
    if status.has_ended() {
        addresses.clear();
    }
    let proxy_uid = match metadata.annotations.get(PROXY_UID).map(String::as_str) {
        // A null of a template is an empty text.
        None | Some("") => ISTIO_PROXY_UID,
        Some(text) => text.parse().map_err(|_| {
            let message =
                format!("annotation {PROXY_UID} is not a number; write the proxy's uid, e.g. \"1337\"");
            Refusal::invalid_object("metadata.annotations", message)
        })?,
    };
    let host_network = spec.host_network;
    Ok(PodObject { labels: metadata.labels.clone(), addresses, proxy_uid, host_network })
}

/// Adds an object to a snapshot.
pub fn insert(snapshot: &mut Snapshot, identity: &Identity, object: &Object) {
    let key = identity.key.clone();
    match object {
        Object::WanLink(o) => drop(snapshot.links.insert(key.name, o.clone())),
        Object::WanMapping(o) => drop(snapshot.mappings.insert(key, o.clone())),
        Object::VirtualService(o) => drop(snapshot.virtual_services.insert(key, o.clone())),
        Object::HttpRoute(o) => drop(snapshot.http_routes.insert(key, o.clone())),
        Object::NetworkPolicy(o) => drop(snapshot.network_policies.insert(key, o.clone())),
        Object::DestinationRule(o) if o.is_ours => {}
        Object::DestinationRule(o) => drop(snapshot.destination_rules.insert(key, o.clone())),
        Object::ServiceEntry(o) => drop(snapshot.service_entries.insert(key, o.clone())),
        Object::Node(o) => drop(snapshot.kube_nodes.insert(key.name, o.clone())),
        Object::WanNode(o) => drop(snapshot.nodes.insert(key.name, o.clone())),
        Object::Service(o) => drop(snapshot.services.insert(key, o.clone())),
        Object::Pod(o) => drop(snapshot.pods.insert(key, o.clone())),
    }
}
