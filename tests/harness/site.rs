//! The site builder: an edge node with two WAN links, its pods, and the cloud beyond.
//!
//! ```text
//! pod0 ── veth0 ┐         ┌ s8 (default route) ┐
//! pod1 ── veth1 ┤  edge   │                    │  cloud: 203.0.113.10, 2001:db8:cafe::10
//!  …            ┘ (agent) └ s9 ────────────────┘         far end, gateway Envoy
//! ```

use crate::agent::{Agent, AgentOptions};
use crate::envoy::{self, Exposed, OUTBOUND_PORT, PROXY_UID};
use crate::eventually::eventually;
use crate::netns::Netns;
use crate::process::Process;
use crate::truth::{FarEnd, LinkSign};
use anyhow::{Context, Result, bail, ensure};
pub use parts::{Pod, SERVICE4, SERVICE6, Uplink};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a site leaves on disk, and how it is removed with nothing but that.
pub mod journal;

/// What to print when a test failed.
mod report;

/// Starting Envoys.
mod proxy;

/// Pods, uplinks and the service's addresses.
mod parts;

/// Devices, addresses and routes.
mod topology;

/// Port of the far end.
pub const APP_PORT: u16 = 8000;
/// Namespace of the pods in the objects.
pub const NAMESPACE: &str = "shop";

/// The shape of a site.
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    pods: usize,
    bridge: bool,
    tied: bool,
    attach: &'static str,
    sidecars: bool,
    sealed: bool,
    shipped: bool,
    uplink: Uplink,
}

/// A running site; everything it made goes away with it.
#[derive(Debug)]
pub struct Site {
    pub pods: Vec<Pod>,
    pub edge: Netns,
    pub cloud: Netns,
    root: PathBuf,
    tied: bool,
    attach: &'static str,
    sidecars: bool,
    sealed: bool,
    shipped: bool,
    kubeconfig: Option<PathBuf>,
    agent: Option<Agent>,
    gateway: Option<Process>,
    far_end: Option<FarEnd>,
    /// What carries an uplink's packets in user space.
    carriers: Vec<Process>,
}

impl Site {
    /// A site with one pod on a point-to-point veth.
    #[must_use]
    pub fn builder(name: &str) -> Builder {
        let name = name.to_owned();
        Builder {
            name,
            pods: 1,
            bridge: false,
            tied: true,
            attach: "auto",
            sidecars: false,
            sealed: false,
            shipped: false,
            uplink: Uplink::Veth,
        }
    }

    /// Folder of the site: `config`, `envoy`, `certs`, `run`, `state`, `logs`, `bpffs`.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Address of the service in the cloud.
    #[must_use]
    pub fn service(ipv6: bool, port: u16) -> SocketAddr {
        let address = if ipv6 { IpAddr::from(SERVICE6) } else { IpAddr::from(SERVICE4) };
        SocketAddr::new(address, port)
    }

    /// Writes a file of objects as `kubectl apply` would change them: whole or not at all.
    pub fn apply(&self, file: &str, objects: &str) -> Result<()> {
        let path = self.path("config").join(file);
        let temporary = self.path("config").join(format!(".{file}.new"));
        std::fs::write(&temporary, objects).with_context(|| format!("cannot write {file}"))?;
        std::fs::rename(&temporary, &path).with_context(|| format!("cannot write {file}"))
    }

    /// Removes a file of objects.
    pub fn withdraw(&self, file: &str) -> Result<()> {
        std::fs::remove_file(self.path("config").join(file)).with_context(|| format!("cannot remove {file}"))
    }

    /// The next agent reads its objects from an API server instead of the folder.
    pub fn use_kubernetes(&mut self, kubeconfig: PathBuf) {
        self.kubeconfig = Some(kubeconfig);
    }

    /// Starts the agent on the edge and waits until it is ready.
    pub fn start_agent(&mut self) -> Result<()> {
        ensure!(self.agent.is_none(), "the agent runs already");
        let options = AgentOptions {
            site: &self.root,
            tied: self.tied,
            attach: self.attach,
            kubeconfig: self.kubeconfig.as_deref(),
            sidecars: self.sidecars,
            sealed: self.sealed,
            shipped: self.shipped,
        };
        self.agent.insert(Agent::start(&self.edge, &options)?).wait_ready()
    }

    /// The agent.
    pub fn agent(&mut self) -> Result<&mut Agent> {
        self.agent.as_mut().context("no agent was started; call start_agent first")
    }

    /// Links, routes, the agent's view and the end of every log, as one text.
    pub fn report(&mut self) -> String {
        report::write(&self.root, &self.edge, self.agent.as_mut())
    }

    /// Kills the agent as a crash would.
    pub fn kill_agent(&mut self) -> Result<()> {
        match self.agent.take() {
            Some(agent) => agent.kill(),
            None => bail!("no agent to kill"),
        }
    }

    /// Ends the agent as systemd or the kubelet would; true if it went within five seconds.
    pub fn stop_agent(&mut self) -> Result<bool> {
        match self.agent.take() {
            Some(agent) => agent.stop(),
            None => bail!("no agent to stop"),
        }
    }

    /// Starts the pod's Envoy with the files that the agent wrote for the pod's namespace, redirects the
    /// pod's connections to it, and waits until it listens.
    pub fn start_proxy(&mut self, pod: usize) -> Result<()> {
        let folder = self.path("envoy").join(NAMESPACE);
        eventually("Envoy's files", Duration::from_secs(10), || {
            std::fs::metadata(folder.join("bootstrap.json")).map(drop).context("no bootstrap.json")
        })?;
        self.start_proxy_with(pod, &folder)
    }

    /// The same with a folder of the caller's own.
    pub fn start_proxy_with(&mut self, pod: usize, folder: &Path) -> Result<()> {
        let (root, tied) = (self.root.clone(), self.tied);
        let pod = self.pods.get_mut(pod).context("no such pod")?;
        let name = format!("envoy-{}", pod.name);
        pod.netns.nft(proxy::REDIRECT)?;
        let mut process = proxy::start(&name, &pod.netns, &folder.join("bootstrap.json"), &root, tied)?;
        proxy::listening(&mut process, &pod.netns, OUTBOUND_PORT)?;
        pod.proxy = Some(process);
        Ok(())
    }

    /// Ends the pod's Envoy.
    pub fn stop_proxy(&mut self, pod: usize) -> Result<()> {
        self.pods.get_mut(pod).context("no such pod")?.proxy = None;
        Ok(())
    }

    /// Starts the cloud's gateway in front of the far end.
    pub fn start_gateway(&mut self, services: &[Exposed]) -> Result<()> {
        let config = self.path("gateway.json");
        let text = envoy::gateway(services, &self.path("gateway-certs"));
        std::fs::write(&config, text.to_string()).context("cannot write the gateway's configuration")?;
        let mut process = proxy::start("gateway", &self.cloud, &config, &self.root, self.tied)?;
        proxy::listening(&mut process, &self.cloud, envoy::GATEWAY_PORT)?;
        self.gateway = Some(process);
        Ok(())
    }

    /// Takes a link's carrier away on the edge, as a pulled cable does, or gives it back.
    pub fn carrier(&self, link: &str, up: bool) -> Result<()> {
        self.cloud.ip(&format!("link set {link} {}", if up { "up" } else { "down" }))
    }

    fn remove(&mut self) {
        self.agent = None;
        self.gateway = None;
        self.far_end = None;
        self.carriers.clear();
        for pod in &mut self.pods {
            pod.proxy = None;
        }
        journal::remove(&self.root);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Builder {
    /// So many pods.
    #[must_use]
    pub fn pods(mut self, count: usize) -> Self {
        self.pods = count;
        self
    }

    /// Pods as ports of a bridge, as flannel and the reference CNI plugins do.
    #[must_use]
    pub fn bridge(mut self) -> Self {
        self.bridge = true;
        self
    }

    /// Of what kind the second link, `s9`, is.
    #[must_use]
    pub fn uplink(mut self, uplink: Uplink) -> Self {
        self.uplink = uplink;
        self
    }

    /// How the agent attaches its programs: `auto`, `tcx` or `clsact`.
    #[must_use]
    pub fn attach(mut self, hook: &'static str) -> Self {
        self.attach = hook;
        self
    }

    /// An agent for proxies that Istio's control plane configures.
    #[must_use]
    pub fn sidecars(mut self) -> Self {
        self.sidecars = true;
        self
    }

    /// The agent cannot write a setting of the node.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.sealed = true;
        self
    }

    /// The agent is the one of the image, whose size and speed users see.
    #[must_use]
    pub fn shipped(mut self) -> Self {
        self.shipped = true;
        self
    }

    /// Processes do not die with the thread that starts them; for programs that clean up themselves.
    #[must_use]
    pub fn untied(mut self) -> Self {
        self.tied = false;
        self
    }

    /// Builds the site, runs the closure, and tears the site down; if the closure fails, its error comes
    /// with the state of everything.
    pub fn run(self, test: impl FnOnce(&mut Site) -> Result<()>) -> Result<()> {
        let mut site = self.build()?;
        test(&mut site).map_err(|error| {
            let report = site.report();
            error.context(report)
        })
    }

    /// Builds the site.
    pub fn build(self) -> Result<Site> {
        ensure!(nix::unistd::geteuid().is_root(), "namespaces and BPF need root; run it with sudo");
        let root = journal::open(&self.name)?;
        match self.build_in(root.clone()) {
            Ok(site) => Ok(site),
            Err(error) => {
                journal::remove(&root);
                Err(error)
            }
        }
    }

    fn build_in(self, root: PathBuf) -> Result<Site> {
        for folder in ["config", "envoy", "certs", "run", "state", "logs", "bpffs"] {
            std::fs::create_dir(root.join(folder)).with_context(|| format!("cannot make {folder}"))?;
        }
        std::fs::set_permissions(&root, PermissionsExt::from_mode(0o755)).context("cannot chmod")?;
        journal::mount_bpffs(&root)?;
        let (pod_certs, gateway_certs) = (root.join("certs"), root.join("gateway-certs"));
        let identities = [
            (pod_certs.as_path(), "spiffe://cluster.local/ns/shop/sa/client"),
            (gateway_certs.as_path(), "spiffe://cluster.local/ns/shop/sa/reviews"),
        ];
        crate::certs::write(&identities, PROXY_UID)?;
        let prefix = journal::prefix(&root)?;
        let edge = Netns::create(&format!("{prefix}edge"))?;
        let cloud = Netns::create(&format!("{prefix}cloud"))?;
        topology::links(&edge, &cloud, self.bridge, self.uplink)?;
        let mut carriers = Vec::new();
        if self.uplink == Uplink::Tun {
            for mut command in topology::carriers(&edge, &cloud) {
                carriers.push(Process::start("carrier", &mut command, &root)?);
            }
        }
        let mut pods = Vec::new();
        for index in 0..self.pods {
            let netns = Netns::create(&format!("{prefix}pod{index}"))?;
            pods.push(topology::pod(index, netns, &edge, self.bridge)?);
        }
        let far_end = Some(FarEnd::start(&cloud, APP_PORT, topology::signs(self.uplink))?);
        Ok(Site {
            carriers,
            pods,
            edge,
            cloud,
            root,
            tied: self.tied,
            attach: self.attach,
            sidecars: self.sidecars,
            sealed: self.sealed,
            shipped: self.shipped,
            kubeconfig: None,
            agent: None,
            gateway: None,
            far_end,
        })
    }
}

/// The links as the far end tells them apart.
#[must_use]
pub fn link_signs() -> Vec<LinkSign> {
    topology::signs(Uplink::Veth)
}
