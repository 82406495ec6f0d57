//! Arguments of `kubectl clovisor`.

use crate::cli::{Color, Output};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Ask the Clovisor agents of a cluster: what they steer, by which link, and why.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "kubectl-clovisor",
    bin_name = "kubectl clovisor",
    display_name = "kubectl clovisor",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  kubectl clovisor status
  kubectl clovisor sessions -n shop -l app=client
  kubectl clovisor explain client-0 -n shop -- --host reviews:8000 --header user=minions
  kubectl clovisor check --pre

Agents are asked by `kubectl exec` in their pods: it needs the right to create pods/exec in their namespace.
Exit codes are those of clovisorctl; 69 also where only some nodes answered, which are printed then."
)]
pub struct FleetCli {
    /// Context of the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace of the clients.
    #[arg(long, short, global = true, value_name = "NS", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// Clients of all namespaces.
    #[arg(long, short = 'A', global = true)]
    pub all_namespaces: bool,
    /// Only clients with these labels.
    #[arg(long, short = 'l', global = true, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Only this node; may be given several times.
    #[arg(long = "node", global = true, value_name = "NODE")]
    pub nodes: Vec<String>,
    /// Namespace where Clovisor is installed.
    #[arg(long, global = true, value_name = "NS", default_value = "clovisor-system")]
    pub clovisor_namespace: String,
    /// Output format.
    #[arg(long, short, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
    /// When to colour states.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: Color,
    #[command(subcommand)]
    pub command: FleetCommand,
}

/// The question.
#[derive(Subcommand, Clone, Debug)]
pub enum FleetCommand {
    /// Each node: readiness, links, sessions, pods, and every refused object.
    Status,
    /// Every link of every node.
    Links,
    /// Every steered connection of the clients.
    Sessions,
    /// Which route and rule a request of a pod takes and why; asked on the pod's own node.
    Explain {
        /// The client pod.
        pod: String,
        /// The request, as for `clovisorctl explain`.
        #[arg(last = true, required = true)]
        words: Vec<String>,
    },
    /// Look for problems, each with its fix; exit code 79 if there are any.
    Check {
        /// Before an installation: nodes and rights.
        #[arg(long)]
        pre: bool,
    },
    /// Write everything that a report of a fault needs into a folder; no secrets.
    Sysdump {
        /// The folder; default: clovisor-sysdump-TIME.
        folder: Option<PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn words_are_consistent() {
        FleetCli::command().debug_assert();
    }
}
