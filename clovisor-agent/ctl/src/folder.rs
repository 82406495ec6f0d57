//! A folder of YAML as input, without an agent.

use super::client::AgentClient;
use super::outcome::{Code, CtlError};
use clovisor_objects::folder::read_once;
use clovisor_objects::problem::Subject;
use clovisor_objects::snapshot::Snapshot;
use clovisor_policy::allocation::Allocation;
use clovisor_policy::compile::{Proxies, Purpose, compile};
use clovisor_policy::compiled::Compiled;
use clovisor_render::api::Status;
use std::path::Path;

/// The objects of a folder, or of one file. Nothing to read is an error, not an empty answer.
pub(super) fn snapshot(dir: &Path) -> Result<Snapshot, CtlError> {
    const FIX: &str = "name a folder of YAML or JSON, or a file, with -f";
    let read = read_once(dir);
    let snapshot = read.map_err(|e| CtlError::new(Code::BadInput, e.to_string(), FIX))?;
    let of_folder = Subject::File(".".to_owned());
    let problems: Vec<_> = snapshot.problems.iter().filter(|p| p.subject == of_folder).cloned().collect();
    // All that is wrong may be that there is no file.
    let is_bare = !problems.is_empty() && problems.len() == snapshot.problems.len();
    if snapshot == (Snapshot { problems, ..Snapshot::default() }) {
        let what = if is_bare { ": no file .yaml, .yml or .json" } else { "" };
        let message = format!("{} holds no object that Clovisor reads{what}", dir.display());
        return Err(CtlError::new(Code::BadInput, message, FIX));
    }
    Ok(snapshot)
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
