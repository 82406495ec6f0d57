//! The task that owns the kernel half.

use super::diff::diff;
use super::flows::{FlowEntry, Flows};
use super::image::{Image, PortRange, died, image, union};
use super::load::{Attached, Programs};
use super::plan::{Hook, Place};
use super::sweeper::{FlowDump, Sweeper};
use super::tables::{Fill, TableError, Tables};
use crate::cluster::identity::ObjectKey;
use crate::host::net::HostNet;
use crate::host::resolve::{Unresolved, bridge_to_ask, resolve_pod};
use crate::host::watch::{forget_neighbour, solicit};
use crate::link::table::LinkTable;
use crate::policy::compiled::Compiled;
use clovisor_common::abi::{Counter, LinkCounters, Reason};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// How long entries of the policy before stay, so that no proxy is ahead of or behind the kernel.
const LINGER: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_secs(5);
/// Between attempts to make a pod behind a bridge show itself.
const ASK: Duration = Duration::from_millis(500);

/// What the task reads.
#[derive(Debug)]
pub struct Inputs {
    pub policy: watch::Receiver<Arc<Compiled>>,
    pub links: watch::Receiver<Arc<LinkTable>>,
    pub host: watch::Receiver<Arc<HostNet>>,
    pub ports: PortRange,
}

/// What the task publishes after each change.
#[derive(Clone, Debug, Default)]
pub struct KernelState {
    /// Generation of the policy that the maps implement.
    pub generation: u64,
    pub pods: Pods,
    /// Pods behind bridges that did not show themselves yet.
    pub hidden: usize,
    pub attached: BTreeMap<Place, Attached>,
    /// The last failure, until a later attempt succeeds.
    pub error: Option<String>,
    pub image: Arc<Image>,
}

/// Counters and flows of one moment.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    pub flows: Vec<FlowEntry>,
    pub counters: BTreeMap<Reason, Counter>,
    pub links: BTreeMap<u8, LinkCounters>,
    pub fill: Vec<Fill>,
    /// CLOCK_MONOTONIC of the dump, as in the flows.
    pub now_ns: u64,
    /// Entries written and removed since the start of the process.
    pub map_writes: u64,
}

/// Asks the task for a dump.
#[derive(Clone, Debug)]
pub struct KernelHandle {
    ask: mpsc::Sender<oneshot::Sender<Dump>>,
    ask_flows: mpsc::Sender<oneshot::Sender<FlowDump>>,
    state: watch::Receiver<Arc<KernelState>>,
    full: watch::Receiver<Vec<Fill>>,
}

impl KernelHandle {
    /// Tables of answered flows that are nearly full.
    #[must_use]
    pub fn full(&self) -> watch::Receiver<Vec<Fill>> {
        self.full.clone()
    }

    /// Flows and counters now; none when the task is gone.
    pub async fn dump(&self) -> Option<Dump> {
        let (answer, got) = oneshot::channel();
        self.ask.send(answer).await.ok()?;
        let (answer, got_flows) = oneshot::channel();
        self.ask_flows.send(answer).await.ok()?;
        let (dump, (flows, mut fill)) = (got.await.ok()?, got_flows.await.ok()?);
        fill.extend(dump.fill);
        Some(Dump { flows, fill, ..dump })
    }

    /// The published state.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<Arc<KernelState>> {
        self.state.clone()
    }
}

/// The task before it runs.
#[derive(Debug)]
pub struct Kernel {
    programs: Programs,
    tables: Tables,
    sweeper: Option<Sweeper>,
    inputs: Inputs,
    asked: mpsc::Receiver<oneshot::Sender<Dump>>,
    state: watch::Sender<Arc<KernelState>>,
    current: Image,
    /// The image without what only lingers, and when it becomes the current one.
    trimmed: Option<(Image, Instant)>,
    to_ask: Vec<(IpAddr, String)>,
    /// Of each device, see [`Device::epoch`](crate::host::net::Device::epoch).
    epochs: BTreeMap<u32, u32>,
    /// Gateways of links that died, whose waiting packets must go.
    dead: Vec<(u32, IpAddr)>,
    writes: u64,
}

/// Puts the task together; the maps' contents of an agent before are read, not changed.
///
/// # Errors
/// A map cannot be read.
pub fn bind(
    programs: Programs,
    tables: Tables,
    flows: Flows,
    inputs: Inputs,
) -> Result<(Kernel, KernelHandle), TableError> {
    let current = tables.read()?;
    let (ask, asked) = mpsc::channel(16);
    let (ask_flows, flows_asked) = mpsc::channel(16);
    let (state, published) = watch::channel(Arc::default());
    let (full, told_full) = watch::channel(Vec::new());
    let sweeper = Sweeper { flows, state: published.clone(), asked: flows_asked, full };
    let kernel = Kernel {
        programs,
        tables,
        sweeper: Some(sweeper),
        inputs,
        asked,
        state,
        current,
        trimmed: None,
        to_ask: Vec::new(),
        epochs: BTreeMap::new(),
        dead: Vec::new(),
        writes: 0,
    };
    Ok((kernel, KernelHandle { ask, ask_flows, state: published, full: told_full }))
}

impl Kernel {
    /// Follows the inputs until they end, and sweeps the flows meanwhile. Programs stay attached.
    pub async fn run(mut self) {
        let Some(sweeper) = self.sweeper.take() else { return };
        tokio::join!(self.follow(), sweeper.run());
    }

    async fn follow(mut self) {
        let mut ask = interval(ASK);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.converge();
        loop {
            let trim_at = self.trimmed.as_ref().map_or_else(far_future, |(_, at)| *at);
            tokio::select! {
                changed = self.inputs.policy.changed() => if changed.is_err() { return },
                changed = self.inputs.links.changed() => if changed.is_err() { return },
                changed = self.inputs.host.changed() => if changed.is_err() { return },
                () = sleep_until(trim_at) => { self.trim(); continue }
                _ = ask.tick(), if !self.to_ask.is_empty() => {
                    for (address, bridge) in &self.to_ask {
                        solicit(*address, bridge).await;
                    }
                    continue;
                }
                _ = retry.tick() => { self.retry(); continue }
                Some(answer) = self.asked.recv() => { self.answer(answer); continue }
            }
            self.converge();
            for (ifindex, gateway) in std::mem::take(&mut self.dead) {
                if let Err(error) = forget_neighbour(ifindex, gateway).await {
                    tracing::debug!(ifindex, %gateway, %error, "packets for a dead link may wait");
                }
            }
        }
    }

    /// Writes the difference to what is wanted now, then attaches; at start with maps filled before any packet.
    fn converge(&mut self) {
        let policy = self.inputs.policy.borrow_and_update().clone();
        let links = self.inputs.links.borrow_and_update().clone();
        let host = self.inputs.host.borrow_and_update().clone();
        let pods = resolve(&policy, &host, &self.state.borrow().pods);
        self.to_ask = to_ask(&policy, &host, &pods);
        let veths = pods.iter().filter_map(|(k, v)| Some((k.clone(), *v.as_ref().ok()?))).collect();
        let wanted = image(&policy.policy, &links, &veths, self.inputs.ports);
        let both = union(&self.current, &wanted);
        self.dead.extend(dead_gateways(&self.current, &wanted));
        let mut error = self.write(both.clone()).err();
        if both != wanted {
            self.trimmed = Some((wanted.clone(), Instant::now() + LINGER));
        } else {
            self.trimmed = None;
        }
        let epochs = host.devices.iter().map(|(ifindex, device)| (*ifindex, device.epoch)).collect();
        for ifindex in remade(&self.epochs, &epochs) {
            self.programs.forget(ifindex);
        }
        self.epochs = epochs;
        let names = host.devices.iter().map(|(i, d)| (*i, d.name.clone())).collect();
        if let Err(attach) = self.programs.converge(&places(&wanted), &names) {
            error = Some(attach.to_string());
        }
        if let Some(error) = &error {
            tracing::warn!(%error, "kernel half incomplete, trying again");
        }
        let state = KernelState {
            generation: policy.generation,
            hidden: pods.values().filter(|p| is_hidden(p)).count(),
            pods,
            attached: self.programs.attached().clone(),
            error,
            image: Arc::new(wanted),
        };
        self.state.send_replace(Arc::new(state));
    }

    fn write(&mut self, wanted: Image) -> Result<(), String> {
        for op in diff(&self.current, &wanted) {
            tracing::debug!(?op, "map write");
            self.tables.apply(&op).map_err(|e| e.to_string())?;
            self.writes += 1;
        }
        self.current = wanted;
        Ok(())
    }

    fn trim(&mut self) {
        if let Some((image, _)) = self.trimmed.take()
            && let Err(error) = self.write(image)
        {
            tracing::warn!(%error, "old entries remain");
        }
    }

    fn retry(&mut self) {
        if self.state.borrow().error.is_some() {
            self.converge();
        }
    }

    fn answer(&self, answer: oneshot::Sender<Dump>) {
        let dump = Dump {
            flows: Vec::new(),
            counters: self.tables.counters().unwrap_or_default(),
            links: self.tables.link_counters().unwrap_or_default(),
            fill: self.tables.fill(),
            now_ns: now_ns(),
            map_writes: self.writes,
        };
        if answer.send(dump).is_err() {
            tracing::debug!("nobody waits for the dump");
        }
    }
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// The host side device of each pod, or why it is not known.
pub type Pods = BTreeMap<ObjectKey, Result<u32, Unresolved>>;

/// The device of every pod. One that was found stays while it exists: bridges and neighbour tables forget.
fn resolve(policy: &Compiled, host: &HostNet, before: &Pods) -> Pods {
    let pods = policy.policy.pods.iter();
    pods.map(|(key, pod)| {
        let found: Vec<_> = pod.addresses.iter().map(|a| resolve_pod(host, *a)).collect();
        let first = found.iter().find_map(|r| r.as_ref().ok().copied());
        let reason = found.into_iter().find_map(Result::err).unwrap_or(Unresolved::NoAddress);
        let forgotten = is_hidden(&Err(reason));
        let known = before.get(key).and_then(|old| old.ok()).filter(|old| host.devices.contains_key(old));
        (key.clone(), first.or(known.filter(|_| forgotten)).ok_or(reason))
    })
    .collect()
}

fn is_hidden(pod: &Result<u32, Unresolved>) -> bool {
    matches!(pod, Err(Unresolved::NeighbourUnknown | Unresolved::PortUnknown))
}

/// Devices that both know, of another epoch.
fn remade(old: &BTreeMap<u32, u32>, new: &BTreeMap<u32, u32>) -> Vec<u32> {
    let other = |(ifindex, epoch): &(&u32, &u32)| old.get(ifindex).is_some_and(|before| before != *epoch);
    new.iter().filter(other).map(|(ifindex, _)| *ifindex).collect()
}

/// Addresses of pods behind bridges that must show themselves, and the bridge of each.
fn to_ask(policy: &Compiled, host: &HostNet, pods: &Pods) -> Vec<(IpAddr, String)> {
    let hidden = policy.policy.pods.iter().filter(|(key, _)| pods.get(key).is_some_and(is_hidden));
    let addresses = hidden.flat_map(|(_, pod)| pod.addresses.iter());
    addresses.filter_map(|a| bridge_to_ask(host, *a).map(|bridge| (*a, bridge.to_owned()))).collect()
}

/// Devices and gateways of links that new packets no longer take.
fn dead_gateways(old: &Image, new: &Image) -> Vec<(u32, IpAddr)> {
    let gateways = died(old, new).flat_map(|link| {
        let both = [IpAddr::from(link.gateway4), IpAddr::from(link.gateway6)];
        both.map(|gateway| (link.ifindex, gateway))
    });
    gateways.filter(|(_, gateway)| !gateway.is_unspecified()).collect()
}

fn places(image: &Image) -> BTreeSet<Place> {
    let pods = image.pods.keys().map(|ifindex| Place { hook: Hook::PodIn, ifindex: *ifindex });
    let links = image
        .link_of
        .keys()
        .flat_map(|ifindex| [Hook::WanIn, Hook::WanOut].map(|hook| Place { hook, ifindex: *ifindex }));
    pods.chain(links).collect()
}

/// CLOCK_MONOTONIC, the clock of `bpf_ktime_get_ns`.
pub(super) fn now_ns() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |t| t.tv_sec().unsigned_abs() * 1_000_000_000 + t.tv_nsec().unsigned_abs())
}
