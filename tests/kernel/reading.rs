//! Whole tables read in a few calls, as the agent reads them.

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{Map, MapData};
use clovisor_common::abi::{Flow4, Flow4Key, Flow6Key, Pod};
use clovisor_datapath::batch::Reader;
use std::collections::BTreeMap;

use crate::frames::{data, syn};
use crate::machine::{Machine, REDIRECT};

/// More than are read at a time, and no power of two.
const FLOWS: u32 = 10_007;

fn data_of(map: &Map) -> Result<&MapData> {
    match map {
        Map::HashMap(data) | Map::LruHashMap(data) | Map::Array(data) => Ok(data),
        _ => bail!("another kind of map"),
    }
}

fn read(machine: &Machine, map: &str) -> Result<Vec<(Flow4Key, Flow4)>> {
    let reader = Reader::of(data_of(machine.map(map)?)?)?;
    reader.entries().with_context(|| format!("{map} could not be read"))
}

#[test]
fn tables_are_read_whole() -> Result<()> {
    let mut machine = Machine::with_flows(FLOWS + 100)?;
    ensure!(
        read(&machine, "FLOW4")?.is_empty() && read(&machine, "UNREPLIED4")?.is_empty(),
        "entries in none"
    );
    ensure!(machine.run("pod_in", &syn(false).frame()?)?.verdict == REDIRECT, "not steered");
    let unreplied = read(&machine, "UNREPLIED4")?;
    ensure!(unreplied == machine.entries::<[u8; 4]>("UNREPLIED4")? && unreplied.len() == 2, "{unreplied:?}");
    let (key, flow) = unreplied.first().copied().context("no entry")?;
    let mut wanted = BTreeMap::new();
    for n in 0..FLOWS {
        let (key, packets) = (Flow4Key { saddr: n.to_be_bytes(), ..key }, u64::from(n));
        machine.put(
            "FLOW4",
            key,
            Flow4 { state: clovisor_common::abi::FlowState { packets, ..flow.state }, ..flow },
        )?;
        wanted.insert(key.saddr, packets);
    }
    let all = read(&machine, "FLOW4")?;
    ensure!(all.len() == FLOWS as usize, "{} entries", all.len());
    let got: BTreeMap<_, _> = all.iter().map(|(key, flow)| (key.saddr, flow.state.packets)).collect();
    ensure!(got == wanted, "other entries than were written");
    // Reading changes nothing.
    ensure!(machine.run("pod_in", &data(false, 1).frame()?)?.verdict == REDIRECT, "the flow is gone");
    Ok(())
}

#[test]
fn other_maps_are_refused() -> Result<()> {
    let machine = Machine::ready()?;
    let (flows, pods, links) = (machine.map("FLOW4")?, machine.map("PODS")?, machine.map("LINKS")?);
    ensure!(Reader::<Flow6Key, Flow4>::of(data_of(flows)?).is_err(), "another key");
    ensure!(Reader::<Flow4Key, Pod>::of(data_of(flows)?).is_err(), "another value");
    ensure!(Reader::<u32, clovisor_common::abi::Link>::of(data_of(links)?).is_err(), "an array");
    ensure!(Reader::<u32, Pod>::of(data_of(pods)?)?.entries()?.len() == 1, "not the one pod");
    Ok(())
}
