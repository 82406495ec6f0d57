//! The task that owns the flow tables: they may be large, and a fail-over does not wait for them.

use super::flows::{FlowEntry, Flows, Swept};
use super::image::{Image, died, forbidden};
use super::keepalive::probe;
use super::state::{FlowDump, KernelState, now_ns};
use super::tables::Fill;
use super::teardown::{Injection, teardown};
use crate::host::raw::RawSockets;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

const SWEEP: Duration = Duration::from_secs(5);

/// The task before it runs.
#[derive(Debug)]
pub struct Collector {
    pub flows: Flows,
    pub state: watch::Receiver<Arc<KernelState>>,
    pub asked: mpsc::Receiver<oneshot::Sender<FlowDump>>,
    /// MapTables of replied flows that are nearly full.
    pub full: watch::Sender<Vec<Fill>>,
}

impl Collector {
    /// Ends flows that are over, and those of pods that are gone, until the kernel task ends.
    pub async fn run(self) {
        let Self { mut flows, mut state, mut asked, full } = self;
        // Before the first image every pod would seem gone.
        if state.changed().await.is_err() {
            return;
        }
        let mut tick = interval(SWEEP);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut image = state.borrow_and_update().image.clone();
        loop {
            tokio::select! {
                changed = state.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let new = state.borrow_and_update().image.clone();
                    let gone = image.pods.keys().any(|veth| !new.pods.contains_key(veth));
                    let leave = died(&image, &new).next().is_some() || forbidden(&image, &new);
                    image = new;
                    if leave {
                        let maps = image.clone();
                        let Some((kept, ())) = blocking(flows, move |flows| tell(flows, &maps)).await else { return };
                        flows = kept;
                    }
                    if !gone {
                        continue;
                    }
                }
                _ = tick.tick() => {}
                Some(answer) = asked.recv() => {
                    let Some((kept, dump)) = blocking(flows, |flows| flows.read()).await else { return };
                    flows = kept;
                    let dump = dump.unwrap_or_else(|error| {
                        tracing::warn!(%error, "flows cannot be shown");
                        FlowDump::default()
                    });
                    if answer.send(dump).is_err() {
                        tracing::debug!("nobody waits for the flows");
                    }
                    continue;
                }
            }
            let pods = image.clone();
            let swept = blocking(flows, move |flows| {
                flows
                    .sweep(now_ns(), &|veth| pods.pods.contains_key(&veth))
                    .inspect(|swept| ask(&swept.silent))
            });
            let Some((kept, swept)) = swept.await else { return };
            flows = kept;
            match swept {
                Ok(Swept { ended, fill, silent }) => {
                    tracing::debug!(ended, silent = silent.len(), "flows swept");
                    full.send_if_modified(|before| note_full(before, fill));
                }
                Err(error) => tracing::warn!(%error, "flows that are over stay until the next look"),
            }
        }
    }
}

/// Which tables are nearly full now; whether that is news. Said from seven eighths on, until a quarter is free.
fn note_full(before: &mut Vec<Fill>, fill: Vec<Fill>) -> bool {
    let was = |map| before.iter().any(|full| full.map == map);
    // Entries of unreplied flows give way by themselves.
    let answered = fill.into_iter().filter(|fill| fill.map.starts_with("FLOW"));
    let limit = |fill: &Fill| fill.capacity * if was(fill.map) { 6 } else { 7 } / 8;
    let full: Vec<_> = answered.filter(|fill| fill.capacity > 0 && fill.entries >= limit(fill)).collect();
    let news = full.len() != before.len() || full.iter().any(|fill| !was(fill.map));
    if news {
        for Fill { map, entries, capacity } in &full {
            tracing::warn!(
                map,
                entries,
                capacity,
                "table nearly full; new flows may go on in the unreplied table"
            );
        }
        *before = full;
    }
    news
}

/// Tells the sockets of pods whose connections cannot stay on their link; see [`teardown`].
fn tell(flows: &mut Flows, image: &Image) {
    let (mut sockets, mut resets, mut moves, mut lost) = (RawSockets::default(), 0_u32, 0_u32, 0_u32);
    let entries = match flows.read() {
        Ok((entries, _)) => entries,
        Err(error) => {
            tracing::warn!(%error, "idle connections of a lost link are not told");
            return;
        }
    };
    for flow in entries {
        let Some(told) = teardown(&flow, image) else { continue };
        match deliver(&told, |pod, packet| sockets.send(pod, packet)) {
            Ok(true) if told.resets => {
                resets += 1;
                if let Err(error) = flows.note_reset(&flow) {
                    tracing::debug!(%error, "an ended flow stays until it is idle for a day");
                }
            }
            Ok(true) => moves += 1,
            Ok(false) => lost += 1,
            Err(error) => {
                tracing::warn!(%error, "idle connections of a lost link are not told; CAP_NET_RAW is missing");
                return;
            }
        }
    }
    tracing::info!(resets, moves, lost, "connections of a lost link told");
}

/// Asks pods for the sockets of silent connections; see [`probe`]. Where that fails the flows stay until they were
/// silent for a day.
fn ask(silent: &[FlowEntry]) {
    let mut sockets = RawSockets::default();
    for told in silent.iter().filter_map(probe) {
        if let Err(error) = deliver(&told, |pod, packet| sockets.send(pod, packet)) {
            tracing::warn!(%error, "pods are not asked for silent connections; CAP_NET_RAW is missing");
            return;
        }
    }
}

/// Sends a teardown; false where this pod cannot be reached.
///
/// # Errors
/// No teardown can be sent: there is no right to.
fn deliver(told: &Injection, mut send: impl FnMut(IpAddr, &[u8]) -> io::Result<()>) -> io::Result<bool> {
    for _ in 0..told.times {
        match send(told.pod, &told.packet) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            Err(error) => {
                tracing::debug!(pod = %told.pod, %error, "a pod is not told or asked");
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Runs on a thread that may block; none if that panicked, which has been said then.
async fn blocking<T: Send + 'static>(
    mut flows: Flows,
    work: impl FnOnce(&mut Flows) -> T + Send + 'static,
) -> Option<(Flows, T)> {
    let done = tokio::task::spawn_blocking(move || {
        let result = work(&mut flows);
        (flows, result)
    });
    done.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_is_said_once_and_until_there_is_room() {
        let mut full = Vec::new();
        for (entries, news, said) in
            [(10, false, 0), (86, false, 0), (87, true, 1), (95, false, 1), (80, false, 1), (74, true, 0)]
        {
            let fill = |map| Fill { map, entries, capacity: 100 };
            assert_eq!(note_full(&mut full, vec![fill("FLOW4"), fill("UNREPLIED4")]), news, "{entries}");
            assert_eq!(full.len(), said, "{entries}");
        }
    }

    #[test]
    fn a_pod_that_is_gone_costs_its_own_notice_and_a_missing_right_all() {
        let told =
            Injection { pod: IpAddr::from([10, 0, 0, 1]), packet: Vec::new(), times: 4, resets: false };
        let mut sent = 0;
        let delivered = deliver(&told, |_, _| {
            sent += 1;
            Ok(())
        });
        assert!(matches!(delivered, Ok(true)) && sent == 4);
        for (kind, fatal) in
            [(io::ErrorKind::HostUnreachable, false), (io::ErrorKind::PermissionDenied, true)]
        {
            let delivered = deliver(&told, |_, _| Err(kind.into()));
            assert_eq!(delivered.is_err(), fatal, "{kind}");
            assert!(!matches!(delivered, Ok(true)), "{kind}");
        }
    }
}
