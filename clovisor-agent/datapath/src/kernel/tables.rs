//! The maps of policy and counters as typed handles: applying changes, reading back.

use super::diff::{Entry, Key, Op};
use super::image::Image;
use aya::Ebpf;
use aya::maps::lpm_trie::{self, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use clovisor_common::abi;
use clovisor_common::abi::{
    Addr, AddrKey, ClassKey, Counter, DestKey, LinkCounters, MAPS, MAX_LINKS, MAX_SLOTS, Peer, PeerKey, Pod,
    Reason, Slot, Traffic, TrafficKey,
};
use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;

/// A map could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("the eBPF object has no map {0}; agent and object are of different builds, build both again")]
    Missing(&'static str),
    #[error("map {map}: {source}; is it pinned by another version? see `clovisor-agent cleanup`")]
    Map { map: &'static str, source: MapError },
    #[error("map {0} is full")]
    Full(&'static str),
}

/// The maps that hold policy and counters. Owned by the task of [`run`](super::run).
pub struct MapTables {
    capacities: BTreeMap<&'static str, u64>,
    links: Array<MapData, abi::Link>,
    slots: Array<MapData, Slot>,
    link_of: HashMap<MapData, u32, u32>,
    peers: HashMap<MapData, PeerKey, Peer>,
    classes: HashMap<MapData, ClassKey, u32>,
    dests: HashMap<MapData, DestKey, u32>,
    traffic: LpmTrie<MapData, TrafficKey, Traffic>,
    local: LpmTrie<MapData, AddrKey, u32>,
    addrs: HashMap<MapData, AddrKey, Addr>,
    pods: HashMap<MapData, u32, Pod>,
    stats: PerCpuArray<MapData, Counter>,
    link_stats: PerCpuArray<MapData, LinkCounters>,
}

impl fmt::Debug for MapTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapTables").field("capacities", &self.capacities).finish_non_exhaustive()
    }
}

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    pub map: &'static str,
    /// Of a flow table: flows, each of which takes two entries of the map; so `capacity`.
    pub entries: u64,
    pub capacity: u64,
}

pub(super) fn take<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    map: &'static str,
) -> Result<T, TableError> {
    let found = ebpf.take_map(map).ok_or(TableError::Missing(map))?;
    T::try_from(found).map_err(|source| TableError::Map { map, source })
}

pub(super) fn capacity(name: &str, map: &Map) -> Option<(&'static str, u64)> {
    let name = MAPS.into_iter().find(|m| *m == name)?;
    match map {
        Map::HashMap(data) | Map::LruHashMap(data) | Map::LpmTrie(data) => {
            Some((name, u64::from(data.info().ok()?.max_entries())))
        }
        _ => None,
    }
}

pub(super) fn ignore_missing(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(e)) if e.io_error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl MapTables {
    /// Takes the maps out of a loaded object.
    ///
    /// # Errors
    /// A map is missing or of another type.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, TableError> {
        Ok(Self {
            capacities: ebpf.maps().filter_map(|(name, map)| capacity(name, map)).collect(),
            links: take(ebpf, "LINKS")?,
            slots: take(ebpf, "SLOTS")?,
            link_of: take(ebpf, "LINK_OF")?,
            peers: take(ebpf, "PEERS")?,
            classes: take(ebpf, "CLASSES")?,
            dests: take(ebpf, "DESTS")?,
            traffic: take(ebpf, "TRAFFIC")?,
            local: take(ebpf, "LOCAL")?,
            addrs: take(ebpf, "ADDRS")?,
            pods: take(ebpf, "PODS")?,
            stats: take(ebpf, "STATS")?,
            link_stats: take(ebpf, "LINK_STATS")?,
        })
    }

    /// The contents of the maps; after a restart those of the earlier agent.
    ///
    /// # Errors
    /// A map could not be read.
    pub fn read(&self) -> Result<Image, TableError> {
        let mut image = Image::default();
        for id in 0..MAX_LINKS {
            let link = self.links.get(&id, 0).map_err(named("LINKS"))?;
            if link != abi::Link::NONE {
                image.links.insert(id as u8, link);
            }
        }
        for index in 0..MAX_SLOTS {
            let slot = self.slots.get(&index, 0).map_err(named("SLOTS"))?;
            if ![UNUSED_SLOT, Slot::NONE].contains(&slot) {
                image.slots.insert(index, slot);
            }
        }
        image.link_of = all(&self.link_of, "LINK_OF")?;
        image.peers = all(&self.peers, "PEERS")?;
        image.classes = all(&self.classes, "CLASSES")?;
        image.dests = all(&self.dests, "DESTS")?;
        let prefixes =
            self.traffic.iter().map(|entry| entry.map(|(key, v)| ((key.prefix_len(), key.data()), v)));
        image.traffic = prefixes.collect::<Result<_, _>>().map_err(named("TRAFFIC"))?;
        let local = self.local.iter().map(|entry| entry.map(|(key, v)| ((key.prefix_len(), key.data()), v)));
        image.local = Arc::new(local.collect::<Result<_, _>>().map_err(named("LOCAL"))?);
        image.addrs = all(&self.addrs, "ADDRS")?;
        image.pods = all(&self.pods, "PODS")?;
        Ok(image)
    }

    /// Carries out one write. Deleting an absent entry is no error.
    ///
    /// # Errors
    /// The kernel refused, e.g. because the map is full.
    pub fn apply(&mut self, op: &Op) -> Result<(), TableError> {
        match op {
            Op::Put(entry) => self.put(entry),
            Op::Delete(key) => self.delete(key),
        }
    }

    fn put(&mut self, entry: &Entry) -> Result<(), TableError> {
        match entry {
            Entry::Link(id, v) => self.links.set(u32::from(*id), v, 0).map_err(named("LINKS")),
            Entry::Slot(index, v) => self.slots.set(*index, v, 0).map_err(named("SLOTS")),
            Entry::LinkOf(k, v) => self.link_of.insert(k, v, 0).map_err(named("LINK_OF")),
            Entry::Peer(k, v) => self.peers.insert(k, v, 0).map_err(named("PEERS")),
            Entry::Class(k, v) => self.classes.insert(k, v, 0).map_err(named("CLASSES")),
            Entry::Dest(k, v) => self.dests.insert(k, v, 0).map_err(named("DESTS")),
            Entry::Traffic((bits, k), v) => {
                self.traffic.insert(&lpm_trie::Key::new(*bits, *k), v, 0).map_err(named("TRAFFIC"))
            }
            Entry::Local((bits, k), v) => {
                self.local.insert(&lpm_trie::Key::new(*bits, *k), v, 0).map_err(named("LOCAL"))
            }
            Entry::Addr(k, v) => self.addrs.insert(k, v, 0).map_err(named("ADDRS")),
            Entry::Pod(k, v) => self.pods.insert(k, v, 0).map_err(named("PODS")),
        }
    }

    fn delete(&mut self, key: &Key) -> Result<(), TableError> {
        match key {
            Key::Link(id) => self.links.set(u32::from(*id), abi::Link::NONE, 0).map_err(named("LINKS")),
            Key::Slot(index) => self.slots.set(*index, Slot::NONE, 0).map_err(named("SLOTS")),
            Key::LinkOf(k) => ignore_missing(self.link_of.remove(k)).map_err(named("LINK_OF")),
            Key::Peer(k) => ignore_missing(self.peers.remove(k)).map_err(named("PEERS")),
            Key::Class(k) => ignore_missing(self.classes.remove(k)).map_err(named("CLASSES")),
            Key::Dest(k) => ignore_missing(self.dests.remove(k)).map_err(named("DESTS")),
            Key::Traffic((bits, k)) => {
                let key = lpm_trie::Key::new(*bits, *k);
                ignore_missing(self.traffic.remove(&key)).map_err(named("TRAFFIC"))
            }
            Key::Local((bits, k)) => {
                ignore_missing(self.local.remove(&lpm_trie::Key::new(*bits, *k))).map_err(named("LOCAL"))
            }
            Key::Addr(k) => ignore_missing(self.addrs.remove(k)).map_err(named("ADDRS")),
            Key::Pod(k) => ignore_missing(self.pods.remove(k)).map_err(named("PODS")),
        }
    }

    /// Packets and bytes per reason, summed over the CPUs.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn counters(&self) -> Result<BTreeMap<Reason, Counter>, TableError> {
        let mut sums = BTreeMap::new();
        for reason in Reason::ALL {
            let cpus = self.stats.get(&(*reason as u32), 0).map_err(named("STATS"))?;
            let sum = cpus.iter().fold(Counter::default(), add);
            sums.insert(*reason, sum);
        }
        Ok(sums)
    }

    /// Steered traffic per link number, summed over the CPUs.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn link_counters(&self) -> Result<BTreeMap<u8, LinkCounters>, TableError> {
        let mut sums = BTreeMap::new();
        for id in 0..MAX_LINKS {
            let cpus = self.link_stats.get(&id, 0).map_err(named("LINK_STATS"))?;
            let sum = cpus.iter().fold(LinkCounters::default(), |sum, c| LinkCounters {
                tx: add(sum.tx, &c.tx),
                rx: add(sum.rx, &c.rx),
            });
            sums.insert(id as u8, sum);
        }
        Ok(sums)
    }

    /// How full the maps are that traffic or policy can fill.
    #[must_use]
    pub fn fill(&self) -> Vec<Fill> {
        let entries = [
            ("CLASSES", self.classes.keys().count()),
            ("DESTS", self.dests.keys().count()),
            ("TRAFFIC", self.traffic.keys().count()),
            ("ADDRS", self.addrs.keys().count()),
            ("PODS", self.pods.keys().count()),
        ];
        let capacity = |map| self.capacities.get(map).copied().unwrap_or(0);
        entries.map(|(map, n)| Fill { map, entries: n as u64, capacity: capacity(map) }).into()
    }
}

/// What the kernel fills the table with at first.
const UNUSED_SLOT: Slot = Slot::of(0);

pub(super) fn named(map: &'static str) -> impl Fn(MapError) -> TableError {
    move |source| match is_full(&source) {
        true => TableError::Full(map),
        false => TableError::Map { map, source },
    }
}

/// A hash map returns E2BIG, an LPM trie ENOSPC.
fn is_full(error: &MapError) -> bool {
    let MapError::SyscallError(error) = error else { return false };
    [ErrorKind::ArgumentListTooLong, ErrorKind::StorageFull].contains(&error.io_error.kind())
}

fn all<K: aya::Pod + Ord, V: aya::Pod>(
    map: &HashMap<MapData, K, V>,
    name: &'static str,
) -> Result<BTreeMap<K, V>, TableError> {
    map.iter().collect::<Result<_, _>>().map_err(named(name))
}

fn add(sum: Counter, c: &Counter) -> Counter {
    Counter { packets: sum.packets + c.packets, bytes: sum.bytes + c.bytes }
}
