//! The task that reports this node's state.

use super::node::NodeState;
use super::pace::Pace;
use super::writer::NodeWriter;
use crate::link::table::LinkTable;
use crate::ready::Ready;
use clovisor_datapath::causes::causes;
use clovisor_datapath::kernel::state::KernelHandle;
use kube::Client;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What is reported.
#[derive(Clone, Debug)]
pub struct NodeSources {
    pub links: watch::Receiver<Arc<LinkTable>>,
    pub kernel: KernelHandle,
    pub ready: Ready,
}

/// Writes Events at once, and the status on change, at most once in `interval`, until a source is gone. A write that
/// fails is tried again and changes nothing else.
pub async fn run(client: Client, node: String, sources: NodeSources, interval: Duration) {
    let mut writer = NodeWriter::new(client, node);
    let NodeSources { mut links, kernel, ready } = sources;
    let (mut state, mut full) = (kernel.state(), kernel.full());
    let mut pace = Pace::new(interval, Instant::now());
    loop {
        let table = links.borrow_and_update().clone();
        let kernel = state.borrow_and_update().clone();
        let waiting = ready.waiting_for();
        let node = NodeState::new(&table, &kernel, &waiting, &full.borrow_and_update());
        writer.link_events(&table).await;
        writer.table_event(&node.tables_full).await;
        let now = Instant::now();
        let starting = !waiting.is_empty() || table.links.is_empty() || table.pending > 0;
        if pace.is_due(now, starting) {
            write(&mut writer, &node, &mut pace, now).await;
        }
        let wake = pace.wake(now, waiting.is_empty());
        let changed = tokio::select! {
            changed = links.changed() => changed,
            changed = state.changed() => changed,
            changed = full.changed() => changed,
            () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => continue,
        };
        if changed.is_err() {
            return;
        }
        pace.changed(now, Instant::now());
    }
}

async fn write(writer: &mut NodeWriter, node: &NodeState, pace: &mut Pace, now: Instant) {
    match writer.write(node).await {
        Ok(false) => {}
        Ok(true) => pace.written(now),
        Err(error) => {
            let error = causes(&error);
            if pace.failed(now, &error) {
                tracing::warn!(error, "WanNode not written");
            }
        }
    }
}
