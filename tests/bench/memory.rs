//! What the maps take, as the kernel counts it.

use crate::report::Report;
use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData};
use clovisor_common::abi::MAPS;
use harness::programs::{Variant, load};
use std::os::fd::{AsFd as _, AsRawFd as _};

/// Entries of the object as it is shipped.
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

/// `memlock` of the map's descriptor: bytes, those of a table that fills on demand as if it were full.
fn locked(map: Option<&MapData>) -> Result<u64> {
    let fd = map.context("a map of an unknown type")?.fd().as_fd().as_raw_fd();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let line = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(line.context("the kernel does not say what a map takes")?.trim().parse()?)
}
