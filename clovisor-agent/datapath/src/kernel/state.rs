//! Inputs and outputs of the two tasks of the kernel half.

use super::flows::FlowEntry;
use super::image::Image;
use super::plan::{AttachPoint, Attached};
use super::tables::Fill;
use clovisor_common::abi::{Counter, LinkCounters, Reason};
use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// The desired contents of the maps; programs are attached to the uplinks and pods of the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Generation of the policy that the image implements; 0 before the first.
    pub generation: u64,
    pub image: Arc<Image>,
    /// The node's devices, by ifindex.
    pub devices: BTreeMap<u32, NamedDevice>,
}

/// A device under an ifindex.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedDevice {
    pub name: String,
    /// See [`Device::epoch`](crate::host::net::Device::epoch).
    pub epoch: u32,
}

/// The state of the maps and attachments, published after each change.
#[derive(Clone, Debug, Default)]
pub struct KernelState {
    /// Generation of the policy that the maps implement.
    pub generation: u64,
    pub attached: BTreeMap<AttachPoint, Attached>,
    /// The last failure, until a later attempt succeeds.
    pub error: Option<String>,
    /// The failure concerns everything, not only entries that a full map has no room for.
    pub blocked: bool,
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

/// Reads the state of the kernel half and asks its tasks for dumps.
#[derive(Clone, Debug)]
pub struct KernelHandle {
    pub(super) ask: mpsc::Sender<oneshot::Sender<Dump>>,
    pub(super) ask_flows: mpsc::Sender<oneshot::Sender<FlowDump>>,
    pub(super) state: watch::Receiver<Arc<KernelState>>,
    pub(super) full: watch::Receiver<Vec<Fill>>,
}

impl KernelHandle {
    /// Tables of replied flows that are nearly full.
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

/// The flows of one moment, and how full their tables are.
pub type FlowDump = (Vec<FlowEntry>, Vec<Fill>);

/// CLOCK_MONOTONIC, the clock of `bpf_ktime_get_ns`.
pub(super) fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |t| t.tv_sec().unsigned_abs() * 1_000_000_000 + t.tv_nsec().unsigned_abs())
}
