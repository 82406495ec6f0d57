//! A test site: an edge node with two WAN links, its pods, and the cloud beyond.
//!
//! ```text
//! pod0 ── veth0 ┐         ┌ s8 (default route) ┐
//! pod1 ── veth1 ┤  edge   │                    │  cloud: 203.0.113.10, 2001:db8:cafe::10
//!  …            ┘ (agent) └ s9 ────────────────┘         far end, gateway Envoy
//! ```

use crate::agent::{Agent, AgentOptions};
use crate::envoy::{self, Exposed, OUTBOUND_PORT};
use crate::eventually::eventually;
use crate::far_end::FarEnd;
use crate::netns::Netns;
use crate::process::Process;
pub use addresses::{APP_PORT, NAMESPACE, SERVICE4, SERVICE6};
use anyhow::{Context, Result, bail, ensure};
pub use pod::Pod;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
pub use uplink::Uplink;

/// Addresses, port and namespace that every site has.
mod addresses;

/// Building a site from its shape.
pub mod builder;

/// The state of a site whose test failed.
pub mod diagnostics;

/// What a site leaves on disk, and how it is removed with nothing but that.
pub mod journal;

/// A pod of a site.
mod pod;

/// Starting Envoys.
mod proxy;

/// Devices, addresses and routes.
mod topology;

/// What to try on a site that stays.
pub mod try_out;

/// Kinds of uplinks.
mod uplink;

/// A running site; drop removes everything that it made.
#[derive(Debug)]
pub struct Site {
    pub pods: Vec<Pod>,
    pub edge: Netns,
    pub cloud: Netns,
    root: PathBuf,
    options: AgentOptions,
    agent: Option<Agent>,
    gateway: Option<Process>,
    far_end: Option<FarEnd>,
    /// The two ends of a tunnel in user space.
    tunnel: Vec<Process>,
}

impl Site {
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
        self.options.kubeconfig = Some(kubeconfig);
    }

    /// Starts the agent on the edge and waits until it is ready.
    pub fn start_agent(&mut self) -> Result<()> {
        ensure!(self.agent.is_none(), "the agent runs already");
        let agent = Agent::start(&self.edge, &self.root, &self.options)?;
        self.agent.insert(agent).wait_ready()
    }

    /// The agent.
    pub fn agent(&mut self) -> Result<&mut Agent> {
        self.agent.as_mut().context("no agent was started; call start_agent first")
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
        let (root, dies) = (self.root.clone(), self.options.dies_with_thread);
        let pod = self.pods.get_mut(pod).context("no such pod")?;
        let name = format!("envoy-{}", pod.name);
        pod.netns.nft(proxy::REDIRECT)?;
        let mut process = proxy::start(&name, &pod.netns, &folder.join("bootstrap.json"), &root, dies)?;
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
        let mut process =
            proxy::start("gateway", &self.cloud, &config, &self.root, self.options.dies_with_thread)?;
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
        self.tunnel.clear();
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
