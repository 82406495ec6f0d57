//! The API server as the source of objects.

mod follow;

mod json;

mod store;

#[cfg(test)]
mod tests;

use super::saved::SavedFile;
use anyhow::Context as _;
use clovisor_objects::identity::ObjectKind;
use clovisor_objects::snapshot::Snapshot;
use follow::{Follower, KindMessage};
use kube::api::ApiResource;
use kube::{Client, Config};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// Changes come in bursts; one snapshot serves those that follow each other this closely, up to a limit.
const BURST: Duration = Duration::from_millis(20);
const LONGEST_BURST: Duration = Duration::from_millis(200);
/// Between log lines about a start that waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// A watch that breaks is tried again within half a minute; one that has not broken again by then works.
const RECOVERY: Duration = Duration::from_secs(60);
/// Servers send a bookmark on every watch each minute: a connection that is silent for longer is dead, even if TCP has
/// not noticed.
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

/// The kinds that a process follows.
#[derive(Clone, Debug)]
pub enum View {
    /// A node's agent: the node's own pods.
    Node { name: String, saved: SavedFile },
    /// The controller: Services and WanNodes; no pods.
    Controller,
}

impl View {
    fn kinds(&self) -> Vec<Known> {
        let own = match self {
            Self::Node { .. } => &[PODS, NODE, POLICIES, SERVICES][..],
            Self::Controller => &[SERVICES, NODES][..],
        };
        MESH.iter().chain(own).copied().collect()
    }
}

/// A client of the API server that the pod's service account or KUBECONFIG names.
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

/// The snapshot now, and tasks that follow the server.
///
/// With objects on disk it returns at once, whether the server is there or not; without any it waits for the
/// first complete answer, because "no objects" would undo what was set up before.
pub async fn watch(client: Client, view: View) -> watch::Receiver<Arc<Snapshot>> {
    watch_with(client, view, RECOVERY).await
}

async fn watch_with(client: Client, view: View, recovery: Duration) -> watch::Receiver<Arc<Snapshot>> {
    let (events, mut received) = mpsc::channel(1024);
    let kinds = view.kinds();
    let mut store = Store::new(kinds.iter().map(|(kind, ..)| *kind));
    let (node, saved) = match view {
        View::Node { name, saved } => {
            store = store.on_node(&name);
            (name, Some(saved))
        }
        View::Controller => (String::new(), None),
    };
    let mut lists = Lists::new();
    for (kind, group, version, plural) in kinds {
        let resource = resource(kind, group, version, plural);
        let (client, node, events) = (client.clone(), node.clone(), events.clone());
        let again = lists.entry(kind).or_default().clone();
        tokio::spawn(Follower { client, kind, resource, node, events, recovery, again }.run());
    }
    let first = match saved.as_ref().and_then(SavedFile::load) {
        Some(known) => {
            let mut snapshot = known.snapshot();
            store.seed(known.objects);
            snapshot.this_node = Some(node.clone());
            let since = snapshot.stale_since.map(|time| time.to_string());
            tracing::info!(since, "steering by saved objects until the API server answers");
            snapshot
        }
        None => complete(&mut store, &mut received).await,
    };
    let (publish, snapshots) = watch::channel(Arc::new(first));
    tokio::spawn(publishing(store, received, publish, saved, lists));
    snapshots
}

/// How another list of a kind is asked for.
type Lists = BTreeMap<ObjectKind, Arc<Notify>>;

/// Publishes snapshots, and saves complete ones.
async fn publishing(
    mut store: Store,
    mut received: mpsc::Receiver<KindMessage>,
    publish: watch::Sender<Arc<Snapshot>>,
    saved: Option<SavedFile>,
    lists: Lists,
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
        let due = store.next_expiry().into_iter().chain(store.next_confirmation()).min();
        tokio::select! {
            () = publish.closed() => return,
            more = burst(&mut store, &mut received) => if !more { return },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => store.expire(Instant::now()),
        }
        for kind in store.confirmations_due(Instant::now()) {
            lists.get(&kind).inspect(|again| again.notify_one());
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

/// Waits until every kind is listed, and logs at intervals which are missing.
async fn complete(store: &mut Store, received: &mut mpsc::Receiver<KindMessage>) -> Snapshot {
    loop {
        if let Some(snapshot) = store.snapshot() {
            return snapshot;
        }
        if timeout(PATIENCE, burst(store, received)).await.is_err() {
            let missing: Vec<_> = store.missing().into_iter().map(ObjectKind::name).collect();
            let failures: Vec<_> =
                store.failures().map(|(kind, reason)| format!("{kind}: {reason}")).collect();
            let (missing, failures) = (missing.join(", "), failures.join("; "));
            tracing::warn!(missing, failures, "waiting for the API server");
        }
    }
}

/// Takes in the next events; false when there are no more to come.
async fn burst(store: &mut Store, received: &mut mpsc::Receiver<KindMessage>) -> bool {
    let Some((kind, first)) = received.recv().await else {
        return false;
    };
    store.apply(kind, first, Instant::now());
    let limit = Instant::now() + LONGEST_BURST;
    while let Ok(Some((kind, next))) = timeout_at(limit.min(Instant::now() + BURST), received.recv()).await {
        store.apply(kind, next, Instant::now());
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
