//! The forwarding rule: which packet may open a flow, on which link, and what becomes of it later.
//!
//! **In**: a [`Segment`] and read access to the maps ([`Tables`]). **Out**: [`Grant`] or [`Denial`],
//! [`Disposition`], translations. **Never**: changes a map or knows where it runs.

pub mod packed;
pub mod ports;

use crate::abi::{
    ANY_LINK, Addr, AddrKey, ClassKey, DestClasses, DestKey, ExchangeKey, FLOW_BY_TRAFFIC, FLOW_MARK,
    FLOW_NAT, Flow, FlowKey, FlowState, LINK_MARK, LINK_NAT, LOCAL, Link, NO_LINK, Peer, PeerKey, Pod,
    REVERSE, Reason, SLOT_FOLLOW, SLOT_REFUSE, Slot, SlotIndex, Traffic, TrafficKey,
};
use crate::packet::{ACK, Address, FIN, RST, Segment, TCP, UDP, delta, exchange_key, fold};

/// Read access to the maps by which the rule decides: those of the kernel, or the agent's image of them.
pub trait Tables {
    /// `ADDRS`.
    fn addr(&self, key: &AddrKey) -> Option<Addr>;
    /// `CLASSES`.
    fn slot_of(&self, key: &ClassKey) -> Option<SlotIndex>;
    /// `DESTS`.
    fn dest(&self, key: &DestKey) -> Option<DestClasses>;
    /// `TRAFFIC`.
    fn traffic(&self, key: &TrafficKey) -> Option<&Traffic>;
    /// `LOCAL`: 1 where the destination is local, else 0.
    fn local(&self, address: &AddrKey) -> u32;
    /// `EXCHANGES`: somebody outside began the exchange of this tuple of a pod.
    fn began_outside(&self, key: &ExchangeKey) -> bool;
    /// `SLOTS`.
    fn slot(&self, index: SlotIndex) -> Option<Slot>;
    /// `LINKS`.
    fn link(&self, index: u8) -> Option<&Link>;
    /// `PEERS`.
    fn peer(&self, key: &PeerKey) -> Option<Peer>;
}

/// A first packet may open a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub class: u8,
    /// `TRAFFIC` gave the class.
    pub by_traffic: bool,
    /// Index of `SLOTS`.
    pub index: u16,
    pub slot: Slot,
    /// Index of `LINKS`: the slot's link for the packet's family.
    pub link: u8,
}

/// A packet stays off the links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    pub reason: Reason,
    /// Drop it instead of leaving it to the stack.
    pub drop: bool,
}

impl Denial {
    /// Left to the stack.
    #[must_use]
    pub const fn pass(reason: Reason) -> Self {
        Self { reason, drop: false }
    }

    /// Dropped.
    #[must_use]
    pub const fn drop(reason: Reason) -> Self {
        Self { reason, drop: true }
    }

    /// Dropped or left to the stack, as the slot says.
    #[must_use]
    pub const fn of_slot(reason: Reason, slot: Slot) -> Self {
        Self { reason, drop: slot.flags & SLOT_REFUSE != 0 }
    }
}

/// Decides about the first packet of a flow that came in by `veth`. `socket_uid` returns the uid that owns the sending
/// socket, or the overflow uid (65534) where there is no socket; it is called only for packets that carry a class.
///
/// # Errors
/// The packet opens no flow; the denial says why and what becomes of it.
#[inline(always)]
pub fn admit<A: Address, T: Tables>(
    tables: &T,
    pod: &Pod,
    veth: u32,
    segment: &Segment<A>,
    socket_uid: impl FnOnce() -> u32,
) -> Result<Grant, Denial> {
    let marked = segment.class();
    if marked == 0 && pod.traffic == 0 {
        return Err(Denial::pass(Reason::Passed));
    }
    let owner = tables.addr(&segment.saddr.mapped());
    if owner.is_none_or(|addr| addr.veth != veth) {
        return Err(Denial::pass(Reason::ForgedSource));
    }
    let by_traffic = marked == 0 || socket_uid() != pod.proxy_uid;
    let class = match by_traffic {
        false => marked,
        true => match class_of_traffic(tables, pod, segment) {
            0 if marked == 0 => return Err(Denial::pass(Reason::Passed)),
            0 => return Err(Denial::pass(Reason::UntrustedSocket)),
            class => class,
        },
    };
    let Some(index) = tables.slot_of(&ClassKey { zone: pod.zone, class, pad: 0 }) else {
        return Err(Denial::pass(Reason::UnknownClass));
    };
    if !by_traffic && !covers(tables, pod.zone, class, segment) {
        return Err(Denial::pass(Reason::ForeignDestination));
    }
    let Some(slot) = tables.slot(index) else {
        return Err(Denial::pass(Reason::UnknownClass));
    };
    if !segment.is_new {
        // A pod may answer those who dialled it, who are none of the mapping's business.
        let refuses = if by_traffic { Slot { flags: 0, ..slot } } else { slot };
        return Err(Denial::of_slot(Reason::MidStream, refuses));
    }
    // What TCP tells by its flags.
    if by_traffic && segment.proto == UDP && tables.began_outside(&exchange_key(&segment.key(veth))) {
        return Err(Denial::pass(Reason::Answer));
    }
    let link = A::link(&slot);
    if !tables.link(link).is_some_and(carries::<A>) {
        let refuses = slot.flags & SLOT_REFUSE != 0;
        let reason = if refuses { Reason::NoLinkRefused } else { Reason::NoLinkDefault };
        return Err(Denial { reason, drop: refuses });
    }
    Ok(Grant { class, by_traffic, index: index as u16, slot, link })
}

#[inline(always)]
fn covers<A: Address, T: Tables>(tables: &T, zone: u16, class: u8, segment: &Segment<A>) -> bool {
    let proto = segment.proto;
    let key = DestKey { addr: segment.daddr.mapped(), port_be: segment.dport_be, zone, proto, pad: [0; 3] };
    let may = |key: &DestKey| tables.dest(key).is_some_and(|classes| classes >> (class - 1) & 1 == 1);
    may(&key) || may(&DestKey::anywhere(zone)) && tables.local(&key.addr) != LOCAL
}

/// The class of a packet that no proxy has marked, by its destination; 0 for none, as for a local one.
#[inline(always)]
#[must_use]
pub fn class_of_traffic<A: Address, T: Tables>(tables: &T, pod: &Pod, segment: &Segment<A>) -> u8 {
    if pod.traffic == 0 {
        return 0;
    }
    let key = TrafficKey { zone: pod.zone, proto: segment.proto, pad: 0, addr: segment.daddr.mapped() };
    let Some(traffic) = tables.traffic(&key) else {
        return 0;
    };
    let port = u16::from_be(segment.dport_be);
    let own = |class: u8| class != 0 && pod.traffic >> ((class - 1) & 15) & 1 == 1;
    let holds = traffic.rules.iter().find(|rule| rule.min <= port && port <= rule.max && own(rule.class));
    // Without a branch, since the kernel's verifier walks each side of one.
    let unless_local = (tables.local(&key.addr) as u8 & 1).wrapping_sub(1);
    holds.map_or(0, |rule| rule.class & unless_local)
}

/// The link is up for this family and has an address of it: without one it has no way for it.
#[inline(always)]
#[must_use]
pub fn carries<A: Address>(link: &Link) -> bool {
    link.flags & A::LINK_UP != 0 && link.ifindex != 0 && !A::source(link).is_none()
}

/// The link carries the flow as it was pinned: what the stack translates cannot go past it. (The reverse may, after a change of mode.)
#[inline(always)]
#[must_use]
pub fn holds<A: Address>(link: &Link, flow: &FlowState) -> bool {
    carries::<A>(link) && (flow.flags & FLOW_MARK == 0 || link.flags & LINK_MARK != 0)
}

/// The link would carry the flow as it is: no NAT on either side, and the same way to it. (Whether the far end has the
/// same address there is not asked.)
#[inline(always)]
#[must_use]
pub fn takes_over<A: Address>(link: &Link, flow: &FlowState) -> bool {
    let stack = if flow.flags & FLOW_MARK != 0 { LINK_MARK } else { 0 };
    flow.flags & FLOW_NAT == 0 && carries::<A>(link) && link.flags & (LINK_NAT | LINK_MARK) == stack
}

/// Source addresses are translated to the link's by the kernel half, not by the stack.
#[inline(always)]
#[must_use]
pub const fn translates(link: &Link) -> bool {
    link.flags & (LINK_NAT | LINK_MARK) == LINK_NAT
}

/// Only packets for addresses of pods may belong to flows: the node's stack translates those of the link by its own memory.
#[inline(always)]
#[must_use]
pub const fn serves_pods_only(link: &Link) -> bool {
    link.flags & LINK_MARK != 0 && link.port_max == 0
}

/// The scopes of the entries that a packet of link `index` may belong to, the likelier one first: what the link translates
/// comes back to its own address, all else to the pods'.
#[inline(always)]
#[must_use]
pub const fn scopes(index: u8, link: &Link) -> [u32; 2] {
    let (own, any) = (REVERSE | index as u32, REVERSE | ANY_LINK);
    if link.flags & LINK_NAT != 0 { [own, any] } else { [any, own] }
}

/// Both entries of a connection that has ended: a FIN of both sides, or a RST of the pod. (A RST from outside may be forged; the
/// pod's socket judges it.)
#[inline(always)]
#[must_use]
pub const fn has_ended(forward: &FlowState, reverse: &FlowState) -> bool {
    forward.tcp_flags & reverse.tcp_flags & FIN != 0 || forward.tcp_flags & RST != 0
}

/// The reverse entry `reverse` under `key` is the other half of the forward entry under `forward`.
#[inline(always)]
#[must_use]
pub fn is_half_of<A: Address>(key: &FlowKey<A>, reverse: &Flow<A>, forward: &FlowKey<A>) -> bool {
    let back = key.paired(reverse);
    back.scope == forward.scope
        && back.sport_be == forward.sport_be
        && back.dport_be == forward.dport_be
        && back.saddr == forward.saddr
        && back.daddr == forward.daddr
}

/// The packet is the first one of a new connection on the tuple of an old flow, or of one that may still move.
#[inline(always)]
#[must_use]
pub fn reopens<A: Address>(segment: &Segment<A>, flow: &FlowState, stays: bool) -> bool {
    let class = segment.class();
    // A sender that once sent an ACK sends a bare SYN only for another connection.
    let used = flow.tcp_flags & (ACK | FIN | RST) != 0;
    let other = flow.flags & FLOW_BY_TRAFFIC == 0 && class != 0 && class != flow.class;
    segment.is_new && (used || !stays || other)
}

/// A flow of the stack has its lasting place with this packet of the pod, whose answers may pass nowhere here: TCP with
/// the first acknowledgment; datagrams when the pod has sent sixteen over a second, which no flood of new flows does; the
/// pod's quota bounds them.
#[inline(always)]
#[must_use]
pub fn proves_answer<A: Address>(segment: &Segment<A>, before: u8, flow: &FlowState) -> bool {
    if segment.proto == TCP {
        return segment.flags & !before & ACK != 0;
    }
    // Every sixteenth asks: most have their place already.
    flow.packets & 15 == 0 && flow.last_seen_ns.saturating_sub(flow.created_ns) >= LASTING_NS
}

/// See [`proves_answer`].
const LASTING_NS: u64 = 1_000_000_000;

/// The flow may stay on its link: that carries it, and the flow's mapping still has it.
#[inline(always)]
#[must_use]
pub fn stays<A: Address>(link: Option<&Link>, flow: &FlowState, slot: Slot) -> bool {
    link.is_some_and(|link| holds::<A>(link, flow)) && !slot.forbids(flow.link)
}

/// What becomes of a pinned flow's packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// On the link it is pinned to.
    Stay,
    /// On this link from now on.
    Move(u8),
    /// It cannot stay on its link and cannot move: answer with a RST, so that the pod dials again.
    Reset,
    /// Its link is down and there is nowhere to dial again: answer that the network is unreachable.
    Hold,
}

/// Decides about a packet of a pinned flow on `link`; `movable` = the slot's link for the flow's family would carry the
/// flow without translation.
#[inline(always)]
#[must_use]
pub fn disposition<A: Address>(
    flow: &FlowState,
    link: Option<&Link>,
    slot: Slot,
    movable: bool,
) -> Disposition {
    let next = A::link(&slot);
    let elsewhere = movable && next != flow.link;
    match (stays::<A>(link, flow, slot), elsewhere) {
        (true, true) if slot.flags & SLOT_FOLLOW != 0 => Disposition::Move(next),
        (true, _) => Disposition::Stay,
        (false, true) => Disposition::Move(next),
        (false, false) if waits::<A>(link, flow, slot) => Disposition::Hold,
        (false, false) => Disposition::Reset,
    }
}

/// The slot still names the link that just died, or has none and must not use the default route; and the flow's own may
/// come back.
#[inline(always)]
fn waits<A: Address>(link: Option<&Link>, flow: &FlowState, slot: Slot) -> bool {
    if slot.forbids(flow.link) {
        return false;
    }
    let died = link.is_some_and(|link| !carries::<A>(link)) && A::link(&slot) == flow.link;
    died || A::link(&slot) == NO_LINK && slot.flags & SLOT_REFUSE != 0
}

/// The address and port (network byte order) that the pod's destination has on a link: that of a peer, else as dialled.
#[inline(always)]
#[must_use]
pub fn far_end<A: Address, T: Tables>(tables: &T, dialled: &FlowKey<A>, link: u8) -> (A, u16) {
    match tables.peer(&peer_key(dialled, link)) {
        Some(peer) => (A::unmapped(peer.addr), peer.port_be),
        None => (dialled.daddr, dialled.dport_be),
    }
}

/// The slot's link for the flow's family would carry the flow as it is: no NAT on either side, the same way of forwarding,
/// the same far end. `dialled` is the key of the flow's forward entry, `flow` that entry.
#[inline(always)]
#[must_use]
pub fn movable<A: Address, T: Tables>(tables: &T, dialled: &FlowKey<A>, flow: &Flow<A>, slot: Slot) -> bool {
    let next = A::link(&slot);
    if flow.state.flags & FLOW_NAT != 0 || next == flow.state.link {
        return false;
    }
    tables.link(next).is_some_and(|link| takes_over::<A>(link, &flow.state))
        && far_end(tables, dialled, next) == (flow.daddr, flow.dport_be)
}

/// The key of `PEERS` for what the pod dialled.
#[inline(always)]
#[must_use]
pub fn peer_key<A: Address>(dialled: &FlowKey<A>, link: u8) -> PeerKey {
    PeerKey { addr: dialled.daddr.mapped(), port_be: dialled.dport_be, link, proto: dialled.proto as u8 }
}

/// Sets the addresses and the port of the destination after translation, with their checksum delta from `from`.
#[inline(always)]
pub fn translate<A: Address>(flow: &mut Flow<A>, from: &FlowKey<A>, saddr: A, daddr: A) {
    flow.addr_delta = delta(from.saddr.sum() + from.daddr.sum(), saddr.sum() + daddr.sum());
    flow.saddr = saddr;
    flow.daddr = daddr;
}

/// Sets the ports after translation, with their checksum delta from `from`.
#[inline(always)]
pub fn translate_ports<A>(flow: &mut Flow<A>, from: &FlowKey<A>, sport_be: u16, dport_be: u16) {
    flow.port_delta =
        delta(u32::from(from.sport_be) + u32::from(from.dport_be), u32::from(sport_be) + u32::from(dport_be));
    flow.sport_be = sport_be;
    flow.dport_be = dport_be;
}

/// The delta that takes `delta` back.
#[inline(always)]
#[must_use]
pub const fn undone(delta: u16) -> u16 {
    if delta == 0 { 0 } else { !delta }
}

/// The traffic class byte on the wire: the slot's DSCP, the packet's own ECN bits.
#[inline(always)]
#[must_use]
pub fn wire_tos(tos: u8, dscp: u8) -> u8 {
    dscp << 2 | tos & 3
}

/// The traffic class byte of a flow's packet on the wire: an application keeps its own where the slot asks for none.
#[inline(always)]
#[must_use]
pub fn flow_tos(flow: &FlowState, tos: u8, dscp: u8) -> u8 {
    if flow.flags & FLOW_BY_TRAFFIC != 0 && dscp == 0 { tos } else { wire_tos(tos, dscp) }
}

/// The DSCP that is asked for on the wire: the mapping's, else the link's; 0 for none.
#[inline(always)]
#[must_use]
pub const fn wire_dscp(slot: Slot, link: &Link) -> u8 {
    if slot.wire_dscp != 0 { slot.wire_dscp } else { link.wire_dscp }
}

/// The MSS that fits `mtu`, or `None` where `offered` fits already.
#[inline(always)]
#[must_use]
pub fn clamped_mss<A: Address>(offered: u16, mtu: u16) -> Option<u16> {
    let most = mtu.saturating_sub(A::HEADER as u16 + 20);
    (offered > most && most > 0).then_some(most)
}

/// One's complement sum of a byte string of even length.
#[inline(always)]
#[must_use]
pub fn sum_bytes(bytes: &[u8]) -> u16 {
    let (pairs, _) = bytes.as_chunks::<2>();
    fold(pairs.iter().map(|pair| u32::from(u16::from_ne_bytes(*pair))).sum())
}

#[cfg(test)]
mod tests;
