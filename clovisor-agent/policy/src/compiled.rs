//! What a compilation gives: the policy, the plans for sidecars, the problems.

use super::model::Policy;
use super::sidecar::plan::SidecarPlan;
use clovisor_objects::problem::Problem;
use std::sync::Arc;

/// Who configures the proxies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proxies {
    /// Clovisor, by files.
    #[default]
    Managed,
    /// Istio's control plane, with Clovisor's objects beside the user's.
    Sidecars,
}

/// Result of a compilation: always usable; what could not be exact is in `problems` and not in `policy`.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// Grows by one with every compilation.
    pub generation: u64,
    /// For whose proxies it is.
    pub proxies: Proxies,
    pub policy: Arc<Policy>,
    pub problems: Vec<Problem>,
    /// Refusals, for managed proxies, of objects that no mapping is about.
    pub notes: Vec<Problem>,
    /// What Istio's sidecars need; empty where Clovisor configures the proxies itself.
    pub sidecars: Vec<SidecarPlan>,
    /// Since when the objects come from disk because the API server is unreachable.
    pub stale_since: Option<jiff::Timestamp>,
}
