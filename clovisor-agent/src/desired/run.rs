//! The task that follows policy, links and network.

use super::image::image;
use super::local::LocalRoutes;
use super::pods::{Pods, is_hidden, resolve, unseen, uplinks};
use crate::link::table::LinkTable;
use clovisor_datapath::host::change::solicit;
use clovisor_datapath::host::net::HostNet;
use clovisor_datapath::kernel::image::{LocalPrefixes, PortRange};
use clovisor_datapath::kernel::state::{Desired, NamedDevice};
use clovisor_policy::compiled::Compiled;
use clovisor_policy::local::LocalNets;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// Between two solicitations of a pod behind a bridge that has not shown itself.
const SOLICIT: Duration = Duration::from_millis(500);

/// Between two looks at the routes for what is local: a node may have a whole internet of them, which changes all the time.
const PACE: Duration = Duration::from_millis(250);

/// What the task reads.
#[derive(Debug)]
pub struct Inputs {
    pub policy: watch::Receiver<Arc<Compiled>>,
    pub links: watch::Receiver<Arc<LinkTable>>,
    pub host: watch::Receiver<Arc<HostNet>>,
    pub local: Arc<LocalRoutes>,
    pub ports: PortRange,
}

/// The task before it runs.
#[derive(Debug)]
pub struct Task {
    inputs: Inputs,
    desired: watch::Sender<Arc<Desired>>,
    pods: watch::Sender<Arc<Pods>>,
    /// Addresses of pods that have to show themselves, and the bridge of each.
    unseen: Vec<(IpAddr, String)>,
    local: Local,
}

/// What is local, and of what that was computed.
#[derive(Debug, Default)]
struct Local {
    prefixes: Arc<LocalPrefixes>,
    objects: Arc<LocalNets>,
    uplinks: BTreeSet<u32>,
    /// Networks that the map has no room for.
    left_out: usize,
    /// When the routes were looked at last.
    at: Option<Instant>,
    /// The node's network has changed since then.
    stale: bool,
}

/// Puts the task together, with the receivers of what it publishes once it runs.
#[must_use]
pub fn bind(inputs: Inputs) -> (Task, watch::Receiver<Arc<Desired>>, watch::Receiver<Arc<Pods>>) {
    let (desired, to_kernel) = watch::channel(Arc::default());
    let (pods, found) = watch::channel(Arc::default());
    (Task { inputs, desired, pods, unseen: Vec::new(), local: Local::default() }, to_kernel, found)
}

/// No pod waits for its bridge to learn of it.
#[must_use]
pub fn all_seen(pods: &Pods) -> bool {
    !pods.values().any(is_hidden)
}

impl Task {
    /// Follows the inputs until one of them ends.
    pub async fn run(mut self) {
        let mut again = interval(SOLICIT);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.publish();
            loop {
                let Inputs { policy, links, host, .. } = &mut self.inputs;
                let due = self.local.due();
                let changed = tokio::select! {
                    changed = policy.changed() => changed,
                    changed = links.changed() => changed,
                    changed = host.changed() => changed,
                    () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Ok(()),
                    _ = again.tick(), if !self.unseen.is_empty() => {
                        for (address, bridge) in &self.unseen {
                            solicit(*address, bridge).await;
                        }
                        continue;
                    }
                };
                if changed.is_err() {
                    return;
                }
                break;
            }
        }
    }

    /// Publishes also an unchanged value, so that each event retries programs that could not be attached.
    fn publish(&mut self) {
        let compiled = self.inputs.policy.borrow_and_update().clone();
        let links = self.inputs.links.borrow_and_update().clone();
        self.local.stale |= self.inputs.host.has_changed().unwrap_or(false);
        let host = self.inputs.host.borrow_and_update().clone();
        let uplinks = uplinks(&links);
        let pods = resolve(&compiled.policy, &host, &uplinks, &self.pods.borrow());
        self.unseen = unseen(&compiled.policy, &host, &uplinks, &pods);
        let local = self.local.update(&self.inputs.local, &compiled.policy.local, &host, &uplinks);
        let veths =
            pods.iter().filter_map(|(key, found)| Some((key.clone(), *found.as_ref().ok()?))).collect();
        let named = |(ifindex, device): (&u32, &clovisor_datapath::host::net::Device)| {
            (*ifindex, NamedDevice { name: device.name.clone(), epoch: device.epoch })
        };
        let desired = Desired {
            generation: compiled.generation,
            image: Arc::new(image(&compiled.policy, &links, &veths, local, self.inputs.ports)),
            devices: host.devices.iter().map(named).collect(),
        };
        self.pods.send_replace(Arc::new(pods));
        self.desired.send_replace(Arc::new(desired));
    }
}

impl Local {
    /// When the routes are to be looked at again.
    fn due(&self) -> Option<Instant> {
        self.at.filter(|_| self.stale).map(|at| at + PACE)
    }

    /// What is local now; after events of the network alone not more often than every [`PACE`].
    fn update(
        &mut self,
        given: &LocalRoutes,
        objects: &Arc<LocalNets>,
        host: &HostNet,
        uplinks: &BTreeSet<u32>,
    ) -> Arc<LocalPrefixes> {
        let asked = self.objects != *objects || self.uplinks != *uplinks;
        let now = Instant::now();
        if asked || self.at.is_none() || self.due().is_some_and(|due| due <= now) {
            let (prefixes, left_out) = given.prefixes(objects, host, uplinks);
            if prefixes != *self.prefixes {
                self.prefixes = Arc::new(prefixes);
            }
            if left_out != self.left_out && left_out > 0 {
                tracing::warn!(
                    left_out,
                    "more local networks than the map LOCAL has room for: mappings of traffic may take packets to those \
                     with the longest prefixes; aggregate the routes, or name the networks with --local-cidrs"
                );
            }
            (self.objects, self.uplinks, self.left_out) = (objects.clone(), uplinks.clone(), left_out);
            (self.at, self.stale) = (Some(now), false);
        }
        self.prefixes.clone()
    }
}
