//! The maps and the only code that dereferences their values.
//!
//! **Never**: keeps a reference across a packet; the agent may rewrite any entry at any time.
#![allow(unsafe_code, reason = "map values are raw pointers")]

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use clovisor_common::abi::{
    Addr, AddrKey, ClassKey, Counter, DestClasses, DestKey, Exchange, ExchangeKey, Flow, Flow4, Flow4Key,
    Flow6, Flow6Key, FlowKey, FragmentKey, LINK_L3, Link, LinkCounters, LinkIndex, MAX_LINKS, MAX_LOCAL,
    MAX_SLOTS, NOT_LOCAL, Peer, PeerKey, Pod, PodUsage, Ports, Reason, STATS_ENTRIES, Slot, SlotIndex,
    Traffic, TrafficKey,
};
use clovisor_common::packet::{ETHERNET, Segment};
use clovisor_common::reply::Frame;

#[map]
static FLOW4: HashMap<Flow4Key, Flow4> = HashMap::pinned(131_072, 0);
#[map]
static FLOW6: HashMap<Flow6Key, Flow6> = HashMap::pinned(32_768, 0);
#[map]
static UNREPLIED4: LruHashMap<Flow4Key, Flow4> = LruHashMap::pinned(65_536, 0);
#[map]
static UNREPLIED6: LruHashMap<Flow6Key, Flow6> = LruHashMap::pinned(32_768, 0);
#[map]
static POD_USAGE: HashMap<u32, PodUsage> = HashMap::pinned(2048, 0);
#[map]
static FRAGMENTS: LruHashMap<FragmentKey, Ports> = LruHashMap::pinned(8192, 0);
#[map]
static EXCHANGES: LruHashMap<ExchangeKey, Exchange> = LruHashMap::pinned(32_768, 0);
#[map]
static CLASSES: HashMap<ClassKey, SlotIndex> = HashMap::pinned(4096, 0);
#[map]
static SLOTS: Array<Slot> = Array::pinned(MAX_SLOTS, 0);
#[map]
static LINKS: Array<Link> = Array::pinned(MAX_LINKS, 0);
#[map]
static LINK_OF: HashMap<u32, LinkIndex> = HashMap::pinned(256, 0);
#[map]
static PODS: HashMap<u32, Pod> = HashMap::pinned(2048, 0);
#[map]
static ADDRS: HashMap<AddrKey, Addr> = HashMap::pinned(4096, 0);
#[map]
static DESTS: HashMap<DestKey, DestClasses> = HashMap::pinned(16_384, 0);
#[map]
static TRAFFIC: LpmTrie<TrafficKey, Traffic> = LpmTrie::pinned(16_384, BPF_F_NO_PREALLOC);
#[map]
static LOCAL: LpmTrie<AddrKey, u32> = LpmTrie::pinned(MAX_LOCAL, BPF_F_NO_PREALLOC);
#[map]
static PEERS: HashMap<PeerKey, Peer> = HashMap::pinned(16_384, 0);
#[map]
static STATS: PerCpuArray<Counter> = PerCpuArray::pinned(STATS_ENTRIES, 0);
#[map]
static LINK_STATS: PerCpuArray<LinkCounters> = PerCpuArray::pinned(MAX_LINKS, 0);

#[map]
static NEW_FLOW4: PerCpuArray<NewFlow<[u8; 4]>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static NEW_FLOW6: PerCpuArray<NewFlow<[u8; 16]>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SCRATCH4: PerCpuArray<Scratch<[u8; 4]>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SCRATCH6: PerCpuArray<Scratch<[u8; 16]>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static REPLY: PerCpuArray<Frame> = PerCpuArray::with_max_entries(1, 0);

/// Both entries of a flow before they are inserted: too much for the 512 bytes of stack.
#[repr(C)]
pub(crate) struct NewFlow<A> {
    pub(crate) forward: Flow<A>,
    pub(crate) reverse: Flow<A>,
    pub(crate) reverse_key: FlowKey<A>,
    /// The source port (network byte order) that the tuple's connection before had, and its link; 0 for none.
    pub(crate) port_before: u32,
    /// Where the search for a source port begins; here for the same reason as `granted`.
    pub(crate) place: u32,
}

impl<A> NewFlow<A> {
    /// Keeps the source port of a connection that makes way for another one of its tuple.
    #[inline(always)]
    pub(crate) fn keep_port(&mut self, of: Option<&Flow<A>>) {
        self.port_before = of.map_or(0, |flow| u32::from(flow.state.link) << 16 | u32::from(flow.sport_be));
    }

    /// That source port, if it was of this link.
    #[inline(always)]
    pub(crate) fn port_before(&self, link: u8) -> Option<u16> {
        let port_be = self.port_before as u16;
        (port_be != 0 && (self.port_before >> 16) as u8 == link).then_some(port_be)
    }
}

/// A parsed packet on the slow path and the key of its flow; not on the BPF stack for the same reason.
#[repr(C)]
pub(crate) struct Scratch<A> {
    pub(crate) segment: Segment<A>,
    pub(crate) key: FlowKey<A>,
    /// The grant of a first packet, as bits. Kept in a map, as the fields below, and not in registers: the verifier then
    /// forgets the constant values and does not explore the rest once for each.
    pub(crate) granted: u64,
    /// The flow's slot.
    pub(crate) slot: Slot,
    /// The reason by which the packet is counted when it is sent.
    pub(crate) reason: Reason,
}

const NOEXIST: u64 = 1;
const EEXIST: i32 = -17;

/// Which table a flow is in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No reply yet; an LRU.
    Unreplied,
    Replied,
}

/// Why an entry was not inserted.
pub(crate) enum Refused {
    Taken,
    Full,
}

/// The flow table of a family.
pub(crate) trait Table: Sized + 'static {
    fn table() -> &'static HashMap<FlowKey<Self>, Flow<Self>>;
    fn unreplied_table() -> &'static LruHashMap<FlowKey<Self>, Flow<Self>>;
    fn new_flows() -> &'static PerCpuArray<NewFlow<Self>>;
    fn scratches() -> &'static PerCpuArray<Scratch<Self>>;

    /// This CPU's entries of a new flow.
    #[inline(always)]
    fn new_flow<'a>() -> Option<&'a mut NewFlow<Self>> {
        // SAFETY: as in `count`: nothing else runs on this CPU's copy meanwhile.
        Self::new_flows().get_ptr_mut(0).map(|draft| unsafe { &mut *draft })
    }

    /// This CPU's scratch space.
    #[inline(always)]
    fn scratch<'a>() -> Option<&'a mut Scratch<Self>> {
        // SAFETY: as in `count`: nothing else runs on this CPU's copy meanwhile.
        Self::scratches().get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
    }
}

impl Table for [u8; 4] {
    #[inline(always)]
    fn table() -> &'static HashMap<Flow4Key, Flow4> {
        &FLOW4
    }

    #[inline(always)]
    fn unreplied_table() -> &'static LruHashMap<FlowKey<Self>, Flow<Self>> {
        &UNREPLIED4
    }

    #[inline(always)]
    fn new_flows() -> &'static PerCpuArray<NewFlow<Self>> {
        &NEW_FLOW4
    }

    #[inline(always)]
    fn scratches() -> &'static PerCpuArray<Scratch<Self>> {
        &SCRATCH4
    }
}

impl Table for [u8; 16] {
    #[inline(always)]
    fn table() -> &'static HashMap<Flow6Key, Flow6> {
        &FLOW6
    }

    #[inline(always)]
    fn unreplied_table() -> &'static LruHashMap<FlowKey<Self>, Flow<Self>> {
        &UNREPLIED6
    }

    #[inline(always)]
    fn new_flows() -> &'static PerCpuArray<NewFlow<Self>> {
        &NEW_FLOW6
    }

    #[inline(always)]
    fn scratches() -> &'static PerCpuArray<Scratch<Self>> {
        &SCRATCH6
    }
}

/// The entry of a replied flow under `key`, for this packet only.
#[inline(always)]
pub(crate) fn replied<'a, A: Table>(key: &FlowKey<A>) -> Option<&'a mut Flow<A>> {
    // SAFETY: a map value lives until after the program's RCU section; other CPUs write only counters of it
    // and single aligned words.
    A::table().get_ptr_mut(key).map(|flow| unsafe { &mut *flow })
}

/// The entry of an unreplied flow.
#[inline(always)]
pub(crate) fn unreplied<'a, A: Table>(key: &FlowKey<A>) -> Option<&'a mut Flow<A>> {
    // SAFETY: as in `replied`; an entry that is displaced meanwhile holds another flow, whose own packets do the same.
    A::unreplied_table().get_ptr_mut(key).map(|flow| unsafe { &mut *flow })
}

/// The entry under `key`. Another CPU may move it to the replied table at any time, by insert before delete.
#[inline(always)]
pub(crate) fn flow<'a, A: Table>(key: &FlowKey<A>) -> Option<&'a mut Flow<A>> {
    replied(key).or_else(|| unreplied(key)).or_else(|| replied(key))
}

/// Inserts an entry unless there is one: for a reverse entry an atomic reservation of its port.
#[inline(always)]
pub(crate) fn reserve<A: Table>(stage: Stage, key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), Refused> {
    let inserted = match stage {
        Stage::Replied => A::table().insert(key, flow, NOEXIST),
        Stage::Unreplied => A::unreplied_table().insert(key, flow, NOEXIST),
    };
    inserted.map_err(|error| if error == EEXIST { Refused::Taken } else { Refused::Full })
}

/// Removes an entry from one table; it may be absent.
#[inline(always)]
pub(crate) fn forget<A: Table>(stage: Stage, key: &FlowKey<A>) {
    let _absent = match stage {
        Stage::Replied => A::table().remove(key),
        Stage::Unreplied => A::unreplied_table().remove(key),
    };
}

/// The usage of the pod behind a veth; none if the map is full.
#[inline(always)]
pub(crate) fn usage<'a>(veth: u32) -> Option<&'a mut PodUsage> {
    if POD_USAGE.get_ptr(veth).is_none() {
        let _raced = POD_USAGE.insert(veth, PodUsage::default(), NOEXIST);
    }
    // SAFETY: as in `replied`; counts that two CPUs make at once may lose one.
    POD_USAGE.get_ptr_mut(veth).map(|usage| unsafe { &mut *usage })
}

/// The ports of a fragment's packet.
#[inline(always)]
pub(crate) fn ports(of: &FragmentKey) -> Option<Ports> {
    // SAFETY: copied at once; the map may give the place to another packet, whose ports then lead to no flow.
    FRAGMENTS.get_ptr(of).map(|ports| unsafe { *ports })
}

/// Keeps the ports for later fragments; false if there is no room.
#[inline(always)]
pub(crate) fn remember(of: &FragmentKey, ports: Ports) -> bool {
    FRAGMENTS.insert(of, ports, 0).is_ok()
}

/// An exchange of datagrams that the stack carries.
#[inline(always)]
pub(crate) fn exchange<'a>(key: &ExchangeKey) -> Option<&'a mut Exchange> {
    // SAFETY: as in `unreplied`: all that another exchange in the same place would take over is a time.
    EXCHANGES.get_ptr_mut(key).map(|exchange| unsafe { &mut *exchange })
}

/// Notes one that was not known; the map is an LRU and has room.
#[inline(always)]
pub(crate) fn begin_exchange(key: &ExchangeKey, exchange: &Exchange) {
    let _raced = EXCHANGES.insert(key, exchange, NOEXIST);
}

#[inline(always)]
fn hit<'a, K, V>(map: &'static HashMap<K, V>, key: &K) -> Option<&'a V> {
    // SAFETY: as in `replied`; the agent replaces entries whole and never frees one that a program still reads.
    map.get_ptr(key).map(|value| unsafe { &*value })
}

#[inline(always)]
pub(crate) fn pod<'a>(veth: u32) -> Option<&'a Pod> {
    hit(&PODS, &veth)
}

#[inline(always)]
pub(crate) fn addr(key: &AddrKey) -> Option<Addr> {
    hit(&ADDRS, key).copied()
}

#[inline(always)]
pub(crate) fn slot_of(key: &ClassKey) -> Option<SlotIndex> {
    hit(&CLASSES, key).copied()
}

#[inline(always)]
pub(crate) fn dest(key: &DestKey) -> Option<DestClasses> {
    hit(&DESTS, key).copied()
}

/// The rules of the longest prefix around the key's address.
#[inline(always)]
pub(crate) fn traffic<'a>(key: &TrafficKey) -> Option<&'a Traffic> {
    TRAFFIC.get(Key::new(TrafficKey::BITS, *key))
}

/// 1 where the address is local, else 0.
#[inline(always)]
pub(crate) fn local(address: &AddrKey) -> u32 {
    LOCAL.get(Key::new(128, *address)).copied().unwrap_or(NOT_LOCAL)
}

#[inline(always)]
pub(crate) fn peer(key: &PeerKey) -> Option<Peer> {
    hit(&PEERS, key).copied()
}

#[inline(always)]
pub(crate) fn slot(index: SlotIndex) -> Option<Slot> {
    SLOTS.get(index).copied()
}

/// The present state of the slot by which the flow was opened.
#[inline(always)]
pub(crate) fn slot_of_flow<A>(flow: &Flow<A>) -> Slot {
    slot(u32::from(flow.state.slot)).unwrap_or(Slot::NONE)
}

#[inline(always)]
pub(crate) fn link<'a>(index: u8) -> Option<&'a Link> {
    LINKS.get(u32::from(index))
}

/// The link of an uplink's interface, with its index.
#[inline(always)]
pub(crate) fn link_of<'a>(ifindex: u32) -> Option<(u8, &'a Link)> {
    let index = *hit(&LINK_OF, &ifindex)? as u8;
    Some((index, link(index)?))
}

/// Where the IP header of the link's packets stands.
#[inline(always)]
pub(crate) fn ip_offset(link: &Link) -> usize {
    if link.flags & LINK_L3 != 0 { 0 } else { ETHERNET }
}

/// This CPU's frame for a reply to a pod.
#[inline(always)]
pub(crate) fn reply<'a>() -> Option<&'a mut Frame> {
    // SAFETY: as in `count`.
    REPLY.get_ptr_mut(0).map(|frame| unsafe { &mut *frame })
}

/// Adds to `STATS`.
#[inline(always)]
pub(crate) fn count(reason: Reason, packets: u64, bytes: u64) {
    count_index(reason as u32, packets, bytes);
}

/// [`count`] by the reason's number.
#[inline(always)]
pub(crate) fn count_index(reason: u32, packets: u64, bytes: u64) {
    if let Some(counter) = STATS.get_ptr_mut(reason) {
        // SAFETY: this CPU's copy, and TC programs of one CPU do not interrupt each other.
        add(unsafe { &mut *counter }, packets, bytes);
    }
}

/// Adds to `LINK_STATS`.
#[inline(always)]
pub(crate) fn count_link(link: u8, sent: bool, packets: u64, bytes: u64) {
    if let Some(counters) = LINK_STATS.get_ptr_mut(u32::from(link)) {
        // SAFETY: as in `count`.
        let counters = unsafe { &mut *counters };
        add(if sent { &mut counters.tx } else { &mut counters.rx }, packets, bytes);
    }
}

#[inline(always)]
fn add(counter: &mut Counter, packets: u64, bytes: u64) {
    counter.packets += packets;
    counter.bytes += bytes;
}
