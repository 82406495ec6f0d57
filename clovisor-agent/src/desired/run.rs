//! The task that follows policy, links and network.

use super::image::image;
use super::pods::{Pods, is_hidden, resolve, unseen, uplinks};
use crate::link::table::LinkTable;
use clovisor_datapath::host::change::solicit;
use clovisor_datapath::host::net::HostNet;
use clovisor_datapath::kernel::image::PortRange;
use clovisor_datapath::kernel::state::{Desired, NamedDevice};
use clovisor_policy::compiled::Compiled;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// Between two solicitations of a pod behind a bridge that has not shown itself.
const SOLICIT: Duration = Duration::from_millis(500);

/// What the task reads.
#[derive(Debug)]
pub struct Inputs {
    pub policy: watch::Receiver<Arc<Compiled>>,
    pub links: watch::Receiver<Arc<LinkTable>>,
    pub host: watch::Receiver<Arc<HostNet>>,
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
}

/// Puts the task together, with the receivers of what it publishes once it runs.
#[must_use]
pub fn bind(inputs: Inputs) -> (Task, watch::Receiver<Arc<Desired>>, watch::Receiver<Arc<Pods>>) {
    let (desired, to_kernel) = watch::channel(Arc::default());
    let (pods, found) = watch::channel(Arc::default());
    (Task { inputs, desired, pods, unseen: Vec::new() }, to_kernel, found)
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
                let changed = tokio::select! {
                    changed = policy.changed() => changed,
                    changed = links.changed() => changed,
                    changed = host.changed() => changed,
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
        let host = self.inputs.host.borrow_and_update().clone();
        let uplinks = uplinks(&links);
        let pods = resolve(&compiled.policy, &host, &uplinks, &self.pods.borrow());
        self.unseen = unseen(&compiled.policy, &host, &uplinks, &pods);
        let veths =
            pods.iter().filter_map(|(key, found)| Some((key.clone(), *found.as_ref().ok()?))).collect();
        let named = |(ifindex, device): (&u32, &clovisor_datapath::host::net::Device)| {
            (*ifindex, NamedDevice { name: device.name.clone(), epoch: device.epoch })
        };
        let desired = Desired {
            generation: compiled.generation,
            image: Arc::new(image(&compiled.policy, &links, &veths, self.inputs.ports)),
            devices: host.devices.iter().map(named).collect(),
        };
        self.pods.send_replace(Arc::new(pods));
        self.desired.send_replace(Arc::new(desired));
    }
}
