//! The command line tool.
//!
//! **In**: arguments, the agents' local API or a folder of YAML. **Out**: tables, JSON or YAML on stdout, messages
//! on stderr, an exit code. **Never**: changes a node or a cluster.
#![forbid(unsafe_code)]

/// Arguments.
pub mod cli;

/// Exit codes and errors with a remedy.
pub mod outcome;

/// Asks the agent over its socket.
mod client;

/// Columns, ages and sizes as kubectl prints them; pure.
mod table;

/// Documents to text; pure.
mod show;

/// Formats of output, and the terminal.
mod output;

/// A folder of YAML as input.
mod folder;

/// The reasons of problems as a table, for the README.
mod reasons;

/// Policies as Istio objects or Envoy files.
mod render;

/// `kubectl clovisor`: the agents of a cluster, asked through its API server.
pub mod fleet;

/// Connections of a pod or a link.
mod sessions;

/// One command from its arguments to its output.
pub mod run;
