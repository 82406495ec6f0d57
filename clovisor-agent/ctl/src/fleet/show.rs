//! Tables with a row for each node, or for each link or session of a node.

use crate::show::class;
use crate::table::{bytes, table};
use clovisor_objects::printable::printable;
use clovisor_render::api::{LinkStatus, List, Session, Status};
use std::collections::BTreeSet;

pub(super) fn status(all: &[(String, Status)]) -> String {
    let row = |(node, s): &(String, Status)| {
        let state = match (s.ready, &s.stale_since) {
            (false, _) => format!("waiting for {}", s.waiting_for.join(", ")),
            (true, Some(since)) => format!("stale since {since}"),
            (true, None) => "ready".into(),
        };
        let links = format!("{}/{}", s.links_up, s.links_total);
        let found = s.pods.iter().filter(|pod| pod.device.is_some()).count();
        let pods = format!("{found}/{}", s.pods.len());
        vec![
            node.clone(),
            state,
            links,
            s.sessions.to_string(),
            pods,
            s.problems.len().to_string(),
            s.version.clone(),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let mut text = table(&["NODE", "STATE", "LINKS", "SESSIONS", "PODS", "PROBLEMS", "VERSION"], &rows);
    let lines: BTreeSet<_> = all
        .iter()
        .flat_map(|(_, s)| &s.problems)
        .map(|p| format!("{} {}: {}: {}: {}", p.kind, p.object, p.reason, p.field, p.message))
        .collect();
    text.extend(lines.iter().map(|line| format!("  {}\n", printable(line))));
    text
}

pub(super) fn links(all: &[(String, List<LinkStatus>)]) -> String {
    let rows = all.iter().flat_map(|(node, list)| {
        list.items.iter().map(move |l| {
            let reason = l.reason.clone().unwrap_or_default();
            vec![
                node.clone(),
                l.name.clone(),
                l.state.clone(),
                l.usable(),
                l.wanted.clone(),
                bytes(l.tx_bytes),
                bytes(l.rx_bytes),
                l.sessions.to_string(),
                reason,
            ]
        })
    });
    let headers = ["NODE", "LINK", "STATE", "FAMILIES", "WANTED", "TX", "RX", "SESSIONS", "REASON"];
    table(&headers, &rows.collect::<Vec<_>>())
}

pub(super) fn sessions(all: &[(String, List<Session>)]) -> String {
    let rows = all.iter().flat_map(|(node, list)| {
        list.items.iter().map(move |s| {
            vec![
                node.clone(),
                s.namespace.clone(),
                s.pod.clone(),
                s.source.clone(),
                s.destination.clone(),
                class(s),
                s.link.clone(),
                bytes(s.tx_bytes),
                bytes(s.rx_bytes),
            ]
        })
    });
    table(
        &["NODE", "NAMESPACE", "POD", "SOURCE", "DESTINATION", "CLASS", "LINK", "TX", "RX"],
        &rows.collect::<Vec<_>>(),
    )
}
