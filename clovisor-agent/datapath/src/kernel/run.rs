//! The task that owns the maps which the agent fills, and the programs.

use super::diff::diff;
use super::flows::Flows;
use super::gc::Collector;
use super::image::{Image, died, union, with_ports_of};
use super::load::Programs;
use super::plan::{AttachPoint, Hook};
use super::state::{Desired, Dump, KernelHandle, KernelState, NamedDevice, now_ns};
use super::tables::{MapTables, TableError};
use super::write::{WriteOutcome, write_all};
use crate::causes::causes;
use crate::host::change::forget_neighbour;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// How long entries of the previous policy stay, for proxies that still use it.
const LINGER: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_secs(5);

/// The task before it runs.
#[derive(Debug)]
pub struct Kernel {
    programs: Programs,
    tables: MapTables,
    gc: Option<Collector>,
    desired: watch::Receiver<Arc<Desired>>,
    asked: mpsc::Receiver<oneshot::Sender<Dump>>,
    state: watch::Sender<Arc<KernelState>>,
    current: Arc<Image>,
    /// The image without lingering entries, and when it becomes the current one.
    trimmed: Option<(Arc<Image>, Instant)>,
    devices: BTreeMap<u32, NamedDevice>,
    /// Gateways of links that went down, whose queued packets are to be dropped.
    dead: Vec<(u32, IpAddr)>,
    writes: u64,
}

/// Puts the task together; the maps of an earlier agent are read, not changed.
///
/// # Errors
/// A map cannot be read.
pub fn bind(
    programs: Programs,
    tables: MapTables,
    flows: Flows,
    desired: watch::Receiver<Arc<Desired>>,
) -> Result<(Kernel, KernelHandle), TableError> {
    let current = Arc::new(tables.read()?);
    let (ask, asked) = mpsc::channel(16);
    let (ask_flows, flows_asked) = mpsc::channel(16);
    let (state, published) = watch::channel(Arc::default());
    let (full, told_full) = watch::channel(Vec::new());
    let gc = Collector::new(flows, published.clone(), flows_asked, full);
    let kernel = Kernel {
        programs,
        tables,
        gc: Some(gc),
        desired,
        asked,
        state,
        current,
        trimmed: None,
        devices: BTreeMap::new(),
        dead: Vec::new(),
        writes: 0,
    };
    Ok((kernel, KernelHandle { ask, ask_flows, state: published, full: told_full }))
}

impl Kernel {
    /// Follows what is desired until its sender is gone, and sweeps the flows meanwhile; ends with either, since without the sweep
    /// flows never go. Programs stay attached.
    pub async fn run(mut self) {
        let Some(gc) = self.gc.take() else { return };
        tokio::select! {
            () = self.follow() => {}
            () = gc.run() => {}
        }
    }

    async fn follow(mut self) {
        let mut retry = interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let trim_at = self.trimmed.as_ref().map_or_else(far_future, |(_, at)| *at);
            tokio::select! {
                changed = self.desired.changed() => if changed.is_err() { return },
                () = sleep_until(trim_at) => { self.trim(); continue }
                _ = retry.tick() => if self.state.borrow().error.is_none() { continue },
                Some(answer) = self.asked.recv() => { self.answer(answer); continue }
            }
            self.converge();
            for (ifindex, gateway) in std::mem::take(&mut self.dead) {
                if let Err(error) = forget_neighbour(ifindex, gateway).await {
                    tracing::debug!(ifindex, %gateway, %error, "packets queued for a link that is down stay queued");
                }
            }
        }
    }

    /// Writes the difference to what is desired now, then attaches; at start with maps filled before any packet.
    fn converge(&mut self) {
        let desired = self.desired.borrow_and_update().clone();
        let image = Arc::new(with_ports_of(&self.current, &desired.image));
        let both = union(&self.current, &image);
        self.dead.extend(dead_gateways(&self.current, &image));
        let lingers = both != *image;
        let written = self.write(if lingers { Arc::new(both) } else { image.clone() });
        let mut error = written.missing();
        let mut blocked = written.failed.is_some();
        self.trimmed = lingers.then(|| (image, Instant::now() + LINGER));
        for ifindex in removed(&self.devices, &desired.devices) {
            self.programs.forget(ifindex);
        }
        self.devices.clone_from(&desired.devices);
        if let Err(attach) = self.programs.converge(&places(&desired.image), &self.devices) {
            error = Some(causes(&attach));
            blocked = true;
        }
        if let Some(error) = &error {
            tracing::warn!(%error, "kernel half incomplete; retrying");
        }
        let state = KernelState {
            generation: desired.generation,
            attached: self.programs.attached().clone(),
            error,
            blocked,
            image: desired.image.clone(),
        };
        self.state.send_replace(Arc::new(state));
    }

    fn write(&mut self, wanted: Arc<Image>) -> WriteOutcome {
        let ops = diff(&self.current, &wanted);
        let written = write_all(&ops, |op| {
            tracing::debug!(?op, "map write");
            self.tables.apply(op)
        });
        self.writes += written.done;
        self.current = if written.is_whole() { wanted } else { self.found(&wanted) };
        written
    }

    /// What the maps hold after some writes were refused.
    fn found(&self, wanted: &Image) -> Arc<Image> {
        match self.tables.read() {
            Ok(image) => Arc::new(Image { own: wanted.own.clone(), ..image }),
            Err(error) => {
                tracing::warn!(%error, "maps cannot be read; writing everything again");
                Arc::default()
            }
        }
    }

    fn trim(&mut self) {
        if let Some((image, _)) = self.trimmed.take()
            && let Some(error) = self.write(image).missing()
        {
            tracing::warn!(%error, "kernel half incomplete; retrying");
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
            tracing::debug!("the receiver of the dump is gone");
        }
    }
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// Devices that are gone, or whose ifindex another device has now.
fn removed(old: &BTreeMap<u32, NamedDevice>, new: &BTreeMap<u32, NamedDevice>) -> Vec<u32> {
    let gone = |(ifindex, device): &(&u32, &NamedDevice)| {
        new.get(ifindex).is_none_or(|now| now.epoch != device.epoch)
    };
    old.iter().filter(gone).map(|(ifindex, _)| *ifindex).collect()
}

/// Devices and gateways of links that new packets of the gateway's family no longer take.
fn dead_gateways(old: &Image, new: &Image) -> Vec<(u32, IpAddr)> {
    let v4 = died::<[u8; 4]>(old, new).map(|link| (link.ifindex, IpAddr::from(link.gateway4)));
    let v6 = died::<[u8; 16]>(old, new).map(|link| (link.ifindex, IpAddr::from(link.gateway6)));
    v4.chain(v6).filter(|(_, gateway)| !gateway.is_unspecified()).collect()
}

fn places(image: &Image) -> BTreeSet<AttachPoint> {
    // Never on a device of a link, whatever the image says: `pod_in` would send on what strangers send in.
    let pods = image.pods.iter().filter(|(ifindex, _)| !image.link_of.contains_key(ifindex));
    let pods = pods.flat_map(|(ifindex, pod)| {
        // Only datagrams of no proxy may be answers.
        let inward = (pod.traffic != 0).then_some(Hook::PodOut);
        let point = |hook| AttachPoint { hook, ifindex: *ifindex };
        std::iter::once(Hook::PodIn).chain(inward).map(point)
    });
    let links = image
        .link_of
        .keys()
        .flat_map(|ifindex| [Hook::WanIn, Hook::WanOut].map(|hook| AttachPoint { hook, ifindex: *ifindex }));
    pods.chain(links).collect()
}
