//! Builds the stages, connects them, drains them in reverse.
//!
//! **In**: flags. **Out**: a running agent. **Owns**: the order of start and end. **Never**: logic.

mod allocation;
mod compiler;
mod news;
mod rollout;

use crate::admin::serve::{self, Sources};
use crate::config::{ControllerArgs, RunArgs};
use crate::desired::local::LocalRoutes;
use crate::desired::run::{Inputs, Task, all_seen};
use crate::envoy::run::{EnvoyConfig, EnvoyStatus};
use crate::link::past::PastFile;
use crate::link::table::{Kept, LinkTable, MarkMask};
use crate::ready::{Hold, Ready};
use crate::session::counters::AnswerCounters;
use crate::source::api::{self, View};
use crate::source::folder;
use crate::source::saved::SavedFile;
use crate::{admin, controller, desired, envoy, link, session, status};
use allocation::AllocationFile;
use anyhow::{Context, Result, bail};
use clovisor_datapath::host::net::HostNet;
use clovisor_datapath::host::reserved_ports::{PortKeeper, PortRecord};
use clovisor_datapath::kernel::image::PortRange;
use clovisor_datapath::kernel::load::load;
use clovisor_datapath::kernel::run::Kernel;
use clovisor_datapath::{host, kernel};
use clovisor_objects::snapshot::Snapshot;
use clovisor_policy::allocation::Numbering;
use clovisor_policy::compile::{Proxies, Purpose};
use clovisor_policy::model::Policy;
use compiler::Compiler;
use futures_util::future::try_join_all;
use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long requests in flight have at the end.
const DRAIN: Duration = Duration::from_secs(4);

/// How long the start waits for gateways and pods to answer.
const SETTLE: Duration = Duration::from_secs(2);

/// Everything that can fail at the start has succeeded; nothing runs yet.
#[derive(Debug)]
pub struct Bound {
    compiler: Compiler,
    desired: Task,
    kernel: Kernel,
    envoy: Option<EnvoyConfig>,
    callout: UnixListener,
    api: UnixListener,
    sources: Sources,
    envoy_status: watch::Sender<Arc<EnvoyStatus>>,
    points: Points,
    /// The API server, the node's name and the interval of its status.
    cluster: Option<Cluster>,
    /// Health and metrics over TCP.
    listeners: Vec<TcpListener>,
}

/// The API server, if the objects come from there.
struct Cluster {
    client: kube::Client,
    node: String,
    pace: Duration,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("node", &self.node).field("pace", &self.pace).finish_non_exhaustive()
    }
}

/// What readiness waits for.
#[derive(Debug)]
struct Points {
    maps: Hold,
    envoy: Hold,
}

/// Reads the folder, compiles the first policy, loads the programs, binds the sockets.
///
/// # Errors
/// What failed and what to do about it.
pub async fn bind(args: &RunArgs) -> Result<Bound> {
    folder_of_ours(&args.run_dir)?;
    folder_of_ours(&args.state_dir)?;
    let file = AllocationFile::in_dir(&args.state_dir);
    let mut numbers = file.load();
    let secret = file.port_secret(&mut numbers).context("no random number for source ports")?;
    let (programs, tables, flows) =
        load(&args.datapath.bpffs, args.datapath.attach, secret, &args.state_dir)?;
    let cluster = cluster(args).await?;
    let snapshots = snapshots(args, cluster.as_ref()).await?;
    let network = host::watch::watch().await?;
    let links = links(args, numbers.links.clone(), &snapshots, &network);
    let (compiler, policy) = Compiler::new(snapshots, file, numbers, purpose(args));
    keep_ports(args, network.clone());
    let ports = PortRange { min: args.datapath.nat_ports.0, max: args.datapath.nat_ports.1 };
    let local = Arc::new(LocalRoutes::new(&args.datapath.local_cidrs));
    let inputs = Inputs {
        policy: policy.clone(),
        links: links.clone(),
        host: network.clone(),
        local: local.clone(),
        ports,
    };
    let (desired, to_kernel, pods) = desired::run::bind(inputs);
    let (kernel, handle) = kernel::run::bind(programs, tables, flows, to_kernel)?;
    let socket = args.run_dir.join("callout/callout.sock");
    let callout = session::listen::bind(&socket, Some(args.envoy.proxy_gid))?;
    let api = local_api(&args.run_dir)?;
    let listeners = try_join_all(args.status.listen.iter().map(|address| listen(*address))).await?;
    let ready = Ready::default();
    let points = Points { maps: ready.hold("kernel maps and programs"), envoy: ready.hold("Envoy files") };
    let (envoy_status, envoy_state) = watch::channel(Arc::default());
    let sources = Sources {
        policy,
        links,
        host: network,
        pods,
        local,
        kernel: handle,
        envoy: envoy_state,
        counters: Arc::new(AnswerCounters::default()),
        ready,
        started: jiff::Timestamp::now(),
    };
    let envoy = args.envoy.envoy_dir.as_ref().map(|dir| envoy_config(args, dir, &socket));
    Ok(Bound {
        compiler,
        desired,
        kernel,
        envoy,
        callout,
        api,
        sources,
        envoy_status,
        points,
        cluster,
        listeners,
    })
}

/// Follows the links, from what an earlier agent left of them; their times are kept on disk.
fn links(
    args: &RunArgs,
    kept: Kept,
    snapshots: &watch::Receiver<Arc<Snapshot>>,
    network: &watch::Receiver<Arc<HostNet>>,
) -> watch::Receiver<Arc<LinkTable>> {
    let times = PastFile::in_dir(&args.state_dir);
    let marks = MarkMask(args.datapath.mark_mask);
    let links = link::watch::watch((kept, times.load()), marks, snapshots.clone(), network.clone());
    tokio::spawn(times.run(links.clone()));
    links
}

/// Reserves the source ports of NAT while the node's settings leave them to its sockets.
fn keep_ports(args: &RunArgs, network: watch::Receiver<Arc<HostNet>>) {
    let record = PortRecord::in_dir(&args.run_dir);
    PortKeeper::new(args.datapath.nat_ports, args.datapath.reserve_nat_ports, record).watch(network);
}

fn local_api(dir: &Path) -> Result<UnixListener> {
    let socket = dir.join("agent.sock");
    serve::bind(&socket).with_context(|| format!("cannot listen on {}; set --run-dir", socket.display()))
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let bound = admin::listen::bind(address).await;
    bound.with_context(|| format!("cannot listen on {address}; choose another address with --listen"))
}

/// Runs the controller, with its health over TCP if asked for.
///
/// # Errors
/// What failed and what to do about it.
pub async fn control(args: &ControllerArgs, shutdown: impl Future<Output = ()>) -> Result<()> {
    let ready = Ready::default();
    if let Some(address) = args.listen {
        let listener = listen(address).await?;
        tokio::spawn(admin::listen::run_health(listener, ready.clone()));
    }
    let starting = ready.hold("the API server");
    controller::run::run(args, move || drop(starting), shutdown).await
}

fn purpose(args: &RunArgs) -> Purpose {
    Purpose {
        proxies: if args.source.sidecars { Proxies::Sidecars } else { Proxies::Managed },
        numbering: if args.source.controller { Numbering::Status } else { Numbering::Own },
        local: args.source.kubernetes,
    }
}

/// The way to the API server, if the objects come from there.
async fn cluster(args: &RunArgs) -> Result<Option<Cluster>> {
    let Some(node) = args.source.node_name.clone().filter(|_| args.source.kubernetes) else {
        return Ok(None);
    };
    let client = api::client().await?;
    Ok(Some(Cluster { client, node, pace: args.status.status_pace() }))
}

/// Follows the source of objects that the flags name.
async fn snapshots(args: &RunArgs, cluster: Option<&Cluster>) -> Result<watch::Receiver<Arc<Snapshot>>> {
    match (&args.source.config, cluster) {
        (Some(dir), _) => Ok(folder::watch(dir)?),
        (None, Some(Cluster { client, node, .. })) => {
            let saved = SavedFile::in_dir(&args.state_dir);
            let view = View::Node { name: node.clone(), saved };
            Ok(api::watch(client.clone(), view).await)
        }
        (None, None) => bail!("no source of objects; give --config DIR, or --kubernetes with --node-name"),
    }
}

fn folder_of_ours(dir: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(dir);
    made.with_context(|| format!("cannot create {}; set --run-dir and --state-dir", dir.display()))
}

fn envoy_config(args: &RunArgs, dir: &Path, callout: &Path) -> EnvoyConfig {
    let mut config = EnvoyConfig::new(dir.to_owned());
    config.mount = args.envoy.envoy_mount.clone();
    config.render.callout = callout.to_owned();
    config.render.certificates = args.envoy.envoy_certs.clone();
    config.render.callout_timeout = args.envoy.callout_timeout();
    config
}

impl Bound {
    /// Runs until `shutdown` is ready, then drains: the callout answers requests in flight, the programs stay.
    ///
    /// # Errors
    /// A stage ended by itself: the agent is better restarted than half alive.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let Self {
            compiler,
            desired,
            kernel,
            envoy,
            callout,
            api,
            sources,
            envoy_status,
            points,
            cluster,
            listeners,
        } = self;
        let (stop, stopped) = watch::channel(false);
        let (implemented, to_envoy) = watch::channel(Arc::<Policy>::default());
        let (written, to_callout) = watch::channel(Arc::<Policy>::default());
        let mut stages = JoinSet::new();
        stages.spawn(compiler.run(sources.links.clone()));
        if let Some(Cluster { client, node, pace }) = cluster {
            stages.spawn(status::run::run(client, node, sources.of_node(), pace));
        }
        stages.spawn(link::marks::run(sources.links.clone(), sources.host.clone()));
        stages.spawn(follow_settled(desired, sources.links.clone()));
        stages.spawn(kernel.run());
        stages.spawn(rollout::after_kernel(sources.policy.clone(), sources.kernel.state(), implemented));
        stages.spawn(rollout::after_envoy(sources.envoy.clone(), written));
        stages.spawn(files(envoy, to_envoy, envoy_status, sources.kernel.state()));
        let mut servers = JoinSet::new();
        for listener in listeners {
            servers.spawn(served("health", admin::listen::run(listener, sources.clone(), signal(&stopped))));
        }
        servers.spawn(served("api", serve::run(api, sources.clone(), signal(&stopped))));
        let started = started(points, sources.clone());
        tokio::pin!(shutdown);
        // The callout answers once there are routes that know its answers.
        let ended = tokio::select! {
            () = &mut shutdown => None,
            _ = stages.join_next() => Some(()),
            _ = servers.join_next() => Some(()),
            result = started => { result.context("a stage ended during the start")?; None }
        };
        if ended.is_some() {
            bail!("a stage of the agent ended by itself; see the log before this line");
        }
        tracing::info!("ready");
        let answers = session::serve::run(callout, to_callout, sources.counters, signal(&stopped));
        servers.spawn(served("callout", answers));
        tokio::select! {
            () = &mut shutdown => {}
            _ = stages.join_next() => bail!("a stage of the agent ended by itself; see the log before this line"),
            _ = servers.join_next() => bail!("a server of the agent ended by itself; see the log before this line"),
        }
        tracing::info!("draining; programs and maps stay");
        stop.send_replace(true);
        if timeout(DRAIN, async { while servers.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!("requests in flight did not end in time");
        }
        stages.shutdown().await;
        Ok(())
    }
}

/// Decides for the kernel half once the links are known: until then the entries of an earlier agent hold.
async fn follow_settled(desired: Task, mut links: watch::Receiver<Arc<LinkTable>>) {
    settled(&mut links, |table| table.pending == 0).await;
    desired.run().await;
}

/// Releases the points of readiness, one after the other.
async fn started(points: Points, mut sources: Sources) -> Result<()> {
    sources.kernel.state().wait_for(|state| state.generation > 0 && !state.blocked).await?;
    settled(&mut sources.pods, |pods| all_seen(pods)).await;
    drop(points.maps);
    sources.envoy.wait_for(|status| status.policy.is_some()).await?;
    drop(points.envoy);
    Ok(())
}

/// Waits a moment for gateways and pods to show themselves; what does not by then is down or not here.
async fn settled<T>(values: &mut watch::Receiver<Arc<T>>, is_settled: impl FnMut(&Arc<T>) -> bool) {
    if timeout(SETTLE, values.wait_for(is_settled)).await.is_err() {
        tracing::info!("not every gateway and pod has answered, going on without");
    }
}

/// Keeps the files, from the first policy that the kernel implements; without a folder there is nothing to wait for.
async fn files(
    config: Option<EnvoyConfig>,
    mut policy: watch::Receiver<Arc<Policy>>,
    status: watch::Sender<Arc<EnvoyStatus>>,
    mut kernel: watch::Receiver<Arc<kernel::state::KernelState>>,
) {
    if kernel.wait_for(|state| state.generation > 0).await.is_err() || policy.changed().await.is_err() {
        return;
    }
    if let Some(config) = config {
        return envoy::run::run(policy, config, status).await;
    }
    loop {
        let policy_now = policy.borrow_and_update().clone();
        status.send_replace(Arc::new(EnvoyStatus { policy: Some(policy_now), problems: Vec::new() }));
        if policy.changed().await.is_err() {
            return;
        }
    }
}

fn signal(stopped: &watch::Receiver<bool>) -> impl Future<Output = ()> + Send + use<> {
    let mut stopped = stopped.clone();
    async move {
        // The sender lives as long as the agent; an error means the same.
        let _gone = stopped.wait_for(|stop| *stop).await;
    }
}

/// A server until it ends; a failure is told.
async fn served<E: std::fmt::Display>(server: &'static str, running: impl Future<Output = Result<(), E>>) {
    if let Err(error) = running.await {
        tracing::warn!(server, %error, "ended badly");
    }
}
