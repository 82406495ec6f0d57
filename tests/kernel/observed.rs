//! Devices as the agent sees them: what it would fill in is what the programs are tested with.

use anyhow::{Context as _, Result, ensure};
use clovisor_agent::desired::image::image;
use clovisor_agent::link::health::observe;
use clovisor_agent::link::table::{Kept, LinkId, LinkTable, MarkMask, Overall};
use clovisor_common::abi::Link;
use clovisor_datapath::host::watch::watch;
use clovisor_datapath::kernel::image::PortRange;
use clovisor_policy::model::Policy;
use harness::datapath_site::{DatapathSite, GATEWAY, LINKS, Steered, Uplink};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The steered link without NAT, found by its device's name alone; a gateway is named where there is a link layer.
pub(crate) fn as_the_agent_fills_it(wire: &DatapathSite, steered: &Steered, uplink: Uplink) -> Result<()> {
    let [_, number] = LINKS;
    let given = steered.tables.read()?.links.get(&number).copied().context("no such link")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let net = wire.edge.within(|| runtime.block_on(watch()))??.borrow().clone();
    let [ipv4, ipv6] = GATEWAY;
    let gateway = if uplink.l3() { json!({}) } else { json!({ "ipv4": ipv4, "ipv6": ipv6 }) };
    let spec = serde_json::from_value(json!({ "device": "w1", "gateway": gateway, "nat": "None" }))?;
    let specs = BTreeMap::from([("w1".to_owned(), Arc::new(spec))]);
    let numbers = BTreeMap::from([("w1".to_owned(), LinkId(number))]);
    let kept = Kept { numbers, ..Kept::default() };
    let table =
        observe(&specs, &net, &LinkTable::default(), &kept, MarkMask(0xff00_0000), Default::default());
    ensure!(table.links.values().all(|link| link.overall() == Overall::Up), "{:#?}", table.links);
    let ports = PortRange { min: given.port_min, max: given.port_max };
    let filled = image(&Policy::default(), &table, &BTreeMap::new(), Default::default(), ports).links;
    // Marks are for another mode.
    let wanted = Link { mark: 0, mark_mask: 0, ..given };
    ensure!(filled == BTreeMap::from([(number, wanted)]), "{filled:#?}, not {wanted:#?}");
    Ok(())
}
