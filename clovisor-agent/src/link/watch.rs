//! The task that keeps the link table.

use super::health::{close, observe, unresolved};
use super::past::Past;
use super::table::{Kept, LinkTable, MarkMask};
use super::told::Told;
use super::way::deadline;
use clovisor_datapath::host::change::solicit;
use clovisor_datapath::host::net::HostNet;
use clovisor_objects::snapshot::Snapshot;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// Between two solicitations of a gateway.
const SOLICIT: Duration = Duration::from_millis(200);

/// The table now, and a task that follows snapshot and network. `kept`, `past`: of an earlier agent.
#[must_use]
pub fn watch(
    (kept, past): (Kept, Past),
    marks: MarkMask,
    mut snapshot: watch::Receiver<Arc<Snapshot>>,
    mut host: watch::Receiver<Arc<HostNet>>,
) -> watch::Receiver<Arc<LinkTable>> {
    let egress_policies = Arc::new(snapshot.borrow_and_update().egress_policies());
    let mut observer = Observer { kept, past, marks, egress_policies };
    let table = observer.table(&snapshot.borrow(), &host.borrow_and_update(), &LinkTable::default());
    let mut told = Told::new(Instant::now());
    told.tell(&table, &host.borrow(), Instant::now());
    let (publish, links) = watch::channel(Arc::new(table));
    tokio::spawn(async move {
        let mut next = Instant::now();
        loop {
            let (specs, net) = (snapshot.borrow_and_update().clone(), host.borrow_and_update().clone());
            let wanted = unresolved(&specs.links_here(), &publish.borrow(), &net);
            let waiting = !wanted.is_empty();
            let expiry = expiry(&publish.borrow(), jiff::Timestamp::now());
            if waiting && Instant::now() >= next {
                next = Instant::now() + SOLICIT;
                for (address, device) in wanted {
                    solicit(address, &device).await;
                }
            }
            tokio::select! {
                changed = snapshot.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    observer.egress_policies = Arc::new(snapshot.borrow().egress_policies());
                }
                changed = host.changed() => if changed.is_err() { return },
                () = publish.closed() => return,
                () = sleep_until(next), if waiting => continue,
                () = sleep(expiry.unwrap_or_default()), if expiry.is_some() => {}
                () = sleep_until(told.settled.unwrap_or(next)), if told.settled.is_some() => {
                    told.tell(&publish.borrow(), &host.borrow(), Instant::now());
                    continue;
                }
            }
            let (specs, net) = (snapshot.borrow_and_update(), host.borrow_and_update());
            observer.update(&publish, &specs, &net);
            told.tell(&publish.borrow(), &net, Instant::now());
        }
    });
    links
}

/// How long until what is away has been away for too long.
fn expiry(table: &LinkTable, now: jiff::Timestamp) -> Option<Duration> {
    let all = table.links.values().flat_map(|link| [link.lacking.v4, link.lacking.v6]);
    let first = all.flatten().filter_map(|since| deadline(since, now)).min()?;
    Some(Duration::try_from(first.duration_since(now)).unwrap_or_default())
}

/// The settings by which links are observed.
struct Observer {
    /// Of an earlier agent.
    kept: Kept,
    past: Past,
    marks: MarkMask,
    /// See [`Snapshot::egress_policies`]: computed when objects change, not at each event of the network.
    egress_policies: Arc<BTreeMap<String, String>>,
}

impl Observer {
    /// The table as it is now.
    fn table(&mut self, snapshot: &Snapshot, net: &HostNet, old: &LinkTable) -> LinkTable {
        let here = snapshot.links_here();
        let mut table = observe(&here, net, old, &self.kept, self.marks, jiff::Timestamp::now());
        self.past.restore(&mut table, Instant::now());
        close(&mut table, &here, &self.egress_policies);
        table.pending = unresolved(&here, &table, net).len() + table.pending_marks();
        table
    }

    /// Publishes the table if it changed.
    fn update(&mut self, publish: &watch::Sender<Arc<LinkTable>>, snapshot: &Snapshot, net: &HostNet) {
        publish.send_if_modified(|old| {
            let table = self.table(snapshot, net, old);
            if table == **old {
                return false;
            }
            *old = Arc::new(table);
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_away_is_looked_at_again_when_its_time_is_over() {
        let at = |ms| jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
        assert_eq!(expiry(&LinkTable::default(), at(0)), None);
        for (now, next) in [(0, Some(2000)), (1999, Some(2000)), (2000, Some(4000)), (4000, None)] {
            assert_eq!(deadline(at(0), at(now)), next.map(at), "at {now}");
        }
    }
}
