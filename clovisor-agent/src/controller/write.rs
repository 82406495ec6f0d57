//! Every write to the API server.

use super::stages::{IstioKey, IstioStep};
use super::status::{LinkReadiness, MappingState};
use crate::status::events::EventWriter;
use clovisor_objects::condition::{NewCondition, conditions};
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::object::{CLOVISOR, MANAGED_BY};
use clovisor_objects::wan_link::{WanLink, WanLinkStatus};
use clovisor_objects::wan_mapping::{ClassNumber, WanMapping, WanMappingStatus};
use clovisor_render::istio::object::IstioKind;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Client, Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Owner of the fields that the controller writes.
const MANAGER: &str = "clovisor-controller";

/// Writes the statuses and Istio's objects.
#[derive(Clone)]
pub(super) struct Writer {
    client: Client,
    events: EventWriter,
}

impl Writer {
    /// `identity`: this process, in Events.
    pub(super) fn new(client: Client, identity: &str) -> Self {
        Self { events: EventWriter::new(client.clone(), MANAGER, identity), client }
    }

    /// Clovisor's own Istio objects; none if Istio's CRDs are not installed.
    pub(super) async fn existing(&self) -> kube::Result<Option<BTreeMap<IstioKey, Value>>> {
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
    pub(super) async fn step(&self, step: &IstioStep) -> kube::Result<()> {
        let (IstioStep::Apply((kind, key), _) | IstioStep::Delete((kind, key))) = step;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &key.namespace, &resource(*kind));
        match step {
            IstioStep::Apply(_, document) => {
                tracing::info!(kind = kind.names().0, object = %key, "written");
                api.patch(&key.name, &params(), &Patch::Apply(document)).await.map(drop)
            }
            IstioStep::Delete(_) => {
                tracing::info!(kind = kind.names().0, object = %key, "removed");
                match api.delete(&key.name, &kube::api::DeleteParams::default()).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                    result => result.map(drop),
                }
            }
        }
    }

    /// Writes a mapping's class numbers and keeps the rest of its status.
    pub(super) async fn numbers(&self, key: &ObjectKey, classes: &[ClassNumber]) -> kube::Result<()> {
        let api: Api<WanMapping> = Api::namespaced(self.client.clone(), &key.namespace);
        let Some(object) = api.get_opt(&key.name).await? else { return Ok(()) };
        let status = WanMappingStatus { classes: classes.to_vec(), ..object.status.unwrap_or_default() };
        let document = status_of::<WanMapping>(&key.name, Some(&key.namespace), &status);
        api.patch_status(&key.name, &params(), &Patch::Apply(document)).await.map(drop)
    }

    /// Writes a mapping's status if it changed; an Event where its acceptance changed.
    pub(super) async fn mapping(
        &self,
        key: &ObjectKey,
        state: &MappingState,
        generation: Option<i64>,
    ) -> kube::Result<()> {
        let api: Api<WanMapping> = Api::namespaced(self.client.clone(), &key.namespace);
        let Some(object) = api.get_opt(&key.name).await? else { return Ok(()) };
        let old = object.status.clone().unwrap_or_default();
        let conditions = conditions(&old.conditions, &state.conditions, generation, jiff::Timestamp::now());
        let new = WanMappingStatus { conditions, classes: state.classes.clone() };
        if new == old {
            return Ok(());
        }
        let document = status_of::<WanMapping>(&key.name, Some(&key.namespace), &new);
        api.patch_status(&key.name, &params(), &Patch::Apply(document)).await?;
        let is_new = |new: &&NewCondition| {
            let before = old.conditions.iter().find(|c| c.type_ == new.kind);
            new.kind == "Accepted" && before.is_none_or(|c| c.reason != new.reason)
        };
        if let Some(condition) = state.conditions.iter().find(is_new) {
            self.event(condition, &object.object_ref(&())).await;
        }
        Ok(())
    }

    /// Writes a link's status if it changed, and an Event where its readiness changed.
    pub(super) async fn link(&self, name: &str, readiness: &LinkReadiness) -> kube::Result<()> {
        let api: Api<WanLink> = Api::all(self.client.clone());
        let Some(object) = api.get_opt(name).await? else { return Ok(()) };
        let old = object.status.clone().unwrap_or_default();
        let condition = std::slice::from_ref(&readiness.condition);
        let now = jiff::Timestamp::now();
        let new = WanLinkStatus {
            conditions: conditions(&old.conditions, condition, object.metadata.generation, now),
            nodes_ready: readiness.ready,
            nodes_total: readiness.total,
            nodes: format!("{}/{}", readiness.ready, readiness.total),
        };
        if new == old {
            return Ok(());
        }
        let document = status_of::<WanLink>(name, None, &new);
        api.patch_status(name, &params(), &Patch::Apply(document)).await?;
        let before = old.conditions.iter().find(|c| c.type_ == readiness.condition.kind);
        if before.is_none_or(|c| c.reason != readiness.condition.reason)
            && readiness.condition.status.is_some()
        {
            self.event(&readiness.condition, &object.object_ref(&())).await;
        }
        Ok(())
    }

    async fn event(&self, condition: &NewCondition, about: &ObjectReference) {
        let reason = (condition.kind, condition.reason.as_str());
        self.events.publish(about, condition.status == Some(true), reason, &condition.message).await;
    }
}

fn params() -> PatchParams {
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
