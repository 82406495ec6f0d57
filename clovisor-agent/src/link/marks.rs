//! Links in mode `Mark`: the node's stack forwards marked packets by a rule and a routing table for each link.
//!
//! The table has an unreachable route, so that a marked packet never takes the default route.

use super::table::{LinkEntry, LinkTable, Mark};
use clovisor_datapath::host::fwmark::{change, changes};
use clovisor_datapath::host::net::{FwmarkEntry, HostNet};
use clovisor_objects::wan_link::Mode;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Number of the first link's table; the others follow.
const TABLES: u32 = 0xc100;

const RETRY: Duration = Duration::from_secs(1);

/// The rules and routes that forward a link's packets; none for a link that the kernel half redirects to.
#[must_use]
pub fn forwarding(link: &LinkEntry) -> BTreeSet<FwmarkEntry> {
    if link.mode != Mode::Mark {
        return BTreeSet::new();
    }
    let table = TABLES + u32::from(link.id.0);
    let hops = [
        (true, link.source4.is_some(), link.gateway4.map(IpAddr::V4)),
        (false, link.source6.is_some(), link.gateway6.map(IpAddr::V6)),
    ];
    let families = hops.into_iter().flat_map(|(v4, usable, gateway)| {
        let hop = link.ifindex.filter(|_| usable).map(|ifindex| (ifindex, gateway));
        let way = hop.map(|hop| FwmarkEntry::Route { v4, table, hop: Some(hop) });
        let Mark { value: mark, mask } = link.mark;
        let always =
            [FwmarkEntry::Route { v4, table, hop: None }, FwmarkEntry::Rule { v4, mark, mask, table }];
        always.into_iter().chain(way)
    });
    families.collect()
}

/// Keeps rules and tables as the links want them, until the links end. They stay when the agent goes, as programs do.
pub async fn run(mut links: watch::Receiver<Arc<LinkTable>>, mut host: watch::Receiver<Arc<HostNet>>) {
    loop {
        let wanted = links.borrow_and_update().links.values().flat_map(forwarding).collect();
        let found = host.borrow_and_update().fwmark.clone();
        let mut failed = false;
        for (what, add) in changes(&found, &wanted) {
            tracing::info!(%what, add, "rule or route for a mark");
            if let Err(error) = change(what, add).await {
                tracing::warn!(%what, add, %error, "rule or route for a mark, trying again");
                failed = true;
            }
        }
        // What was changed comes back as an event of the network.
        tokio::select! {
            changed = links.changed() => if changed.is_err() { return },
            changed = host.changed() => if changed.is_err() { return },
            () = sleep(RETRY), if failed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{LinkId, MarkMask};
    use super::*;

    #[test]
    fn marks_differ_and_stay_within_the_mask() {
        for mask in [0x7f00_0000, 0x0000_7f00, 0xff] {
            let marks: BTreeSet<u32> = (0..64).map(|id| MarkMask(mask).of(LinkId(id)).value).collect();
            assert_eq!(marks.len(), 64);
            assert!(marks.iter().all(|mark| *mark != 0 && mark & !mask == 0));
        }
    }

    #[test]
    fn a_rule_goes_before_its_routes_and_comes_after_them() {
        let rule = FwmarkEntry::Rule { v4: true, mark: 1, mask: 1, table: 5 };
        let route = |hop| FwmarkEntry::Route { v4: true, table: 5, hop };
        let (none, way, other) = (route(None), route(Some((3, None))), route(Some((4, None))));
        let all = BTreeSet::from([rule, none, way]);
        assert_eq!(changes(&BTreeSet::new(), &all), [(none, true), (way, true), (rule, true)]);
        assert_eq!(changes(&all, &BTreeSet::new()), [(rule, false), (none, false), (way, false)]);
        assert_eq!(changes(&all, &BTreeSet::from([rule, none, other])), [(way, false), (other, true)]);
        assert_eq!(changes(&all, &all), []);
    }
}
