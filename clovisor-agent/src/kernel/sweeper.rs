//! The task that owns the flow tables: they may be large, and a fail-over does not wait for them.

use super::flows::{FlowEntry, Flows};
use super::image::Image;
use super::notice::notice;
use super::run::{KernelState, now_ns};
use super::tables::Fill;
use crate::host::raw::RawSockets;
use clovisor_common::abi;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

const SWEEP: Duration = Duration::from_secs(5);

/// The flows of one moment, and how full their tables are.
pub type FlowDump = (Vec<FlowEntry>, Vec<Fill>);

/// The task before it runs.
#[derive(Debug)]
pub struct Sweeper {
    pub flows: Flows,
    pub state: watch::Receiver<Arc<KernelState>>,
    pub asked: mpsc::Receiver<oneshot::Sender<FlowDump>>,
}

impl Sweeper {
    /// Ends flows that are over, and those of pods that are gone, until the kernel task ends.
    pub async fn run(self) {
        let Self { mut flows, mut state, mut asked } = self;
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
                    let died = any_died(&image, &new);
                    image = new;
                    if died {
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
                    let dump = blocking(flows, |flows| (flows.read(), flows.fill())).await;
                    let Some((kept, dump)) = dump else { return };
                    flows = kept;
                    if answer.send(dump).is_err() {
                        tracing::debug!("nobody waits for the flows");
                    }
                    continue;
                }
            }
            let pods = image.clone();
            let swept =
                blocking(flows, move |flows| flows.sweep(now_ns(), &|veth| pods.pods.contains_key(&veth)));
            let Some((kept, swept)) = swept.await else { return };
            flows = kept;
            match swept {
                Ok(0) => {}
                Ok(entries) => tracing::debug!(entries, "flows ended"),
                Err(error) => tracing::warn!(%error, "pods may seem to have more flows than they have"),
            }
        }
    }
}

/// A link that carried flows does not any more.
fn any_died(old: &Image, new: &Image) -> bool {
    let up = |link: &abi::Link| link.flags & abi::LINK_UP != 0;
    old.links.iter().any(|(id, link)| up(link) && !new.links.get(id).is_some_and(up))
}

/// Tells the sockets of pods whose link died; see [`notice`].
fn tell(flows: &mut Flows, image: &Image) {
    let (mut sockets, mut resets, mut moves) = (RawSockets::default(), 0_u32, 0_u32);
    for flow in flows.read() {
        let Some(told) = notice(&flow, image) else { continue };
        for _ in 0..told.times {
            if let Err(error) = sockets.send(told.pod, &told.packet) {
                tracing::warn!(pod = %told.pod, %error, "idle connections of a dead link are not told; is CAP_NET_RAW missing?");
                return;
            }
        }
        if !told.resets {
            moves += 1;
            continue;
        }
        resets += 1;
        if let Err(error) = flows.note_reset(&flow) {
            tracing::debug!(%error, "an ended flow stays until it is idle for a day");
        }
    }
    tracing::info!(resets, moves, "connections of a dead link told");
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
