//! The flow tables: reading, and removing expired flows.

use super::expiry::{ended, expired, silent};
use super::tables::{Fill, TableError, capacity, ignore_missing, named, take};
use crate::batch::Reader;
use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData, MapError};
use clovisor_common::abi::{Flow, FlowKey, FlowState, PodUsage, REVERSE};
use clovisor_common::packet::RST;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

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

/// Update an existing entry only.
const BPF_EXIST: u64 = 2;

/// One table, to read as a whole and to write by entries.
struct FlowTable<A> {
    name: &'static str,
    capacity: u64,
    reader: Reader<FlowKey<A>, Flow<A>>,
    map: HashMap<MapData, FlowKey<A>, Flow<A>>,
}

/// The flow tables; owned by the task of [`gc`](super::gc).
pub struct Flows {
    flow4: FlowTable<[u8; 4]>,
    flow6: FlowTable<[u8; 16]>,
    unreplied4: FlowTable<[u8; 4]>,
    unreplied6: FlowTable<[u8; 16]>,
    usage: HashMap<MapData, u32, PodUsage>,
    /// When they were last swept, CLOCK_MONOTONIC.
    swept_ns: Option<u64>,
}

impl fmt::Debug for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flows").finish_non_exhaustive()
    }
}

/// The result of a sweep.
#[derive(Clone, Debug, Default)]
pub struct Swept {
    /// Entries that were removed.
    pub ended: usize,
    /// How full the tables are now.
    pub fill: Vec<Fill>,
    /// Silent connections whose sockets are to be probed.
    pub silent: Vec<FlowEntry>,
}

/// One look at the tables.
struct Look<'a> {
    /// The one before.
    before_ns: u64,
    now_ns: u64,
    alive: &'a dyn Fn(u32) -> bool,
}

impl Flows {
    /// Takes the maps out of a loaded object.
    ///
    /// # Errors
    /// A map is missing or of another type.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, TableError> {
        Ok(Self {
            flow4: FlowTable::take(ebpf, "FLOW4")?,
            flow6: FlowTable::take(ebpf, "FLOW6")?,
            unreplied4: FlowTable::take(ebpf, "UNREPLIED4")?,
            unreplied6: FlowTable::take(ebpf, "UNREPLIED6")?,
            usage: take(ebpf, "POD_USAGE")?,
            swept_ns: None,
        })
    }

    /// Every flow with a forward entry, and how full the tables are. An entry that changes while it is read may be missing.
    ///
    /// # Errors
    /// A table could not be read.
    pub fn read(&self) -> Result<(Vec<FlowEntry>, Vec<Fill>), TableError> {
        let (mut flows, mut fill) = (Vec::new(), Vec::new());
        for table in [&self.flow4, &self.unreplied4] {
            table.read(&mut flows, &mut fill)?;
        }
        for table in [&self.flow6, &self.unreplied6] {
            table.read(&mut flows, &mut fill)?;
        }
        Ok((flows, fill))
    }

    /// Removes flows that are over, and those of pods that `alive` does not know; tells the kernel how many each pod
    /// has.
    ///
    /// # Errors
    /// A table could not be read: nothing of it went. Or the counts could not be written.
    pub fn sweep(&mut self, now_ns: u64, alive: &dyn Fn(u32) -> bool) -> Result<Swept, TableError> {
        let (mut swept, mut counts) = (Swept::default(), BTreeMap::new());
        let look = Look { before_ns: self.swept_ns.replace(now_ns).unwrap_or(now_ns), now_ns, alive };
        self.unreplied4.sweep(&look, &mut BTreeMap::new(), &mut swept)?;
        self.unreplied6.sweep(&look, &mut BTreeMap::new(), &mut swept)?;
        self.flow4.sweep(&look, &mut counts, &mut swept)?;
        self.flow6.sweep(&look, &mut counts, &mut swept)?;
        self.count(&counts, alive).map_err(named("POD_USAGE"))?;
        Ok(swept)
    }

    fn count(&mut self, counts: &BTreeMap<u32, u32>, alive: &dyn Fn(u32) -> bool) -> Result<(), MapError> {
        let loads: Vec<_> = self.usage.iter().flatten().collect();
        for (veth, usage) in loads {
            let replied = counts.get(&veth).copied().unwrap_or(0);
            if !alive(veth) {
                ignore_missing(self.usage.remove(&veth))?;
            } else if usage.replied != replied {
                self.usage.insert(veth, PodUsage { replied, ..usage }, 0)?;
            }
        }
        Ok(())
    }

    /// The flow with its forward entry as it is now.
    #[must_use]
    pub fn again(&self, flow: &FlowEntry) -> FlowEntry {
        let forward = match (flow.source, flow.destination) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                self.flow4.state(&key(flow, from.ip().octets(), to.ip().octets()))
            }
            (SocketAddr::V6(from), SocketAddr::V6(to)) => {
                self.flow6.state(&key(flow, from.ip().octets(), to.ip().octets()))
            }
            _ => None,
        };
        FlowEntry { forward: forward.unwrap_or(flow.forward), ..flow.clone() }
    }

    /// Removes a flow: the pod's next packet opens a new one.
    pub fn remove(&mut self, flow: &FlowEntry) {
        match (flow.source, flow.destination) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                let key = key(flow, from.ip().octets(), to.ip().octets());
                [&mut self.flow4, &mut self.unreplied4].into_iter().for_each(|table| table.remove(&key));
            }
            (SocketAddr::V6(from), SocketAddr::V6(to)) => {
                let key = key(flow, from.ip().octets(), to.ip().octets());
                [&mut self.flow6, &mut self.unreplied6].into_iter().for_each(|table| table.remove(&key));
            }
            _ => {}
        }
    }

    /// Notes that a connection was reset: its entries go when those of ended ones do.
    ///
    /// # Errors
    /// The entry could not be written.
    pub fn note_reset(&mut self, flow: &FlowEntry) -> Result<(), TableError> {
        match (flow.source, flow.destination) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                let (saddr, daddr) = (from.ip().octets(), to.ip().octets());
                self.flow4.note_reset(&key(flow, saddr, daddr))
            }
            (SocketAddr::V6(from), SocketAddr::V6(to)) => {
                let (saddr, daddr) = (from.ip().octets(), to.ip().octets());
                self.flow6.note_reset(&key(flow, saddr, daddr))
            }
            _ => Ok(()),
        }
    }
}

/// A flow by its forward entry and the state of the other one.
fn whole<A: Copy + Into<IpAddr>>(key: &FlowKey<A>, flow: &Flow<A>, reverse: Option<FlowState>) -> FlowEntry {
    let at = |address: A, port_be| SocketAddr::new(address.into(), u16::from_be(port_be));
    FlowEntry {
        proto: key.proto as u8,
        source: at(key.saddr, key.sport_be),
        destination: at(key.daddr, key.dport_be),
        translated_source: at(flow.saddr, flow.sport_be),
        translated_destination: at(flow.daddr, flow.dport_be),
        forward: flow.state,
        reverse,
    }
}

fn key<A>(flow: &FlowEntry, saddr: A, daddr: A) -> FlowKey<A> {
    let (sport_be, dport_be) = (flow.source.port().to_be(), flow.destination.port().to_be());
    FlowKey { saddr, daddr, sport_be, dport_be, scope: flow.forward.veth, proto: flow.proto.into(), pad: 0 }
}

/// Entries of one table at one moment.
type Entries<A> = std::collections::HashMap<FlowKey<A>, Flow<A>>;

/// A flow has an entry for each direction.
const fn in_flows(fill: Fill) -> Fill {
    Fill { entries: fill.entries.div_ceil(2), capacity: fill.capacity / 2, ..fill }
}

impl<A: Copy + Eq + Hash + Into<IpAddr>> FlowTable<A>
where
    FlowKey<A>: aya::Pod,
    Flow<A>: aya::Pod,
{
    fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, TableError> {
        let map = ebpf.map(name).ok_or(TableError::Missing(name))?;
        let (_, capacity) = capacity(name, map).ok_or(TableError::Missing(name))?;
        let (Map::HashMap(data) | Map::LruHashMap(data)) = map else { return Err(TableError::Missing(name)) };
        let reader = Reader::of(data).map_err(named(name))?;
        Ok(Self { name, capacity, reader, map: take(ebpf, name)? })
    }

    fn entries(&self) -> Result<Entries<A>, TableError> {
        let entries = self.reader.entries().map_err(|error| named(self.name)(error.into()))?;
        Ok(entries.into_iter().collect())
    }

    fn fill(&self, entries: usize) -> Fill {
        in_flows(Fill { map: self.name, entries: entries as u64, capacity: self.capacity })
    }

    /// The other direction's entry: as it was read, else as it is. One that was made or moved meanwhile is no orphan.
    fn pair(&self, entries: &Entries<A>, key: &FlowKey<A>, flow: &Flow<A>) -> Option<FlowState> {
        let paired = key.paired(flow);
        let read = entries.get(&paired).copied();
        read.or_else(|| self.map.get(&paired, 0).ok()).map(|other| other.state)
    }

    fn read(&self, flows: &mut Vec<FlowEntry>, fill: &mut Vec<Fill>) -> Result<(), TableError> {
        let entries = self.entries()?;
        fill.push(self.fill(entries.len()));
        let forward = entries.iter().filter(|(key, _)| key.scope & REVERSE == 0);
        flows.extend(forward.map(|(key, flow)| whole(key, flow, self.pair(&entries, key, flow))));
        Ok(())
    }

    /// `counts`: flows that go on, by the pod's device.
    fn sweep(
        &mut self,
        look: &Look<'_>,
        counts: &mut BTreeMap<u32, u32>,
        swept: &mut Swept,
    ) -> Result<(), TableError> {
        let Look { before_ns, now_ns, alive } = *look;
        let entries = self.entries()?;
        let mut over = Vec::new();
        for (key, flow) in &entries {
            let other = self.pair(&entries, key, flow);
            let forward = key.scope & REVERSE == 0;
            let (out, back) = if forward { (Some(flow.state), other) } else { (other, Some(flow.state)) };
            if !alive(flow.state.veth) || expired(key.proto as u8, out.as_ref(), back.as_ref(), now_ns) {
                over.push(*key);
            } else if forward && !ended(&flow.state, other.as_ref()) {
                *counts.entry(flow.state.veth).or_default() += 1;
                if other.is_some_and(|back| silent(&flow.state, &back, before_ns, now_ns)) {
                    swept.silent.push(whole(key, flow, other));
                }
            }
        }
        // The forward entry goes first: without it the pod's next packet opens a new flow.
        over.sort_by_key(|key| key.scope & REVERSE);
        let removed = over.iter().filter(|key| self.map.remove(key).is_ok()).count();
        swept.ended += removed;
        swept.fill.push(self.fill(entries.len() - removed.min(entries.len())));
        Ok(())
    }

    fn state(&self, key: &FlowKey<A>) -> Option<FlowState> {
        self.map.get(key, 0).ok().map(|flow| flow.state)
    }

    /// The forward entry first: without it the pod's next packet opens a new flow. What is missing has ended meanwhile.
    fn remove(&mut self, key: &FlowKey<A>) {
        if let Ok(flow) = self.map.get(key, 0) {
            for entry in [*key, key.paired(&flow)] {
                if let Err(error) = self.map.remove(&entry) {
                    tracing::debug!(map = self.name, %error, "entry not removed");
                }
            }
        }
    }

    fn note_reset(&mut self, key: &FlowKey<A>) -> Result<(), TableError> {
        // It may have ended meanwhile.
        let Ok(mut entry) = self.map.get(key, 0) else { return Ok(()) };
        entry.state.tcp_flags |= RST;
        ignore_missing(self.map.insert(key, entry, BPF_EXIST)).map_err(named(self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_room_for_half_as_many_flows_as_entries() {
        let fill = in_flows(Fill { map: "FLOW4", entries: 7, capacity: 131_072 });
        assert_eq!(fill, Fill { map: "FLOW4", entries: 4, capacity: 65_536 });
    }
}
