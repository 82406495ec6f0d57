//! Every write to the API server.

use super::stages::{Place, Step};
use super::status::{LinkWords, MappingWords};
use crate::cluster::condition::{Said, conditions};
use crate::cluster::identity::ObjectKey;
use crate::cluster::object::{CLOVISOR, MANAGED_BY};
use crate::cluster::wan_link::{WanLink, WanLinkStatus};
use crate::cluster::wan_mapping::{ClassNumber, WanMapping, WanMappingStatus};
use crate::render::istio::object::IstioKind;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Owner of the fields that the controller writes.
const MANAGER: &str = "clovisor-controller";

/// The way to the API server.
#[derive(Clone)]
pub(super) struct Writer {
    client: Client,
    events: Recorder,
}

impl Writer {
    /// `identity`: this process, in Events.
    pub(super) fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter { controller: MANAGER.into(), instance: Some(identity.to_owned()) };
        Self { events: Recorder::new(client.clone(), reporter), client }
    }

    /// The objects of ours that are there; none if Istio's kinds are not installed.
    pub(super) async fn existing(&self) -> kube::Result<Option<BTreeMap<Place, Value>>> {
        let mut all = BTreeMap::new();
        for kind in [IstioKind::DestinationRule, IstioKind::EnvoyFilter] {
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource(kind));
            let ours = ListParams::default().labels(&format!("{MANAGED_BY}={CLOVISOR}"));
            let list = match api.list(&ours).await {
                Ok(list) => list,
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
                Err(error) => return Err(error),
            };
            for object in list {
                let key =
                    ObjectKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
                all.insert((kind, key), serde_json::to_value(object).unwrap_or_default());
            }
        }
        Ok(Some(all))
    }

    /// Writes or removes one of Istio's objects.
    pub(super) async fn step(&self, step: &Step) -> kube::Result<()> {
        let (Step::Apply((kind, key), _) | Step::Delete((kind, key))) = step;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &key.namespace, &resource(*kind));
        match step {
            Step::Apply(_, document) => {
                tracing::info!(kind = kind.names().0, object = %key, "written");
                api.patch(&key.name, &mine(), &Patch::Apply(document)).await.map(drop)
            }
            Step::Delete(_) => {
                tracing::info!(kind = kind.names().0, object = %key, "removed");
                match api.delete(&key.name, &kube::api::DeleteParams::default()).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                    result => result.map(drop),
                }
            }
        }
    }

    /// Writes a mapping's class numbers and leaves the rest of its status.
    pub(super) async fn numbers(&self, key: &ObjectKey, classes: &[ClassNumber]) -> kube::Result<()> {
        let api: Api<WanMapping> = Api::namespaced(self.client.clone(), &key.namespace);
        let Some(object) = api.get_opt(&key.name).await? else { return Ok(()) };
        let status = WanMappingStatus { classes: classes.to_vec(), ..object.status.unwrap_or_default() };
        let document = status_of::<WanMapping>(&key.name, Some(&key.namespace), &status);
        api.patch_status(&key.name, &mine(), &Patch::Apply(document)).await.map(drop)
    }

    /// Writes a mapping's status if it says something new; an Event where its acceptance changed.
    pub(super) async fn mapping(
        &self,
        key: &ObjectKey,
        words: &MappingWords,
        generation: Option<i64>,
    ) -> kube::Result<()> {
        let api: Api<WanMapping> = Api::namespaced(self.client.clone(), &key.namespace);
        let Some(object) = api.get_opt(&key.name).await? else { return Ok(()) };
        let old = object.status.clone().unwrap_or_default();
        let conditions = conditions(&old.conditions, &words.said, generation, jiff::Timestamp::now());
        let new = WanMappingStatus { conditions, classes: words.classes.clone() };
        if new == old {
            return Ok(());
        }
        let document = status_of::<WanMapping>(&key.name, Some(&key.namespace), &new);
        api.patch_status(&key.name, &mine(), &Patch::Apply(document)).await?;
        let is_new = |said: &&Said| {
            let before = old.conditions.iter().find(|c| c.type_ == said.kind);
            said.kind == "Accepted" && before.is_none_or(|c| c.reason != said.reason)
        };
        if let Some(said) = words.said.iter().find(is_new) {
            self.tell(said, &object.object_ref(&())).await;
        }
        Ok(())
    }

    /// Writes a link's status if it says something new, and an Event where its readiness changed.
    pub(super) async fn link(&self, name: &str, words: &LinkWords) -> kube::Result<()> {
        let api: Api<WanLink> = Api::all(self.client.clone());
        let Some(object) = api.get_opt(name).await? else { return Ok(()) };
        let old = object.status.clone().unwrap_or_default();
        let said = std::slice::from_ref(&words.said);
        let now = jiff::Timestamp::now();
        let new = WanLinkStatus {
            conditions: conditions(&old.conditions, said, object.metadata.generation, now),
            nodes_ready: words.ready,
            nodes_total: words.total,
            nodes: format!("{}/{}", words.ready, words.total),
        };
        if new == old {
            return Ok(());
        }
        let document = status_of::<WanLink>(name, None, &new);
        api.patch_status(name, &mine(), &Patch::Apply(document)).await?;
        let before = old.conditions.iter().find(|c| c.type_ == words.said.kind);
        if before.is_none_or(|c| c.reason != words.said.reason) && words.said.holds.is_some() {
            self.tell(&words.said, &object.object_ref(&())).await;
        }
        Ok(())
    }

    /// An Event; not being able to write one changes nothing.
    async fn tell(&self, said: &Said, about: &ObjectReference) {
        let event = Event {
            type_: if said.holds == Some(true) { EventType::Normal } else { EventType::Warning },
            reason: said.reason.clone(),
            note: Some(said.message.chars().take(1000).collect()),
            action: said.kind.into(),
            secondary: None,
        };
        if let Err(error) = self.events.publish(&event, about).await {
            tracing::warn!(%error, "no Event written");
        }
    }
}

fn mine() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

fn status_of<K: kube::Resource<DynamicType = ()>>(
    name: &str,
    namespace: Option<&str>,
    status: &impl serde::Serialize,
) -> Value {
    let mut metadata = json!({ "name": name });
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    json!({ "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": metadata, "status": status })
}

fn resource(kind: IstioKind) -> ApiResource {
    let (kind, api_version, plural) = kind.names();
    let (group, version) = api_version.split_once('/').unwrap_or_default();
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: api_version.into(),
        kind: kind.into(),
        plural: plural.into(),
    }
}
