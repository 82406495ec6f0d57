//! A folder of YAML as input, without an agent.

use super::outcome::{Code, CtlError};
use clovisor_objects::folder::read_once;
use clovisor_objects::snapshot::Snapshot;
use clovisor_policy::allocation::Allocation;
use clovisor_policy::compile::{Purpose, compile};
use clovisor_policy::compiled::Compiled;
use std::path::Path;

/// The objects of the folder.
pub(super) fn snapshot(dir: &Path) -> Result<Snapshot, CtlError> {
    read_once(dir).map_err(|e| CtlError { code: Code::BadInput, message: e.to_string(), fix: None })
}

/// The policy of the folder for managed proxies.
pub(super) fn policy(dir: &Path) -> Result<Compiled, CtlError> {
    Ok(compile(&snapshot(dir)?, &Allocation::default(), 1, Purpose::default()).0)
}
