//! The local API on its unix socket.

use super::node_view::LiveNode;
use super::view;
use crate::connection::Limited;
use crate::desired::local::LocalRoutes;
use crate::desired::pods::Pods;
use crate::envoy::run::EnvoyStatus;
use crate::link::table::{LinkTable, Overall};
use crate::ready::Ready;
use crate::session::counters::AnswerCounters;
use crate::status::run::NodeSources;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use clovisor_datapath::files::{Access, bind_socket};
use clovisor_datapath::host::net::HostNet;
use clovisor_datapath::kernel::state::{Dump, KernelHandle};
use clovisor_objects::problem::{Problem, Subject};
use clovisor_objects::reason::ProblemReason;
use clovisor_policy::compiled::{Compiled, Proxies};
use clovisor_render::api::{self, ApiError, ExplainRequest, List};
use clovisor_render::explain::explain;
use clovisor_render::problems;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::watch;

/// Bytes of a request; the questions are small.
const BODY: usize = 64 << 10;

/// Connections at a time to each listener; the next ones wait.
pub(super) const CONNECTIONS: usize = 64;
/// How long a request's headers may take.
pub(super) const QUESTION: Duration = Duration::from_secs(5);

/// What the API reads.
#[derive(Clone, Debug)]
pub struct Sources {
    pub policy: watch::Receiver<Arc<Compiled>>,
    pub links: watch::Receiver<Arc<LinkTable>>,
    pub host: watch::Receiver<Arc<HostNet>>,
    pub pods: watch::Receiver<Arc<Pods>>,
    pub local: Arc<LocalRoutes>,
    pub kernel: KernelHandle,
    pub envoy: watch::Receiver<Arc<EnvoyStatus>>,
    pub counters: Arc<AnswerCounters>,
    pub ready: Ready,
    pub started: jiff::Timestamp,
}

/// Binds the socket, for its owner and group only; the socket of an earlier agent is replaced.
///
/// # Errors
/// The folder cannot be written.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    UnixListener::from_std(bind_socket(path, Access { mode: 0o660, group: None })?)
}

/// Answers until `shutdown` is ready.
///
/// # Errors
/// The listener failed for good.
pub async fn run(
    listener: UnixListener,
    sources: Sources,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = Limited::new(listener, CONNECTIONS, QUESTION);
    axum::serve(listener, router(sources)).with_graceful_shutdown(shutdown).await
}

fn router(sources: Sources) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/v1/status", get(status))
        .route("/v1/links", get(links))
        .route("/v1/sessions", get(sessions))
        .route("/v1/explain", post(explained))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(sources)
}

/// A failure of the API with its HTTP status.
struct Failure(StatusCode, ApiError);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

async fn unknown() -> Failure {
    let fix = "the API has /healthz, /readyz, /v1/status, /v1/links, /v1/sessions and /v1/explain (POST)";
    Failure(StatusCode::NOT_FOUND, ApiError { error: "no such path".into(), fix: Some(fix.into()) })
}

async fn readyz(State(sources): State<Sources>) -> (StatusCode, String) {
    let waiting = sources.ready.waiting_for();
    if waiting.is_empty() {
        return (StatusCode::OK, "ready\n".into());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", waiting.join(", ")))
}

impl Sources {
    /// The sources of the node's status.
    #[must_use]
    pub fn of_node(&self) -> NodeSources {
        NodeSources { links: self.links.clone(), kernel: self.kernel.clone(), ready: self.ready.clone() }
    }

    async fn dump(&self) -> Result<Dump, Failure> {
        self.kernel.dump().await.ok_or_else(|| {
            let error = ApiError {
                error: "the task that owns the kernel maps has ended".into(),
                fix: Some("look into the agent's log and restart the agent".into()),
            };
            Failure(StatusCode::INTERNAL_SERVER_ERROR, error)
        })
    }
}

async fn status(State(sources): State<Sources>) -> Result<Json<api::Status>, Failure> {
    let dump = sources.dump().await?;
    let compiled = sources.policy.borrow().clone();
    let kernel = sources.kernel.state().borrow().clone();
    let links = sources.links.borrow().clone();
    let envoy = sources.envoy.borrow().clone();
    let devices = view::device_names(&sources.host.borrow());
    let failed = kernel
        .error
        .iter()
        .map(|error| Problem::whole(ProblemReason::NotProgrammed, Subject::Node("kernel"), error.clone()));
    let failed: Vec<_> = failed.collect();
    let down = view::links_down(&links);
    let all = compiled.problems.iter().chain(&envoy.problems).chain(&failed).chain(&down);
    let waiting_for: Vec<_> = sources.ready.waiting_for().into_iter().map(str::to_owned).collect();
    Ok(Json(api::Status {
        version: env!("CARGO_PKG_VERSION").into(),
        ready: waiting_for.is_empty(),
        waiting_for,
        started: sources.started.to_string(),
        stale_since: compiled.stale_since.map(|time| time.to_string()),
        policy_generation: kernel.generation,
        map_writes: dump.map_writes,
        sidecars: compiled.proxies == Proxies::Sidecars,
        proxies_current: kernel.generation == compiled.generation
            && envoy.policy.as_ref().is_some_and(|written| *written == compiled.policy),
        attachments: view::attachments(&kernel, &devices),
        maps: view::fill(&dump),
        problems: problems::documents(all),
        counters: view::counters(&dump, &sources.counters.counts()),
        links_up: in_state(&links, Overall::Up),
        links_partial: in_state(&links, Overall::Partial),
        links_total: links.links.len() as u64,
        sessions: view::open_flows(&dump).count() as u64,
        pods: view::pods(&compiled.policy, &sources.pods.borrow(), &devices),
    }))
}

fn in_state(links: &LinkTable, state: Overall) -> u64 {
    links.links.values().filter(|link| link.overall() == state).count() as u64
}

async fn links(State(sources): State<Sources>) -> Result<Json<List<api::LinkStatus>>, Failure> {
    let dump = sources.dump().await?;
    let items = view::links(&sources.links.borrow(), &dump);
    Ok(Json(List::new("LinkList", items)))
}

async fn sessions(State(sources): State<Sources>) -> Result<Json<List<api::Session>>, Failure> {
    let dump = sources.dump().await?;
    let items = view::sessions(&sources.policy.borrow(), &sources.links.borrow(), &dump);
    Ok(Json(List::new("SessionList", items)))
}

async fn explained(
    State(sources): State<Sources>,
    request: Result<Json<ExplainRequest>, JsonRejection>,
) -> Result<Json<api::Explanation>, Failure> {
    let Json(request) = request.map_err(|rejection| {
        let fix = Some("send the JSON document that clovisorctl explain sends".into());
        Failure(rejection.status(), ApiError { error: rejection.body_text(), fix })
    })?;
    let compiled = sources.policy.borrow().clone();
    let links = sources.links.borrow().clone();
    let image = sources.kernel.state().borrow().image.clone();
    let devices = view::device_names(&sources.host.borrow());
    let dump = sources.dump().await?;
    let pods = sources.pods.borrow().clone();
    let host = sources.host.borrow().clone();
    let node = LiveNode {
        links: &links,
        image: &image,
        pods: &pods,
        host: &host,
        local: &sources.local,
        devices: &devices,
        dump: &dump,
    };
    let answer = explain(&compiled.policy, &request, Some(&node));
    answer.map(Json).map_err(|error| Failure(StatusCode::NOT_FOUND, error))
}
