//! The object in the kernel, loaded once for many tests: the verifier takes longer than all packets together.

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use aya::{Ebpf, Pod as Plain};
use clovisor_common::abi::{
    Addr, ClassKey, Counter, DestKey, Exchange, ExchangeKey, Flow4, Flow4Key, Flow6, Flow6Key, FragmentKey,
    Link, LinkCounters, MAX_LINKS, MAX_SLOTS, Peer, PeerKey, Pod, PodUsage, Ports, STATS_ENTRIES, Slot,
    Traffic, TrafficKey,
};
use harness::programs::{Variant, load};
use std::sync::Mutex;

/// Loaded objects that no test uses now, empty, with their room for flows.
static IDLE: Mutex<Vec<(u32, Variant, Ebpf)>> = Mutex::new(Vec::new());

/// Room for flows without answer: few, so that tests can fill it.
pub(crate) const UNREPLIED: u32 = 512;

/// A loaded object with empty maps; goes back to the others when it is dropped.
#[derive(Debug)]
pub(crate) struct Loaded {
    flows: u32,
    variant: Variant,
    ebpf: Option<Ebpf>,
}

impl Loaded {
    /// One with room for `flows` entries of each family.
    pub(crate) fn with_flows(flows: u32) -> Result<Self> {
        Self::with(flows, Variant::Shipped)
    }

    pub(crate) fn with(flows: u32, variant: Variant) -> Result<Self> {
        let idle = IDLE.lock().ok().and_then(|mut idle| {
            let place = idle.iter().position(|(room, way, _)| (*room, *way) == (flows, variant))?;
            Some(idle.swap_remove(place).2)
        });
        let ebpf = match idle {
            Some(ebpf) => ebpf,
            None => load(flows, UNREPLIED, variant)?,
        };
        Ok(Self { flows, variant, ebpf: Some(ebpf) })
    }

    pub(crate) fn ebpf(&self) -> Result<&Ebpf> {
        self.ebpf.as_ref().context("given back")
    }

    pub(crate) fn ebpf_mut(&mut self) -> Result<&mut Ebpf> {
        self.ebpf.as_mut().context("given back")
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // What cannot be emptied is unloaded instead.
        if let Some(mut ebpf) = self.ebpf.take()
            && empty(&mut ebpf).is_ok()
            && let Ok(mut idle) = IDLE.lock()
        {
            idle.push((self.flows, self.variant, ebpf));
        }
    }
}

fn empty(ebpf: &mut Ebpf) -> Result<()> {
    clear::<Flow4Key, Flow4>(ebpf, "FLOW4")?;
    clear::<Flow6Key, Flow6>(ebpf, "FLOW6")?;
    clear::<Flow4Key, Flow4>(ebpf, "UNREPLIED4")?;
    clear::<Flow6Key, Flow6>(ebpf, "UNREPLIED6")?;
    clear::<u32, PodUsage>(ebpf, "POD_USAGE")?;
    clear::<FragmentKey, Ports>(ebpf, "FRAGMENTS")?;
    clear::<ExchangeKey, Exchange>(ebpf, "EXCHANGES")?;
    clear::<ClassKey, u32>(ebpf, "CLASSES")?;
    clear::<u32, u32>(ebpf, "LINK_OF")?;
    clear::<u32, Pod>(ebpf, "PODS")?;
    clear::<[u8; 16], Addr>(ebpf, "ADDRS")?;
    clear::<DestKey, u32>(ebpf, "DESTS")?;
    clear::<PeerKey, Peer>(ebpf, "PEERS")?;
    clear_prefixes::<TrafficKey, Traffic>(ebpf, "TRAFFIC")?;
    clear_prefixes::<[u8; 16], u32>(ebpf, "LOCAL")?;
    fill(ebpf, "LINKS", MAX_LINKS, Link::NONE)?;
    fill(ebpf, "SLOTS", MAX_SLOTS, Slot::of(0))?;
    zero::<Counter>(ebpf, "STATS", STATS_ENTRIES)?;
    zero::<LinkCounters>(ebpf, "LINK_STATS", MAX_LINKS)
}

fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::maps::Map> {
    ebpf.map_mut(name).with_context(|| format!("the object has no map {name}"))
}

fn clear<K: Plain, V: Plain>(ebpf: &mut Ebpf, name: &str) -> Result<()> {
    let mut map: HashMap<&mut MapData, K, V> = map(ebpf, name)?.try_into()?;
    let keys = map.keys().collect::<Result<Vec<K>, MapError>>()?;
    Ok(keys.iter().try_for_each(|key| map.remove(key))?)
}

fn clear_prefixes<K: Plain, V: Plain>(ebpf: &mut Ebpf, name: &str) -> Result<()> {
    let mut map: LpmTrie<&mut MapData, K, V> = map(ebpf, name)?.try_into()?;
    let keys: Vec<_> = map.keys().collect::<Result<_, _>>()?;
    Ok(keys.iter().try_for_each(|key| map.remove(key))?)
}

fn fill<V: Plain>(ebpf: &mut Ebpf, name: &str, entries: u32, value: V) -> Result<()> {
    let mut map: Array<&mut MapData, V> = map(ebpf, name)?.try_into()?;
    Ok((0..entries).try_for_each(|index| map.set(index, value, 0))?)
}

fn zero<V: Plain + Default>(ebpf: &mut Ebpf, name: &str, entries: u32) -> Result<()> {
    let mut map: PerCpuArray<&mut MapData, V> = map(ebpf, name)?.try_into()?;
    let cpus = nr_cpus().map_err(|(what, error)| anyhow::anyhow!("{what}: {error}"))?;
    for index in 0..entries {
        map.set(index, PerCpuValues::try_from(vec![V::default(); cpus])?, 0)?;
    }
    Ok(())
}
