//! A real Kubernetes of two nodes on a site: `edge` with its two links, and `cloud` behind them.
//!
//! ```text
//!            control plane 10.250.0.1
//!           ┌────────┴────────┐
//!     edge 10.250.0.11   cloud 10.250.0.12        pods of edge: 10.244.0.0/24, of cloud: 10.244.2.0/24
//!           └ s8 ─── s9 ──────┘
//! ```

use crate::eventually::eventually;
use crate::netns::{Netns, run};
use crate::process::Process;
use crate::site::Site;
use crate::site::journal;
pub use addresses::{API, NODES};
use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Keys, certificates, tokens.
mod identities;

/// Clovisor and clients on it.
pub mod shop;

/// Names and addresses.
mod addresses;

/// etcd, API server, controllers and scheduler.
mod control;

/// The running cluster; killed by drop.
#[derive(Debug)]
pub struct Cluster {
    root: PathBuf,
    netns: Netns,
    control: control::Control,
    nodes: Vec<Process>,
}

impl Cluster {
    /// Starts everything; ready when both nodes are. `proxy_mode`: kube-proxy's, `nftables` or `iptables`.
    pub fn start(site: &Site, proxy_mode: &str) -> Result<Self> {
        let root = site.path("");
        let folder = root.join("kubernetes");
        std::fs::create_dir_all(&folder).context("cannot make the cluster's folder")?;
        identities::write(&folder)?;
        let netns = Netns::create(&format!("{}cp", journal::prefix(&root)?))?;
        networks(site, &netns)?;
        let control = control::Control::start(&netns, &root)?;
        let mut cluster = Self { root, netns, control, nodes: Vec::new() };
        for (name, address, cidr) in NODES {
            let node = cluster.node(site, name, address, cidr, proxy_mode)?;
            cluster.nodes.push(node);
        }
        cluster.wait_nodes()?;
        Ok(cluster)
    }

    fn node(&self, site: &Site, name: &str, address: &str, cidr: &str, mode: &str) -> Result<Process> {
        let scripts = crate::repository::path("tests/cluster/node");
        let images = crate::repository::path("target/images");
        ensure!(
            images.join("clovisor.tar").is_file() && images.join("proxy.tar").is_file(),
            "no images in {}; run `cargo xtask test cluster`, which builds them",
            images.display()
        );
        let netns = if name == "edge" { &site.edge } else { &site.cloud };
        let mut command = Command::new(scripts.join("enter.sh"));
        command.args([name, address, cidr]);
        command.env("SITE", self.root.canonicalize().context("the site has a folder")?);
        command.env("KUBE", control::tool("kube")?).env("IMAGES", images.canonicalize()?);
        command.env("NETNS", netns.name()).env("PREFIX", journal::prefix(&self.root)?);
        command.env("PROXY_MODE", mode);
        Process::start(&format!("node-{name}"), &mut command, &self.root)
    }

    fn wait_nodes(&mut self) -> Result<()> {
        eventually("both nodes Ready", Duration::from_secs(90), || {
            for node in &mut self.nodes {
                node.check()?;
            }
            let words =
                ["get", "nodes", "-o", "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}"];
            let ready = self.control.kubectl(&self.netns, &words, None)?;
            ensure!(ready == "True True", "{ready:?}");
            self.control.kubectl(&self.netns, &["get", "serviceaccount", "default"], None).map(drop)
        })
    }

    /// Runs kubectl as an administrator, with `input` on stdin; its output, or an error with its own words.
    pub fn kubectl(&self, words: &[&str], input: Option<&str>) -> Result<String> {
        self.control.kubectl(&self.netns, words, input)
    }

    /// Applies objects.
    pub fn apply(&self, objects: &str) -> Result<String> {
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], Some(objects))
    }

    /// Ends the API server as a crash would; the data stay.
    pub fn kill_api(&mut self) -> Result<()> {
        self.control.kill_api()
    }

    /// Starts it again.
    pub fn restart_api(&mut self) -> Result<()> {
        self.control.restart_api(&self.netns)
    }

    /// The kubeconfig of an administrator; the API server is reached inside [`Self::netns`].
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubernetes/admin")
    }

    /// Where the control plane runs.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The network of a pod: of any process of it.
    pub fn pod_netns(&self, namespace: &str, pod: &str) -> Result<Netns> {
        self.pid_of(namespace, pod, "").map(Netns::of_process)
    }

    /// A process of a pod with this name, or any; as the machine numbers it.
    pub fn pid_of(&self, namespace: &str, pod: &str, program: &str) -> Result<u32> {
        let words = ["get", "pod", pod, "-n", namespace, "-o", "jsonpath={.metadata.uid}"];
        let uid = self.kubectl(&words, None)?;
        for entry in std::fs::read_dir("/proc").context("no /proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if groups.contains(&format!("pod{uid}")) && (program.is_empty() || name.trim() == program) {
                return Ok(pid);
            }
        }
        bail!("no process {program} of pod {namespace}/{pod} ({uid})")
    }

    /// A command inside a node's namespaces.
    pub fn in_node(&self, node: usize, program: &str) -> Result<Command> {
        let outer = self.nodes.get(node).context("no such node")?.pid();
        let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"));
        let inner = children.context("the node is gone")?;
        let inner = inner.split_whitespace().next().context("the node has no init")?.to_owned();
        let mut command = Command::new("nsenter");
        command.args(["-t", &inner, "-m", "-p", "-u", "-i", "-C", "-n", "--", program]);
        Ok(command)
    }
}

/// The management network: a bridge, a veth to each node, and routes to their pods.
fn networks(site: &Site, control: &Netns) -> Result<()> {
    control.ip(&format!("link add br0 type bridge\naddr add {API}/24 dev br0\nlink set br0 up\n"))?;
    control.sysctl(&[("net/ipv4/ip_forward", "1")])?;
    for (name, address, cidr) in NODES {
        let netns = if name == "edge" { &site.edge } else { &site.cloud };
        control.ip(&format!(
            "link add {name} type veth peer name eth0 netns {}\nlink set {name} master br0\nlink set {name} up\n\
             route add {cidr} via {address}\n",
            netns.name()
        ))?;
        netns.ip(&format!("addr add {address}/24 dev eth0\nlink set eth0 up\n"))?;
        netns.sysctl(&[("net/ipv4/ip_forward", "1")])?;
    }
    for (name, _, _) in NODES {
        let netns = if name == "edge" { &site.edge } else { &site.cloud };
        for (other, address, cidr) in NODES {
            if other != name {
                // The cloud knows the edge's pods by s8 already.
                netns.ip(&format!("route replace {cidr} via {address} metric 10\n"))?;
            }
        }
        if name == "cloud" {
            netns.ip(&format!("route add default via {API}\n"))?;
        }
    }
    Ok(())
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The nodes' processes die with their first one; their cgroups are removed with the site.
        self.nodes.clear();
        journal::remove_cgroups(&self.root);
        let _left = run(Command::new("ip").args(["netns", "del", self.netns.name()]), None);
    }
}
