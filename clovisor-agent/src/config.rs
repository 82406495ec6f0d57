//! Flags and environment.
//!
//! **In**: the command line. **Out**: [`AgentCommand`] with every path and number checked. **Never**: reads files.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clovisor_datapath::kernel::plan::AttachMode;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The node daemon of Clovisor: puts each request of a mesh on the WAN link that its route is mapped to.
#[derive(Parser, Clone, Debug)]
#[command(
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  clovisor-agent run --config /etc/clovisor --envoy-dir /var/lib/clovisor/envoy
      steer by the YAML files of a folder, and write the files of the pods' Envoys
  clovisor-agent run --kubernetes --node-name edge-1
      the same by the objects of a cluster
  clovisor-agent cleanup --dry-run
      show what would be removed from the kernel

Ask the running agent with clovisorctl. RUST_LOG sets the log filter, e.g. RUST_LOG=clovisor=debug."
)]
pub struct AgentCli {
    #[command(subcommand)]
    pub command: AgentCommand,
}

/// What to do.
#[derive(Subcommand, Clone, Debug)]
pub enum AgentCommand {
    /// Steer until stopped. Programs and maps stay when the agent ends: established flows keep their link.
    Run(Box<RunArgs>),
    /// Give class numbers, write statuses and, for sidecars, Istio's objects; one replica of a cluster works, the
    /// others wait. Steering does not depend on it: nodes continue with what it wrote.
    Controller(ControllerArgs),
    /// Remove Clovisor's programs, maps, pins, rules, routes and reserved ports from the kernel, and nothing else.
    Cleanup(CleanupArgs),
}

/// Flags of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub status: StatusArgs,
    #[command(flatten)]
    pub envoy: EnvoyArgs,
    /// Folder of the sockets: agent.sock (clovisorctl) and callout/callout.sock (Envoy); and of the note which ports
    /// are reserved.
    #[arg(long, value_name = "DIR", env = "CLOVISOR_RUN_DIR", default_value = "/run/clovisor")]
    pub run_dir: PathBuf,
    /// Folder of what must outlive a restart: the numbers of namespaces, classes and links.
    #[arg(long, value_name = "DIR", env = "CLOVISOR_STATE_DIR", default_value = "/var/lib/clovisor")]
    pub state_dir: PathBuf,
    #[command(flatten)]
    pub datapath: DatapathArgs,
    /// One JSON object a line for collectors, or text for people.
    #[arg(long, value_enum, default_value_t, env = "CLOVISOR_LOG_FORMAT")]
    pub log_format: LogFormat,
}

/// Flags of the source of objects, and of how their meaning is shared.
#[derive(Args, Clone, Debug)]
pub struct SourceArgs {
    /// Folder with the YAML files of WanLinks, WanMappings, Istio's objects and Pods; watched.
    #[arg(long, value_name = "DIR", env = "CLOVISOR_CONFIG", required_unless_present = "kubernetes")]
    pub config: Option<PathBuf>,
    /// Read the objects from the Kubernetes API server (in a pod, or by KUBECONFIG) instead of a folder.
    #[arg(long, conflicts_with = "config", requires = "node_name", env = "CLOVISOR_KUBERNETES")]
    pub kubernetes: bool,
    /// Name of this node in Kubernetes: its pods are those that are steered here.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node_name: Option<String>,
    /// Class numbers come from the mappings' status, where `clovisor-agent controller` writes them: the same on
    /// every node. Not set: this agent gives its own.
    #[arg(long, env = "CLOVISOR_CONTROLLER")]
    pub controller: bool,
    /// The pods' proxies are Istio's sidecars, configured by its control plane with the objects that the controller
    /// (or `clovisorctl render istio`) writes.
    #[arg(long, conflicts_with = "envoy_dir", requires = "controller", env = "CLOVISOR_SIDECARS")]
    pub sidecars: bool,
}

/// Flags of what the agent tells about itself.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Answer /healthz, /readyz and /metrics (OpenMetrics) over TCP at this address; may be given several times. An agent uses
    /// the node's network: any address but a loopback one can be reached from its links. Not set: no TCP port at all.
    #[arg(long, value_name = "ADDR:PORT", env = "CLOVISOR_LISTEN", value_delimiter = ',')]
    pub listen: Vec<SocketAddr>,
    /// Between two writes of this node's WanNode, milliseconds; it is written on change only.
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    status_pace_ms: u64,
}

/// Flags of the files of Envoys, and of their callout.
#[derive(Args, Clone, Debug)]
pub struct EnvoyArgs {
    /// Write the files of the pods' Envoys here, a folder per namespace. Not set: no files.
    #[arg(long, value_name = "DIR", env = "CLOVISOR_ENVOY_DIR")]
    pub envoy_dir: Option<PathBuf>,
    /// Where a pod sees its namespace's folder. Not set: at the same path as the agent.
    #[arg(long, value_name = "DIR", env = "CLOVISOR_ENVOY_MOUNT")]
    pub envoy_mount: Option<PathBuf>,
    /// Where a pod sees cert-chain.pem, key.pem and root-cert.pem.
    #[arg(long, value_name = "DIR", env = "CLOVISOR_ENVOY_CERTS", default_value = "/etc/clovisor/certs")]
    pub envoy_certs: PathBuf,
    /// Group that may connect to the callout's socket: that of the proxies.
    #[arg(long, value_name = "GID", env = "CLOVISOR_PROXY_GID", default_value_t = 1337)]
    pub proxy_gid: u32,
    /// How long a request waits for the agent's decision before onAgentLoss holds, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    callout_timeout_ms: u64,
}

/// Flags of the kernel half and of the node's network.
#[derive(Args, Clone, Debug)]
pub struct DatapathArgs {
    /// A mounted BPF file system, where programs and maps are pinned.
    #[arg(long, value_name = "DIR", env = "CLOVISOR_BPFFS", default_value = "/sys/fs/bpf")]
    pub bpffs: PathBuf,
    /// How programs are attached.
    #[arg(long, value_name = "MODE", default_value = "auto", value_parser = attach_modes(), env = "CLOVISOR_ATTACH")]
    pub attach: AttachMode,
    /// Source ports of connections whose address is translated: outside net.ipv4.ip_local_port_range, so that the
    /// node's own sockets and its masquerade of other connections never have the same.
    #[arg(long, value_name = "MIN-MAX", default_value = "1024-29999", value_parser = ports)]
    pub nat_ports: (u16, u16),
    /// Where --nat-ports overlaps net.ipv4.ip_local_port_range, reserve that part in
    /// net.ipv4.ip_local_reserved_ports; `cleanup` takes it back. With `false`, or where /proc/sys is read-only, the
    /// log names the command that does it.
    #[arg(long, value_name = "BOOL", env = "CLOVISOR_RESERVE_NAT_PORTS", default_value_t = true, action = clap::ArgAction::Set)]
    pub reserve_nat_ports: bool,
    /// Networks that no mapping of traffic takes, besides what is local by the node's routes and the cluster's objects: pod or
    /// Service networks that neither names, partners behind a router.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = local_cidr, env = "CLOVISOR_LOCAL_CIDRS")]
    pub local_cidrs: Vec<IpNet>,
    /// Bits of skb->mark that links in mode Mark may use, seven in a row; no firewall or CNI plugin of the node may
    /// use them too (kube-proxy has 0xc000, Cilium 0x0f00, Calico from 0x10000 up).
    #[arg(long, value_name = "MASK", default_value = "0x7f000000", value_parser = mark_mask, env = "CLOVISOR_MARK_MASK")]
    pub mark_mask: u32,
}

impl StatusArgs {
    /// Between two writes of this node's WanNode.
    #[must_use]
    pub const fn status_pace(&self) -> Duration {
        Duration::from_millis(self.status_pace_ms)
    }
}

impl EnvoyArgs {
    /// How long a request waits for the agent's decision.
    #[must_use]
    pub const fn callout_timeout(&self) -> Duration {
        Duration::from_millis(self.callout_timeout_ms)
    }
}

/// Flags of `controller`.
#[derive(Args, Clone, Debug)]
pub struct ControllerArgs {
    /// Namespace of the Lease that one replica holds.
    #[arg(long, value_name = "NS", env = "POD_NAMESPACE", default_value = "clovisor-system")]
    pub namespace: String,
    /// Name of this replica in the Lease.
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value = "controller")]
    pub identity: String,
    /// Proxies are Istio's sidecars.
    #[arg(long, env = "CLOVISOR_SIDECARS")]
    pub sidecars: bool,
    /// Write DestinationRules and EnvoyFilters for sidecars. With `false` apply what `clovisorctl render istio` prints.
    #[arg(long, value_name = "BOOL", env = "CLOVISOR_MANAGE_ISTIO", default_value_t = true, action = clap::ArgAction::Set)]
    pub manage_istio: bool,
    /// Answer /healthz and /readyz over TCP. Not set: no TCP port at all.
    #[arg(long, value_name = "ADDR:PORT", env = "CLOVISOR_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// The agent's callout socket, as sidecars see it.
    #[arg(long, value_name = "PATH", default_value = "/run/clovisor/callout/callout.sock")]
    pub callout: PathBuf,
    /// How long nodes and proxies get to take in one stage of writes before the next, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    settle_ms: u64,
    /// One JSON object a line for collectors, or text for people.
    #[arg(long, value_enum, default_value_t, env = "CLOVISOR_LOG_FORMAT")]
    pub log_format: LogFormat,
}

impl ControllerArgs {
    /// How long nodes and proxies get to take in one stage of writes.
    #[must_use]
    pub const fn settle(&self) -> Duration {
        Duration::from_millis(self.settle_ms)
    }
}

/// Flags of `cleanup`.
#[derive(Args, Clone, Debug)]
pub struct CleanupArgs {
    /// The BPF file system that the agent was given.
    #[arg(long, value_name = "DIR", env = "CLOVISOR_BPFFS", default_value = "/sys/fs/bpf")]
    pub bpffs: PathBuf,
    /// The folder of sockets that the agent was given: there it notes which ports it reserved.
    #[arg(long, value_name = "DIR", env = "CLOVISOR_RUN_DIR", default_value = "/run/clovisor")]
    pub run_dir: PathBuf,
    /// Only show what would be removed.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Remove the agent's files in this folder too: numbers, saved objects, Envoy files.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Do not end until stopped: in a DaemonSet, whose pods are to run.
    #[arg(long)]
    pub stay: bool,
}

/// The values of `--attach`.
fn attach_modes() -> impl TypedValueParser<Value = AttachMode> {
    let auto =
        PossibleValue::new("auto").help("TCX links where the kernel has them (6.6), else clsact filters");
    PossibleValuesParser::new([auto, PossibleValue::new("tcx"), PossibleValue::new("clsact")]).map(|name| {
        match name.as_str() {
            "tcx" => AttachMode::Tcx,
            "clsact" => AttachMode::Clsact,
            _ => AttachMode::Auto,
        }
    })
}

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Json,
    #[default]
    Text,
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let range = text.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match range {
        Some((min, max)) if min > 1023 && min <= max => Ok((min, max)),
        _ => Err("write two ports above 1023, e.g. 1024-29999".into()),
    }
}

fn mark_mask(text: &str) -> Result<u32, String> {
    let mask = text.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let in_a_row = |mask: u32| mask >> mask.trailing_zeros() == (1 << mask.count_ones()) - 1;
    match mask {
        Some(mask) if (7..32).contains(&mask.count_ones()) && in_a_row(mask) => Ok(mask),
        _ => Err("write at least seven bits in a row, e.g. 0x7f000000".into()),
    }
}

fn local_cidr(text: &str) -> Result<IpNet, String> {
    match text.parse::<IpNet>() {
        Ok(net) if net.prefix_len() > 0 => Ok(net),
        Ok(_) => Err("this is every address: nothing would be left for links; name the networks".into()),
        Err(_) => Err("write a network, e.g. 10.20.0.0/16 or fd20::/48".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn flags_are_consistent_and_checked() {
        AgentCli::command().debug_assert();
        assert_eq!(ports("1024-29999"), Ok((1024, 29999)));
        assert_eq!(mark_mask("0x7f00"), Ok(0x7f00));
        for bad in ["", "7f00", "0x3f", "0x7e7f00", "0xffffffff", "0x0"] {
            assert!(mark_mask(bad).is_err(), "{bad}");
        }
        assert_eq!(local_cidr("10.20.0.0/16").map(|net| net.to_string()), Ok("10.20.0.0/16".to_owned()));
        for bad in ["", "10.20.0.0", "0.0.0.0/0", "::/0"] {
            assert!(local_cidr(bad).is_err(), "{bad}");
        }
        for bad in ["", "80-90", "5000-4000", "a-b"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }
}
