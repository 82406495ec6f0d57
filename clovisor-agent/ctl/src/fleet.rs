//! `kubectl clovisor`: the agents of a cluster, asked through its API server with the user's own rights.

/// Arguments.
pub mod cli;

/// Failures in few words; pure.
mod failures;

/// Runs `clovisorctl` in the agents' pods.
mod agents;

/// Faults of an installation, and of a cluster before one.
mod check;

/// A folder with everything that a bug report needs.
mod sysdump;

/// Answers of many nodes to text; pure.
mod show;

/// One command from its arguments to its output.
pub mod run;
