//! The kernel maps as typed handles: applying changes, reading flows and counters.

use super::diff::{Entry, Key, Op};
use super::expiry::expired;
use super::image::Image;
use aya::Ebpf;
use aya::maps::lpm_trie::{self, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use clovisor_common::abi;
use clovisor_common::abi::{
    Addr, AddrKey, ClassKey, Counter, DestKey, Flow, Flow4, Flow4Key, Flow6, Flow6Key, FlowKey, FlowState,
    LinkCounters, MAPS, MAX_LINKS, MAX_SLOTS, Peer, PeerKey, Pod, REVERSE, Reason, Slot, Traffic, TrafficKey,
};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A map could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("the eBPF object has no map {0}; agent and object are of different builds, build both again")]
    Missing(&'static str),
    #[error("map {map}: {source}; is it full, or pinned by another version? see `clovisor-agent cleanup`")]
    Map { map: &'static str, source: MapError },
}

/// Every map of the kernel half. Only the kernel task has one.
pub struct Tables {
    capacities: BTreeMap<&'static str, u64>,
    links: Array<MapData, abi::Link>,
    slots: Array<MapData, Slot>,
    link_of: HashMap<MapData, u32, u32>,
    peers: HashMap<MapData, PeerKey, Peer>,
    classes: HashMap<MapData, ClassKey, u32>,
    dests: HashMap<MapData, DestKey, u32>,
    traffic: LpmTrie<MapData, TrafficKey, Traffic>,
    addrs: HashMap<MapData, AddrKey, Addr>,
    pods: HashMap<MapData, u32, Pod>,
    flow4: HashMap<MapData, Flow4Key, Flow4>,
    flow6: HashMap<MapData, Flow6Key, Flow6>,
    stats: PerCpuArray<MapData, Counter>,
    link_stats: PerCpuArray<MapData, LinkCounters>,
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("capacities", &self.capacities).finish_non_exhaustive()
    }
}

/// A steered flow: both entries together.
#[derive(Clone, Debug)]
pub struct FlowEntry {
    /// Number of the protocol. Of an ICMP echo the ports are the identifier and 0.
    pub proto: u8,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub translated_source: SocketAddr,
    pub translated_destination: SocketAddr,
    pub forward: FlowState,
    pub reverse: Option<FlowState>,
}

/// Entries and capacity of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    pub map: &'static str,
    pub entries: u64,
    pub capacity: u64,
}

fn take<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, map: &'static str) -> Result<T, TableError> {
    let found = ebpf.take_map(map).ok_or(TableError::Missing(map))?;
    T::try_from(found).map_err(|source| TableError::Map { map, source })
}

fn capacity(name: &str, map: &Map) -> Option<(&'static str, u64)> {
    let name = MAPS.into_iter().find(|m| *m == name)?;
    match map {
        Map::HashMap(data) | Map::LpmTrie(data) => Some((name, u64::from(data.info().ok()?.max_entries()))),
        _ => None,
    }
}

fn ignore_missing(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(e)) if e.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Tables {
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
            addrs: take(ebpf, "ADDRS")?,
            pods: take(ebpf, "PODS")?,
            flow4: take(ebpf, "FLOW4")?,
            flow6: take(ebpf, "FLOW6")?,
            stats: take(ebpf, "STATS")?,
            link_stats: take(ebpf, "LINK_STATS")?,
        })
    }

    /// What the maps hold now: after a restart, what the agent before left.
    ///
    /// # Errors
    /// A map could not be read.
    pub fn read(&self) -> Result<Image, TableError> {
        let mut image = Image::default();
        for id in 0..MAX_LINKS {
            let link = self.links.get(&id, 0).map_err(named("LINKS"))?;
            if link != EMPTY_LINK {
                image.links.insert(id as u8, link);
            }
        }
        for index in 0..MAX_SLOTS {
            let slot = self.slots.get(&index, 0).map_err(named("SLOTS"))?;
            if slot != EMPTY_SLOT {
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
        image.addrs = all(&self.addrs, "ADDRS")?;
        image.pods = all(&self.pods, "PODS")?;
        Ok(image)
    }

    /// Carries out one write. Deleting what is not there is no error.
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
            Entry::Addr(k, v) => self.addrs.insert(k, v, 0).map_err(named("ADDRS")),
            Entry::Pod(k, v) => self.pods.insert(k, v, 0).map_err(named("PODS")),
        }
    }

    fn delete(&mut self, key: &Key) -> Result<(), TableError> {
        match key {
            Key::Link(id) => self.links.set(u32::from(*id), EMPTY_LINK, 0).map_err(named("LINKS")),
            Key::Slot(index) => self.slots.set(*index, EMPTY_SLOT, 0).map_err(named("SLOTS")),
            Key::LinkOf(k) => ignore_missing(self.link_of.remove(k)).map_err(named("LINK_OF")),
            Key::Peer(k) => ignore_missing(self.peers.remove(k)).map_err(named("PEERS")),
            Key::Class(k) => ignore_missing(self.classes.remove(k)).map_err(named("CLASSES")),
            Key::Dest(k) => ignore_missing(self.dests.remove(k)).map_err(named("DESTS")),
            Key::Traffic((bits, k)) => {
                let key = lpm_trie::Key::new(*bits, *k);
                ignore_missing(self.traffic.remove(&key)).map_err(named("TRAFFIC"))
            }
            Key::Addr(k) => ignore_missing(self.addrs.remove(k)).map_err(named("ADDRS")),
            Key::Pod(k) => ignore_missing(self.pods.remove(k)).map_err(named("PODS")),
        }
    }

    /// Every flow with a forward entry. An entry that changes while it is read may be missing.
    #[must_use]
    pub fn flows(&self) -> Vec<FlowEntry> {
        let mut flows = read_flows(&self.flow4, |address: [u8; 4]| IpAddr::V4(Ipv4Addr::from(address)));
        flows.extend(read_flows(&self.flow6, |address: [u8; 16]| IpAddr::V6(Ipv6Addr::from(address))));
        flows
    }

    /// Removes flows that are over, and those of pods that `alive` does not know. Returns how many entries went.
    pub fn sweep(&mut self, now_ns: u64, alive: &dyn Fn(u32) -> bool) -> usize {
        sweep_flows(&mut self.flow4, now_ns, alive) + sweep_flows(&mut self.flow6, now_ns, alive)
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
            ("FLOW4", self.flow4.keys().count()),
            ("FLOW6", self.flow6.keys().count()),
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

const EMPTY_SLOT: Slot = Slot { link: 0, flags: 0, wire_dscp: 0, pad: 0 };
const EMPTY_LINK: abi::Link = abi::Link {
    ifindex: 0,
    mtu: 0,
    flags: 0,
    port_min: 0,
    port_max: 0,
    gateway4: [0; 4],
    source4: [0; 4],
    gateway6: [0; 16],
    source6: [0; 16],
};

fn named(map: &'static str) -> impl Fn(MapError) -> TableError {
    move |source| TableError::Map { map, source }
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

type Flows<A> = HashMap<MapData, FlowKey<A>, Flow<A>>;

fn read_flows<A: Copy>(map: &Flows<A>, ip: impl Fn(A) -> IpAddr) -> Vec<FlowEntry>
where
    FlowKey<A>: aya::Pod,
    Flow<A>: aya::Pod,
{
    let at = |address, port_be| SocketAddr::new(ip(address), u16::from_be(port_be));
    let forward = map.iter().flatten().filter(|(key, _)| key.zone & REVERSE == 0);
    forward
        .map(|(key, flow)| FlowEntry {
            proto: key.proto,
            source: at(key.saddr, key.sport_be),
            destination: at(key.daddr, key.dport_be),
            translated_source: at(flow.saddr, flow.sport_be),
            translated_destination: at(flow.daddr, flow.dport_be),
            forward: flow.state,
            reverse: map.get(&key.paired(&flow), 0).ok().map(|f| f.state),
        })
        .collect()
}

fn sweep_flows<A: Copy>(map: &mut Flows<A>, now_ns: u64, alive: &dyn Fn(u32) -> bool) -> usize
where
    FlowKey<A>: aya::Pod,
    Flow<A>: aya::Pod,
{
    let mut over = Vec::new();
    for (key, flow) in map.iter().flatten() {
        let other = map.get(&key.paired(&flow), 0).ok().map(|f| f.state);
        let (out, back) =
            if key.zone & REVERSE == 0 { (Some(flow.state), other) } else { (other, Some(flow.state)) };
        if !alive(flow.state.veth) || expired(key.proto, out.as_ref(), back.as_ref(), now_ns) {
            over.push(key);
        }
    }
    // The forward entry goes first: without it the pod's next packet is decided anew.
    over.sort_by_key(|key| key.zone & REVERSE);
    over.iter().filter(|key| map.remove(key).is_ok()).count()
}
