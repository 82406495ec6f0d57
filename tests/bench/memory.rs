//! Memory of the maps, as the kernel accounts it.

use crate::report::Report;
use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData};
use clovisor_common::abi::MAPS;
use harness::programs::{Variant, load};
use std::os::fd::{AsFd as _, AsRawFd as _};

/// Table sizes of the shipped object.
const FLOWS: u32 = 131_072;
const UNREPLIED: u32 = 32_768;

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let ebpf = load(FLOWS, UNREPLIED, Variant::Shipped)?;
    let mut sum = 0;
    for name in MAPS {
        let bytes = locked(data(ebpf.map(name).with_context(|| format!("no map {name}"))?))?;
        report.memory(name, bytes);
        sum += bytes;
    }
    report.memory("all maps", sum);
    Ok(())
}

fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::PerCpuArray(data) => Some(data),
        _ => None,
    }
}

/// `memlock` of the map's descriptor, in bytes; a table that allocates on demand counts as if it were full.
fn locked(map: Option<&MapData>) -> Result<u64> {
    let fd = map.context("a map of an unknown type")?.fd().as_fd().as_raw_fd();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let line = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(line.context("the kernel does not report the memory of a map")?.trim().parse()?)
}
