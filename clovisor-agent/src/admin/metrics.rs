//! OpenMetrics of one moment. Labels are bounded: links, reasons, maps; never pods, users or paths.

use super::view;
use crate::link::table::{Health, LinkTable, Overall};
use clovisor_datapath::kernel::state::Dump;
use clovisor_render::api::Problem;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What is counted and measured.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    pub dump: Dump,
    pub links: Arc<LinkTable>,
    pub callouts: Vec<(&'static str, u64)>,
    pub problems: Vec<Problem>,
    pub generation: u64,
    pub pods: usize,
    /// Whether objects come from disk because the API server is unreachable.
    pub stale: bool,
}

/// The text of a scrape (OpenMetrics 1.0).
///
/// # Errors
/// None in practice: it is written to memory.
pub fn text(moment: Moment) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("clovisor");
    registry.register_collector(Box::new(Collected(moment)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Collected(Moment);

type Row<'a, const N: usize> = ([(&'a str, &'a str); N], u64);

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Moment { dump, links, callouts, problems, generation, pods, stale } = &self.0;
        let out = &mut encoder;
        gauge(out, "build_info", "Version of the agent", [([("version", env!("CARGO_PKG_VERSION"))], 1)])?;
        gauge(out, "policy_generation", "Generation of the policy in the kernel maps", [([], *generation)])?;
        gauge(out, "steered_pods", "Pods of this node that can be steered", [([], *pods as u64)])?;
        gauge(
            out,
            "stale",
            "1 while objects come from disk because the API server is unreachable",
            [([], u64::from(*stale))],
        )?;
        let mut reasons = BTreeMap::<&str, u64>::new();
        for problem in problems {
            *reasons.entry(&problem.reason).or_default() += 1;
        }
        gauge(
            out,
            "refused_objects",
            "Objects that are refused, by reason",
            reasons.iter().map(|(r, n)| ([("reason", *r)], *n)),
        )?;
        let packets = dump.counters.iter().map(|(reason, c)| ([("reason", reason.name())], c.packets));
        counter(out, "packets", "Packets of steered pods and links, by verdict", None, packets)?;
        counter(
            out,
            "callouts",
            "Answers to Envoy, by reason",
            None,
            callouts.iter().map(|(r, n)| ([("reason", *r)], *n)),
        )?;
        link_gauges(out, links)?;
        for (direction, name, help) in [
            (0, "link_tx", "Bytes of steered packets sent on the link"),
            (1, "link_rx", "Bytes of steered packets received on the link"),
        ] {
            let rows = links.links.values().map(|link| {
                let traffic = dump.links.get(&link.id.0).copied().unwrap_or_default();
                ([("link", &*link.name)], if direction == 0 { traffic.tx.bytes } else { traffic.rx.bytes })
            });
            counter(out, name, help, Some(&Unit::Bytes), rows)?;
        }
        let sessions = links.links.values().map(|link| {
            let open = view::open_flows(dump).filter(|flow| flow.forward.link == link.id.0);
            ([("link", &*link.name)], open.count() as u64)
        });
        gauge(out, "sessions", "Open connections on the link", sessions)?;
        let fill = dump.fill.iter().map(|fill| ([("map", fill.map)], fill.entries));
        gauge(out, "map_entries", "Entries of a kernel map; of a flow table its flows", fill)?;
        let room = dump.fill.iter().map(|fill| ([("map", fill.map)], fill.capacity));
        gauge(out, "map_capacity", "Room of a kernel map; of a flow table for flows", room)?;
        let writes = [([], dump.map_writes)];
        counter(out, "map_writes", "Entries of the policy's kernel maps written and removed", None, writes)
    }
}

fn link_gauges(out: &mut DescriptorEncoder<'_>, links: &LinkTable) -> fmt::Result {
    let up = links.links.values().map(|link| {
        let takes = link.overall() != Overall::Down;
        ([("link", &*link.name)], u64::from(takes))
    });
    gauge(out, "link_up", "1 if the link takes traffic, of one address family at least", up)?;
    let families = links.links.values().flat_map(|link| {
        let expected = link.health.iter().filter(|(family, _)| *link.expected.of(*family));
        expected.map(|(family, health)| {
            let labels = [("link", &*link.name), ("family", family.name())];
            (labels, u64::from(*health == Health::Up))
        })
    });
    let help = "1 if the link takes traffic of the address family, for each that it has or should have";
    gauge(out, "link_family_up", help, families)
}

fn gauge<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl IntoIterator<Item = Row<'a, N>>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in rows {
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn counter<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    rows: impl IntoIterator<Item = Row<'a, N>>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
    for (labels, value) in rows {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_is_openmetrics() {
        let problem = Problem {
            reason: "LinkNotFound".into(),
            kind: String::new(),
            object: String::new(),
            field: String::new(),
            message: String::new(),
        };
        let moment = Moment {
            callouts: vec![("rule", 3)],
            problems: vec![problem.clone(), problem],
            ..Moment::default()
        };
        let text = text(moment).unwrap_or_else(|e| panic!("{e}"));
        for line in [
            "# TYPE clovisor_packets counter",
            "clovisor_callouts_total{reason=\"rule\"} 3",
            "clovisor_refused_objects{reason=\"LinkNotFound\"} 2",
            "# UNIT clovisor_link_tx_bytes bytes",
            "clovisor_stale{} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in {text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let helped = text.lines().filter(|l| l.starts_with("# HELP")).count();
        assert_eq!(helped, text.lines().filter(|l| l.starts_with("# TYPE")).count());
    }
}
