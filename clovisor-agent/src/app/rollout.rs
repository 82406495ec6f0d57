//! Who sees a new policy when: the kernel first, then Envoy, then the callout.
//!
//! A class in a packet must be known to the kernel before a proxy can send it, and an answer of the callout must
//! be known to the proxy's routes. What a new policy no longer has stays in the kernel maps for a while.

use crate::envoy::run::EnvoyStatus;
use clovisor_datapath::kernel::state::KernelState;
use clovisor_policy::compiled::Compiled;
use clovisor_policy::model::Policy;
use std::sync::Arc;
use tokio::sync::watch;

/// Passes on a policy once the kernel maps implement it.
pub(super) async fn after_kernel(
    mut policies: watch::Receiver<Arc<Compiled>>,
    mut kernel: watch::Receiver<Arc<KernelState>>,
    publish: watch::Sender<Arc<Policy>>,
) {
    // An empty policy is a policy too.
    let mut first = true;
    loop {
        let compiled = policies.borrow_and_update().clone();
        // A newer generation implements its own policy, which the next turn passes on.
        if kernel.wait_for(|state| state.generation >= compiled.generation).await.is_err() {
            return;
        }
        publish.send_if_modified(|old| {
            let changed = std::mem::take(&mut first) || **old != *compiled.policy;
            *old = compiled.policy.clone();
            changed
        });
        if policies.changed().await.is_err() {
            return;
        }
    }
}

/// Passes on a policy once the files of the proxies implement it.
pub(super) async fn after_envoy(
    mut status: watch::Receiver<Arc<EnvoyStatus>>,
    publish: watch::Sender<Arc<Policy>>,
) {
    loop {
        if let Some(policy) = status.borrow_and_update().policy.clone() {
            publish.send_replace(policy);
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}
