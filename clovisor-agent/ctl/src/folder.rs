//! A folder of YAML as input, without an agent.

use super::client::AgentClient;
use super::outcome::{Code, CtlError};
use clovisor_objects::folder::read_once;
use clovisor_objects::snapshot::Snapshot;
use clovisor_policy::allocation::Allocation;
use clovisor_policy::compile::{Proxies, Purpose, compile};
use clovisor_policy::compiled::Compiled;
use clovisor_render::api::Status;
use std::path::Path;

/// The objects of the folder.
pub(super) fn snapshot(dir: &Path) -> Result<Snapshot, CtlError> {
    read_once(dir).map_err(|e| CtlError { code: Code::BadInput, message: e.to_string(), fix: None })
}

/// The policy of the folder.
pub(super) fn policy(dir: &Path, proxies: Proxies) -> Result<Compiled, CtlError> {
    let purpose = Purpose { proxies, ..Purpose::default() };
    Ok(compile(&snapshot(dir)?, &Allocation::default(), 1, purpose).0)
}

/// Who configures the proxies: what the user says, else as the agent of this node runs, else Clovisor.
pub(super) async fn proxies(sidecars: Option<bool>, client: &AgentClient) -> Proxies {
    match sidecars {
        Some(true) => Proxies::Sidecars,
        Some(false) => Proxies::Managed,
        None => match client.get::<Status>("/v1/status").await {
            Ok(status) if status.sidecars => {
                eprintln!("judged for Istio's sidecars, as the agent of this node runs; see --sidecars");
                Proxies::Sidecars
            }
            _ => Proxies::Managed,
        },
    }
}
