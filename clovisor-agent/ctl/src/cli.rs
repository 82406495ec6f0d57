//! Arguments of `clovisorctl`.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clovisor_objects::wan_mapping::traffic::TrafficProtocol;
use std::path::PathBuf;

/// Ask the node's Clovisor agent: what it steers, by which link, and why.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "clovisorctl",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  clovisorctl status
  clovisorctl sessions --link s9
  clovisorctl explain --pod shop/client-0 --host reviews:8000 --header user=minions
  clovisorctl explain -f deploy/example --pod shop/client-0 --host reviews:8000 --header user=boss
  clovisorctl explain --pod shop/till-0 --host 203.0.113.10:5060 --protocol udp
  clovisorctl render istio -f deploy/example

Exit codes: 0 done, 1 failed, 64 wrong words, 65 bad input, 69 no agent, 77 not permitted, 79 problems found.
Data goes to stdout, messages to stderr; NO_COLOR switches colour off."
)]
pub struct CtlCli {
    /// The agent's socket.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "CLOVISOR_SOCKET",
        default_value = "/run/clovisor/agent.sock"
    )]
    pub socket: PathBuf,
    /// Output format.
    #[arg(long, short, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
    /// When to colour states.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: Color,
    #[command(subcommand)]
    pub command: CtlCommand,
}

/// The question.
#[derive(Subcommand, Clone, Debug)]
pub enum CtlCommand {
    /// Readiness, programs, links, pods, refused objects and counters of the agent.
    Status {
        /// Wait until the agent is ready.
        #[arg(long)]
        wait: bool,
        /// How long to wait, seconds.
        #[arg(long, value_name = "S", default_value_t = 30)]
        timeout: u64,
    },
    /// Every link with its state and traffic.
    Links,
    /// Every steered connection with its pod, class and link.
    Sessions {
        /// Only those of this pod.
        #[arg(long, value_name = "NS/POD")]
        pod: Option<String>,
        /// Only those on this link.
        #[arg(long, value_name = "LINK")]
        link: Option<String>,
    },
    /// Which route and rule a request takes, which were passed over and why, and by which link it leaves.
    Explain(ExplainArgs),
    /// Check a folder of YAML without an agent: exit code 79 if something would be refused.
    Check {
        /// Folder of YAML.
        #[arg(short, long, value_name = "DIR")]
        file: PathBuf,
        #[command(flatten)]
        proxies: ProxiesArgs,
    },
    /// Print what a folder of YAML means for proxies, without writing it anywhere.
    Render(RenderArgs),
    /// Print the CustomResourceDefinitions of WanLink and WanMapping.
    Crds,
    /// Print the README's table of problem reasons.
    #[command(hide = true)]
    Reasons,
    /// Print the completion script of a shell.
    Completion { shell: clap_complete::Shell },
}

/// Whose configuration a folder is for.
#[derive(Args, Clone, Copy, Debug)]
pub struct ProxiesArgs {
    /// Judge for Istio's sidecars (true) or for proxies that Clovisor configures (false). Default: as the agent of
    /// this node runs, else false.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub sidecars: Option<bool>,
}

/// What to render.
#[derive(Args, Clone, Debug)]
pub struct RenderArgs {
    /// For whom.
    #[arg(value_enum)]
    pub what: Rendering,
    /// Folder of YAML: mappings with their status (its class numbers are kept), the mesh's objects, Services.
    #[arg(short, long, value_name = "DIR")]
    pub file: PathBuf,
    /// Only for clients of this namespace.
    #[arg(long, short, value_name = "NS")]
    pub namespace: Option<String>,
}

/// Kinds of output of `render`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rendering {
    /// DestinationRules and EnvoyFilters that Istio's control plane turns into the configuration of sidecars, in the
    /// order in which they must be written.
    Istio,
    /// The files of the Envoys that Clovisor configures itself, a document each.
    Envoy,
}

/// The request to explain.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// The client pod.
    #[arg(long, value_name = "NS/POD")]
    pub pod: String,
    /// Host as the client writes it, with or without port; with --protocol an address.
    #[arg(long, value_name = "HOST[:PORT]", value_parser = host)]
    pub host: String,
    /// Request method.
    #[arg(long, default_value = "GET")]
    pub method: String,
    /// Path with query.
    #[arg(long, default_value = "/", value_parser = path)]
    pub path: String,
    /// A request header; may be given several times.
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// Explain a packet of the pod past any proxy, by mappings of traffic: tcp, udp or icmp.
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
    pub protocol: Option<TrafficProtocol>,
    /// Explain this folder of YAML instead of asking the agent; link states are not known then.
    #[arg(short, long, value_name = "DIR")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub proxies: ProxiesArgs,
}

fn host(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains('/') {
        return Err("write HOST or HOST:PORT, e.g. reviews:8000; the path is --path".into());
    }
    Ok(text.to_owned())
}

fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') || text == "*" {
        Ok(text.to_owned())
    } else {
        Err("a path begins with /".into())
    }
}

fn protocol(text: &str) -> Result<TrafficProtocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(TrafficProtocol::Tcp),
        "udp" => Ok(TrafficProtocol::Udp),
        "icmp" => Ok(TrafficProtocol::Icmp),
        _ => Err("write tcp, udp or icmp".into()),
    }
}

/// Output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    #[default]
    Table,
    /// A table with every column.
    Wide,
    Json,
    Yaml,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

fn header(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').or_else(|| text.split_once(": "));
    let (name, value) = pair.ok_or("write NAME=VALUE, e.g. user=minions")?;
    if name.is_empty() { Err("the name is empty".into()) } else { Ok((name.to_owned(), value.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn words_are_consistent() {
        CtlCli::command().debug_assert();
        assert_eq!(header("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(header("a: b"), Ok(("a".into(), "b".into())));
        assert!(header("a").is_err());
    }
}
