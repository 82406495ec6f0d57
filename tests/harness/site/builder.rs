//! From a site's shape to a running site.

use super::{APP_PORT, Site, Uplink, diagnostics, journal, topology};
use crate::agent::AgentOptions;
use crate::envoy::PROXY_UID;
use crate::far_end::FarEnd;
use crate::netns::Netns;
use crate::process::Process;
use anyhow::{Context, Result, ensure};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// The shape of a site.
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    pods: usize,
    bridge: bool,
    uplink: Uplink,
    options: AgentOptions,
}

impl Site {
    /// A site with one pod on a point-to-point veth.
    #[must_use]
    pub fn builder(name: &str) -> Builder {
        let name = name.to_owned();
        Builder { name, pods: 1, bridge: false, uplink: Uplink::Veth, options: AgentOptions::default() }
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
        self.options.attach = hook;
        self
    }

    /// An agent for proxies that Istio's control plane configures.
    #[must_use]
    pub fn sidecars(mut self) -> Self {
        self.options.sidecars = true;
        self
    }

    /// The agent cannot write a setting of the node.
    #[must_use]
    pub fn read_only_sysctls(mut self) -> Self {
        self.options.read_only_sysctls = true;
        self
    }

    /// Networks that the agent takes for local.
    #[must_use]
    pub fn local_cidrs(mut self, cidrs: &'static str) -> Self {
        self.options.local_cidrs = Some(cidrs);
        self
    }

    /// Where the agent serves health and metrics.
    #[must_use]
    pub fn listen(mut self, address: &'static str) -> Self {
        self.options.listen = Some(address);
        self
    }

    /// The agent is the one of the image, whose size and speed users see.
    #[must_use]
    pub fn image_binary(mut self) -> Self {
        self.options.image_binary = true;
        self
    }

    /// Processes do not die with the thread that starts them; for programs that clean up themselves.
    #[must_use]
    pub fn outliving_its_thread(mut self) -> Self {
        self.options.dies_with_thread = false;
        self
    }

    /// Builds the site, runs the closure, and tears the site down; if the closure fails, its error comes
    /// with the state of everything.
    pub fn run(self, test: impl FnOnce(&mut Site) -> Result<()>) -> Result<()> {
        let mut site = self.build()?;
        test(&mut site).map_err(|error| {
            let report = diagnostics::collect(&mut site);
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
        let mut tunnel = Vec::new();
        if self.uplink == Uplink::Tun {
            for mut command in topology::tunnel(&edge, &cloud) {
                tunnel.push(Process::start("tunnel", &mut command, &root)?);
            }
        }
        let mut pods = Vec::new();
        for index in 0..self.pods {
            let netns = Netns::create(&format!("{prefix}pod{index}"))?;
            pods.push(topology::pod(index, netns, &edge, self.bridge)?);
        }
        let far_end = Some(FarEnd::start(&cloud, APP_PORT, topology::signs(self.uplink))?);
        Ok(Site {
            pods,
            edge,
            cloud,
            root,
            options: self.options,
            agent: None,
            gateway: None,
            far_end,
            tunnel,
        })
    }
}
