//! The task that owns the flow tables: they may be large, and a fail-over does not wait for them.

use super::flows::{Flows, Swept};
use super::image::{Image, forbidden, lost};
use super::inject::{probe_silent, tear_down};
use super::lost::LostSources;
use super::state::{FlowDump, KernelState, now_ns};
use super::tables::Fill;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

const SWEEP: Duration = Duration::from_secs(5);

/// The task before it runs.
#[derive(Debug)]
pub struct Collector {
    /// None while a blocking thread has the flows.
    flows: Option<Flows>,
    state: watch::Receiver<Arc<KernelState>>,
    dumps: mpsc::Receiver<oneshot::Sender<FlowDump>>,
    full: watch::Sender<Vec<Fill>>,
}

enum Event {
    State,
    Tick,
    Dump(oneshot::Sender<FlowDump>),
}

impl Collector {
    /// `dumps`: requests for the flows of the moment; `full`: tables of replied flows that are nearly full.
    pub(super) const fn new(
        flows: Flows,
        state: watch::Receiver<Arc<KernelState>>,
        dumps: mpsc::Receiver<oneshot::Sender<FlowDump>>,
        full: watch::Sender<Vec<Fill>>,
    ) -> Self {
        Self { flows: Some(flows), state, dumps, full }
    }

    /// Removes flows that ended, and those of pods that are gone, until the task of the maps ends.
    pub async fn run(mut self) {
        // Before the first image every pod would seem gone.
        if self.state.changed().await.is_err() {
            return;
        }
        let mut image = self.state.borrow_and_update().image.clone();
        // Addresses may have gone while no agent ran.
        if self.end_lost(None, &image, true).await.is_none() {
            return;
        }
        let mut tick = interval(SWEEP);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                changed = self.state.changed() => if changed.is_ok() { Event::State } else { return },
                _ = tick.tick() => Event::Tick,
                Some(answer) = self.dumps.recv() => Event::Dump(answer),
            };
            let done = match event {
                Event::State => self.follow(&mut image).await,
                Event::Tick => self.sweep(&image).await,
                Event::Dump(answer) => self.dump(answer).await,
            };
            if done.is_none() {
                return;
            }
        }
    }

    /// Another image: connections that cannot stay are torn down, flows of pods that are gone are removed.
    async fn follow(&mut self, image: &mut Arc<Image>) -> Option<()> {
        let old = std::mem::replace(image, self.state.borrow_and_update().image.clone());
        let stay = !lost(&old, image) && !forbidden(&old, image);
        self.end_lost(Some(&old), image, stay).await?;
        if old.pods.keys().any(|veth| !image.pods.contains_key(veth)) {
            self.sweep(image).await?;
        }
        Some(())
    }

    /// Ends flows whose source address is lost since `old`, and those that cannot stay on their link unless all can.
    async fn end_lost(&mut self, old: Option<&Image>, new: &Arc<Image>, stay: bool) -> Option<()> {
        let sources = LostSources::between(old, new);
        if stay && sources.is_none() {
            return Some(());
        }
        let new = new.clone();
        self.blocking(move |flows| tear_down(flows, &new, sources.as_ref(), stay)).await
    }

    async fn sweep(&mut self, image: &Arc<Image>) -> Option<()> {
        let image = image.clone();
        let swept = self.blocking(move |flows| {
            flows
                .sweep(now_ns(), &|veth| image.pods.contains_key(&veth))
                .inspect(|swept| probe_silent(&swept.silent))
        });
        match swept.await? {
            Ok(Swept { ended, fill, silent }) => {
                tracing::debug!(ended, silent = silent.len(), "flows swept");
                self.full.send_if_modified(|before| note_full(before, fill));
            }
            Err(error) => tracing::warn!(%error, "flows that ended stay until the next sweep"),
        }
        Some(())
    }

    async fn dump(&mut self, answer: oneshot::Sender<FlowDump>) -> Option<()> {
        let dump = self.blocking(|flows| flows.read()).await?.unwrap_or_else(|error| {
            tracing::warn!(%error, "flows cannot be read");
            FlowDump::default()
        });
        if answer.send(dump).is_err() {
            tracing::debug!("the receiver of the flows is gone");
        }
        Some(())
    }

    /// Runs on a thread that may block; none if that thread panicked, which is in the log then.
    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Flows) -> T + Send + 'static,
    ) -> Option<T> {
        let mut flows = self.flows.take()?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut flows);
            (flows, result)
        });
        let (flows, result) = done.await.ok()?;
        self.flows = Some(flows);
        Some(result)
    }
}

/// Updates the tables that are nearly full, from seven eighths on until a quarter is free; returns whether that changed.
fn note_full(before: &mut Vec<Fill>, fill: Vec<Fill>) -> bool {
    let was = |map| before.iter().any(|full| full.map == map);
    // The unreplied tables are LRUs.
    let replied = fill.into_iter().filter(|fill| fill.map.starts_with("FLOW"));
    let limit = |fill: &Fill| fill.capacity * if was(fill.map) { 6 } else { 7 } / 8;
    let full: Vec<_> = replied.filter(|fill| fill.capacity > 0 && fill.entries >= limit(fill)).collect();
    let news = full.len() != before.len() || full.iter().any(|fill| !was(fill.map));
    if news {
        for Fill { map, entries, capacity } in &full {
            tracing::warn!(
                map,
                entries,
                capacity,
                "table nearly full; new flows may have to stay in the unreplied table"
            );
        }
        *before = full;
    }
    news
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
}
