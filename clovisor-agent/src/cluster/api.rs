//! The API server as the source of objects.

mod store;

#[cfg(test)]
mod tests;

use super::identity::{Identity, ObjectKey, ObjectKind};
use super::object::{Body, Metadata, decode};
use super::refusal::Refusal;
use super::saved::SavedFile;
use super::snapshot::Snapshot;
use crate::causes::causes;
use anyhow::Context as _;
use futures_util::StreamExt as _;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::utils::Backoff as _;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use kube::{Client, Config, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use store::{Heard, Raw, Store};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

/// Changes come in bursts; one snapshot serves those that follow each other this closely, up to a limit.
const BURST: Duration = Duration::from_millis(20);
const LONGEST_BURST: Duration = Duration::from_millis(200);
/// Between lines that say what a start still waits for.
const PATIENCE: Duration = Duration::from_secs(10);
/// A watch that breaks is tried again within half a minute; one that breaks no more by then is well.
const AGAIN: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 60 });
/// Between attempts to reach a server that is away; what it does not know is asked for every half minute at last.
const LONGEST: Duration = Duration::from_secs(5);
/// Servers say something on every watch each minute: one that is silent for longer is not there any more, whatever
/// TCP believes.
const SILENCE: Duration = Duration::from_secs(100);

/// Kind, group, version, plural.
type Known = (ObjectKind, &'static str, &'static str, &'static str);

const MESH: [Known; 6] = [
    (ObjectKind::WanLink, "clovisor.io", "v1alpha1", "wanlinks"),
    (ObjectKind::WanMapping, "clovisor.io", "v1alpha1", "wanmappings"),
    (ObjectKind::VirtualService, "networking.istio.io", "v1", "virtualservices"),
    (ObjectKind::DestinationRule, "networking.istio.io", "v1", "destinationrules"),
    (ObjectKind::ServiceEntry, "networking.istio.io", "v1", "serviceentries"),
    (ObjectKind::HttpRoute, "gateway.networking.k8s.io", "v1", "httproutes"),
];
const POLICIES: Known = (ObjectKind::NetworkPolicy, "networking.k8s.io", "v1", "networkpolicies");
const PODS: Known = (ObjectKind::Pod, "", "v1", "pods");
const NODE: Known = (ObjectKind::Node, "", "v1", "nodes");
const SERVICES: Known = (ObjectKind::Service, "", "v1", "services");
const NODES: Known = (ObjectKind::WanNode, "clovisor.io", "v1alpha1", "wannodes");

/// What a process follows.
#[derive(Clone, Debug)]
pub enum View {
    /// A node's agent: the node's own pods; Services only for sidecars, whose routes the control plane makes.
    Node { name: String, saved: SavedFile, sidecars: bool },
    /// The controller: Services, and what the agents say; no pods.
    Controller,
}

impl View {
    fn kinds(&self) -> Vec<Known> {
        let own = match self {
            Self::Node { sidecars: true, .. } => &[PODS, NODE, POLICIES, SERVICES][..],
            Self::Node { .. } => &[PODS, NODE, POLICIES][..],
            Self::Controller => &[SERVICES, NODES][..],
        };
        MESH.iter().chain(own).copied().collect()
    }
}

/// The way to the API server: in a pod, or by KUBECONFIG.
///
/// # Errors
/// Neither names one.
pub async fn client() -> anyhow::Result<Client> {
    let config = Config::infer().await;
    let mut config =
        config.context("no way to the API server; run in a pod with a service account, or set KUBECONFIG")?;
    config.read_timeout = Some(SILENCE);
    Client::try_from(config).context("no way to the API server; are its certificates readable?")
}

type Said = (ObjectKind, Heard);

/// The snapshot now, and tasks that follow the server.
///
/// With objects on disk it returns at once, whether the server is there or not; without any it waits for the
/// first complete answer, because "no objects" would undo what was set up before.
pub async fn watch(client: Client, view: View) -> watch::Receiver<Arc<Snapshot>> {
    let (say, mut heard) = mpsc::channel(1024);
    let kinds = view.kinds();
    let mut store = Store::new(kinds.iter().map(|(kind, ..)| *kind));
    let (node, saved) = match view {
        View::Node { name, saved, .. } => (name, Some(saved)),
        View::Controller => (String::new(), None),
    };
    for (kind, group, version, plural) in kinds {
        let resource = resource(kind, group, version, plural);
        tokio::spawn(follow(client.clone(), kind, resource, node.clone(), say.clone()));
    }
    let first = match saved.as_ref().and_then(SavedFile::load) {
        Some(snapshot) => {
            let since = snapshot.stale_since.map(|time| time.to_string());
            tracing::info!(since, "steering by saved objects until the API server answers");
            snapshot
        }
        None => complete(&mut store, &mut heard).await,
    };
    let (publish, snapshots) = watch::channel(Arc::new(first));
    tokio::spawn(publishing(store, heard, publish, saved));
    snapshots
}

/// Publishes what is heard, and saves what is complete.
async fn publishing(
    mut store: Store,
    mut heard: mpsc::Receiver<Said>,
    publish: watch::Sender<Arc<Snapshot>>,
    saved: Option<SavedFile>,
) {
    let mut is_saved = false;
    loop {
        let complete = store.snapshot();
        let is_complete = complete.is_some();
        let changed = publish.send_if_modified(|old| {
            let snapshot =
                complete.unwrap_or_else(|| Snapshot { problems: store.unreadable(), ..(**old).clone() });
            let changed = **old != snapshot;
            *old = Arc::new(snapshot);
            changed
        });
        if let Some(file) = saved.as_ref().filter(|_| is_complete && (changed || !is_saved)) {
            save(file, &store).await;
            is_saved = true;
        }
        let over = store.next_expiry();
        tokio::select! {
            () = publish.closed() => return,
            more = burst(&mut store, &mut heard) => if !more { return },
            () = sleep_until(over.unwrap_or_else(Instant::now)), if over.is_some() => store.expire(Instant::now()),
        }
    }
}

fn resource(kind: ObjectKind, group: &str, version: &str, plural: &str) -> ApiResource {
    let slash = if group.is_empty() { "" } else { "/" };
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: format!("{group}{slash}{version}"),
        kind: kind.name().into(),
        plural: plural.into(),
    }
}

/// Waits for the first complete answer, and says every while what for.
async fn complete(store: &mut Store, heard: &mut mpsc::Receiver<Said>) -> Snapshot {
    loop {
        if let Some(snapshot) = store.snapshot() {
            return snapshot;
        }
        if timeout(PATIENCE, burst(store, heard)).await.is_err() {
            let missing: Vec<_> = store.missing().into_iter().map(ObjectKind::name).collect();
            let failures: Vec<_> =
                store.failures().map(|(kind, reason)| format!("{kind}: {reason}")).collect();
            tracing::warn!(missing = ?missing, ?failures, "waiting for the API server");
        }
    }
}

/// Takes in the next events; false when there are no more to come.
async fn burst(store: &mut Store, heard: &mut mpsc::Receiver<Said>) -> bool {
    let Some((kind, first)) = heard.recv().await else {
        return false;
    };
    store.hear(kind, first);
    let limit = Instant::now() + LONGEST_BURST;
    while let Ok(Some((kind, next))) = timeout_at(limit.min(Instant::now() + BURST), heard.recv()).await {
        store.hear(kind, next);
    }
    true
}

async fn save(saved: &SavedFile, store: &Store) {
    let (saved, objects) = (saved.clone(), store.objects());
    let written = tokio::task::spawn_blocking(move || saved.save(objects, jiff::Timestamp::now())).await;
    if let Ok(Err(error)) = written {
        tracing::warn!(%error, "objects not saved; an agent that starts without the API server will lack them");
    }
}

/// Passes on what is heard of one kind, for ever.
async fn follow(
    client: Client,
    kind: ObjectKind,
    resource: ApiResource,
    node: String,
    say: mpsc::Sender<Said>,
) {
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let mut config = watcher::Config::default();
    match kind {
        ObjectKind::Pod => config = config.fields(&format!("spec.nodeName={node}")),
        ObjectKind::Node => config = config.fields(&format!("metadata.name={node}")),
        _ => {}
    }
    let mut events = pin!(watcher(api, config));
    // The watcher says `Init` before each attempt: only what comes after it is a success.
    let mut backoff = DefaultBackoff::default();
    let mut last = None;
    while let Some(event) = events.next().await {
        let (heard, pause) = match event {
            Ok(event @ Event::Init) => (heard(kind, event), None),
            Ok(event) => {
                backoff.reset();
                last = None;
                (heard(kind, event), None)
            }
            Err(error) => {
                let (heard, pause) = (failed(kind, &error, &mut last), backoff.next().unwrap_or(LONGEST));
                let is_absent = matches!(heard, Heard::Absent);
                (heard, Some(if is_absent { pause } else { pause.min(LONGEST) }))
            }
        };
        if say.send((kind, heard)).await.is_err() {
            return;
        }
        if let Some(pause) = pause {
            sleep(pause).await;
        }
    }
}

fn heard(kind: ObjectKind, event: Event<DynamicObject>) -> Heard {
    match event {
        Event::Init => Heard::Begin,
        Event::InitApply(object) => Heard::Listed(raw(kind, &object)),
        Event::InitDone => Heard::Complete,
        Event::Apply(object) => Heard::Changed(raw(kind, &object)),
        Event::Delete(object) => Heard::Gone(key(&object)),
    }
}

/// `last`: the words of the failure before, which are not repeated in the log.
fn failed(kind: ObjectKind, error: &watcher::Error, last: &mut Option<String>) -> Heard {
    let words = causes(error);
    let is_new = last.replace(words.clone()).is_none_or(|before| before != words);
    if let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error
        && status.code == 404
    {
        if is_new {
            tracing::info!(
                kind = kind.name(),
                "the API server does not know this kind; asking again, every half minute at last"
            );
        }
        return Heard::Absent;
    }
    if is_new {
        // The server's own words name verb, resource and user where rights are missing.
        tracing::warn!(kind = kind.name(), error = words, "not readable, trying again");
    }
    match error {
        watcher::Error::InitialListFailed(_) | watcher::Error::NoResourceVersion => Heard::Failed(words),
        _ => Heard::Interrupted(words, Instant::now() + AGAIN),
    }
}

fn key(object: &DynamicObject) -> ObjectKey {
    ObjectKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

fn raw(kind: ObjectKind, object: &DynamicObject) -> Raw {
    let metadata = Metadata {
        creation_timestamp: object.creation_timestamp().map(|time| time.0),
        uid: object.uid(),
        generation: object.metadata.generation,
        name: object.metadata.name.clone(),
        namespace: object.namespace(),
        labels: object.labels().clone(),
        annotations: object.annotations().clone(),
    };
    let identity = Identity { kind, key: key(object) };
    Raw { identity, decoded: decode(kind, &Json(&object.data), &metadata) }
}

/// An object from the server; what is wrong with it is told by field path.
struct Json<'a>(&'a Value);

impl Json<'_> {
    fn part<S: DeserializeOwned>(&self, name: &str) -> Option<Result<S, Refusal>> {
        let part = self.0.get(name)?;
        Some(serde_path_to_error::deserialize(part).map_err(|error| {
            let path = error.path().to_string();
            let dot = if path.starts_with('[') || path == "." { "" } else { "." };
            Refusal::invalid_object(
                format!("{name}{dot}{}", path.trim_matches('.')),
                error.into_inner().to_string(),
            )
        }))
    }
}

impl Body for Json<'_> {
    fn spec<S: DeserializeOwned>(&self) -> Result<S, Refusal> {
        self.part("spec").unwrap_or_else(|| Err(Refusal::invalid_object("spec", "is missing")))
    }

    fn status<S: DeserializeOwned + Default>(&self) -> Result<S, Refusal> {
        self.part("status").unwrap_or_else(|| Ok(S::default()))
    }
}
