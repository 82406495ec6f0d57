//! The flow tables: reading, and ending what is over.

use super::expiry::expired;
use super::tables::{Fill, TableError, capacity, ignore_missing, named, take};
use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError};
use clovisor_common::abi::{Flow, Flow4, Flow4Key, Flow6, Flow6Key, FlowKey, FlowState, PodLoad, REVERSE};
use clovisor_common::packet::RST;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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

/// Only where there is an entry.
const BPF_EXIST: u64 = 2;

type Table<A> = HashMap<MapData, FlowKey<A>, Flow<A>>;

/// The maps that packets fill. Only the sweeper has one.
pub struct Flows {
    capacities: BTreeMap<&'static str, u64>,
    flow4: HashMap<MapData, Flow4Key, Flow4>,
    flow6: HashMap<MapData, Flow6Key, Flow6>,
    embryo4: HashMap<MapData, Flow4Key, Flow4>,
    embryo6: HashMap<MapData, Flow6Key, Flow6>,
    load: HashMap<MapData, u32, PodLoad>,
}

impl fmt::Debug for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flows").field("capacities", &self.capacities).finish_non_exhaustive()
    }
}

impl Flows {
    /// Takes the maps out of a loaded object.
    ///
    /// # Errors
    /// A map is missing or of another type.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, TableError> {
        Ok(Self {
            capacities: ebpf.maps().filter_map(|(name, map)| capacity(name, map)).collect(),
            flow4: take(ebpf, "FLOW4")?,
            flow6: take(ebpf, "FLOW6")?,
            embryo4: take(ebpf, "EMBRYO4")?,
            embryo6: take(ebpf, "EMBRYO6")?,
            load: take(ebpf, "POD_LOAD")?,
        })
    }

    /// Every flow with a forward entry. An entry that changes while it is read may be missing.
    #[must_use]
    pub fn read(&self) -> Vec<FlowEntry> {
        let mut flows = Vec::new();
        for table in [&self.flow4, &self.embryo4] {
            flows.extend(entries(table, |address| IpAddr::V4(Ipv4Addr::from(address))));
        }
        for table in [&self.flow6, &self.embryo6] {
            flows.extend(entries(table, |address| IpAddr::V6(Ipv6Addr::from(address))));
        }
        flows
    }

    /// Removes flows that are over, and those of pods that `alive` does not know; tells the kernel how many each pod
    /// has. Returns how many entries went.
    ///
    /// # Errors
    /// The counts could not be written.
    pub fn sweep(&mut self, now_ns: u64, alive: &dyn Fn(u32) -> bool) -> Result<usize, TableError> {
        let mut gone = 0;
        let mut counts = BTreeMap::new();
        gone += sweep(&mut self.embryo4, now_ns, alive, &mut BTreeMap::new());
        gone += sweep(&mut self.embryo6, now_ns, alive, &mut BTreeMap::new());
        gone += sweep(&mut self.flow4, now_ns, alive, &mut counts);
        gone += sweep(&mut self.flow6, now_ns, alive, &mut counts);
        self.count(&counts, alive).map_err(named("POD_LOAD"))?;
        Ok(gone)
    }

    fn count(&mut self, counts: &BTreeMap<u32, u32>, alive: &dyn Fn(u32) -> bool) -> Result<(), MapError> {
        let loads: Vec<_> = self.load.iter().flatten().collect();
        for (veth, load) in loads {
            let established = counts.get(&veth).copied().unwrap_or(0);
            if !alive(veth) {
                ignore_missing(self.load.remove(&veth))?;
            } else if load.established != established {
                self.load.insert(veth, PodLoad { established, ..load }, 0)?;
            }
        }
        Ok(())
    }

    /// Notes that a connection was reset: its entries go when those of ended ones do.
    ///
    /// # Errors
    /// The entry could not be written.
    pub fn note_reset(&mut self, flow: &FlowEntry) -> Result<(), TableError> {
        match (flow.source, flow.destination) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                let (saddr, daddr) = (from.ip().octets(), to.ip().octets());
                note_reset(&mut self.flow4, &key(flow, saddr, daddr)).map_err(named("FLOW4"))
            }
            (SocketAddr::V6(from), SocketAddr::V6(to)) => {
                let (saddr, daddr) = (from.ip().octets(), to.ip().octets());
                note_reset(&mut self.flow6, &key(flow, saddr, daddr)).map_err(named("FLOW6"))
            }
            _ => Ok(()),
        }
    }

    /// How full the tables are.
    #[must_use]
    pub fn fill(&self) -> Vec<Fill> {
        let entries = [
            ("FLOW4", self.flow4.keys().count()),
            ("FLOW6", self.flow6.keys().count()),
            ("EMBRYO4", self.embryo4.keys().count()),
            ("EMBRYO6", self.embryo6.keys().count()),
        ];
        let capacity = |map| self.capacities.get(map).copied().unwrap_or(0);
        entries.map(|(map, n)| Fill { map, entries: n as u64, capacity: capacity(map) }).into()
    }
}

fn key<A>(flow: &FlowEntry, saddr: A, daddr: A) -> FlowKey<A> {
    let (sport_be, dport_be) = (flow.source.port().to_be(), flow.destination.port().to_be());
    FlowKey { saddr, daddr, sport_be, dport_be, scope: flow.forward.veth, proto: flow.proto.into(), pad: 0 }
}

fn note_reset<A>(map: &mut Table<A>, key: &FlowKey<A>) -> Result<(), MapError>
where
    FlowKey<A>: aya::Pod,
    Flow<A>: aya::Pod,
{
    // It may have ended meanwhile.
    let Ok(mut entry) = map.get(key, 0) else { return Ok(()) };
    entry.state.tcp_flags |= RST;
    ignore_missing(map.insert(key, entry, BPF_EXIST))
}

fn entries<A: Copy>(map: &Table<A>, ip: impl Fn(A) -> IpAddr) -> Vec<FlowEntry>
where
    FlowKey<A>: aya::Pod,
    Flow<A>: aya::Pod,
{
    let at = |address, port_be| SocketAddr::new(ip(address), u16::from_be(port_be));
    let forward = map.iter().flatten().filter(|(key, _)| key.scope & REVERSE == 0);
    forward
        .map(|(key, flow)| FlowEntry {
            proto: key.proto as u8,
            source: at(key.saddr, key.sport_be),
            destination: at(key.daddr, key.dport_be),
            translated_source: at(flow.saddr, flow.sport_be),
            translated_destination: at(flow.daddr, flow.dport_be),
            forward: flow.state,
            reverse: map.get(&key.paired(&flow), 0).ok().map(|f| f.state),
        })
        .collect()
}

/// `counts`: flows that stay, by the pod's device.
fn sweep<A: Copy>(
    map: &mut Table<A>,
    now_ns: u64,
    alive: &dyn Fn(u32) -> bool,
    counts: &mut BTreeMap<u32, u32>,
) -> usize
where
    FlowKey<A>: aya::Pod,
    Flow<A>: aya::Pod,
{
    let mut over = Vec::new();
    for (key, flow) in map.iter().flatten() {
        let other = map.get(&key.paired(&flow), 0).ok().map(|f| f.state);
        let forward = key.scope & REVERSE == 0;
        let (out, back) = if forward { (Some(flow.state), other) } else { (other, Some(flow.state)) };
        if !alive(flow.state.veth) || expired(key.proto as u8, out.as_ref(), back.as_ref(), now_ns) {
            over.push(key);
        } else if forward {
            *counts.entry(flow.state.veth).or_default() += 1;
        }
    }
    // The forward entry goes first: without it the pod's next packet is decided anew.
    over.sort_by_key(|key| key.scope & REVERSE);
    over.iter().filter(|key| map.remove(key).is_ok()).count()
}
