//! The first packet of a flow: admission, translation, reservation.

use core::hint::black_box;

use clovisor_common::abi::{
    FLOW_AS_IS, FLOW_BY_TRAFFIC, FLOW_ENDED, FLOW_MARK, FLOW_NAT, FLOW_REVERSE, Flow, FlowKey, LINK_MARK,
    LINK_NAT, Link, Pod, Reason,
};
use clovisor_common::packet::{ETHERNET, Segment, UDP};
use clovisor_common::rule::packed::DenialBits;
use clovisor_common::rule::ports::{PORT_TRIES, other_place, own_place};
use clovisor_common::rule::{self, Denial, Grant};

use crate::maps::{self, NewFlow, Refused, Stage};
use crate::packet::{DROP, PASS, Packet, now, random, verdict};
use crate::rewrite::Family;
use crate::tables::Maps;
use crate::{exchange, switches, unreplied};

/// Opens the flow of a packet without one if the rule grants it, else counts the denial and returns the verdict.
/// `granted` keeps the grant meanwhile.
#[inline(always)]
pub(crate) fn open<'a, A: Family>(
    packet: &mut Packet,
    pod: &Pod,
    segment: &Segment<A>,
    key: &FlowKey<A>,
    granted: &mut u64,
) -> Result<&'a mut Flow<A>, i32> {
    *granted = admit(packet, pod, segment);
    let outcome = match *black_box(granted) {
        granted if !Grant::is_grant(granted) => granted as u32,
        _ if !unreplied::may_open(packet.ifindex()) => Denial::drop(Reason::OpensLimited).to_bits(),
        granted if prepare(key, granted, pod.zone) => insert(key, granted),
        _ => Denial::drop(Reason::HelperFailed).to_bits(),
    };
    if outcome == Reason::FlowOpened as u32 {
        return maps::unreplied(key)
            .or_else(|| maps::replied(key))
            .ok_or_else(|| verdict(packet, Reason::HelperFailed, DROP));
    }
    if outcome == Reason::Passed as u32 {
        return Err(PASS);
    }
    let denial = DenialBits::from_bits(outcome);
    maps::count_index(denial.reason(), 1, u64::from(packet.ip_len(ETHERNET)));
    if denial.drops() {
        return Err(DROP);
    }
    // The stack carries it. Whoever answers has not begun, then.
    if segment.proto == UDP && (denial.unmarks() || denial.reason() == Reason::Answer as u32) {
        let _noted = exchange::note(key, 1);
    }
    // The DSCP of an application is not Clovisor's to clear.
    let ours = denial.unmarks() && segment.class() != 0 && packet.socket_uid() == pod.proxy_uid;
    if ours && A::set_tos(packet, segment, rule::wire_tos(segment.tos, 0)).is_none() {
        return Err(verdict(packet, Reason::HelperFailed, DROP));
    }
    Err(PASS)
}

// The steps below are BPF functions of their own, so that each has its own stack frame (512 bytes a call chain). A BPF
// function returns a number only.

/// A [`Grant`] or a [`Denial`] as a number.
#[inline(never)]
fn admit<A: Family>(packet: &Packet, pod: &Pod, segment: &Segment<A>) -> u64 {
    match rule::admit(&Maps, pod, packet.ifindex(), segment, || packet.socket_uid()) {
        Ok(grant) => grant.to_bits(),
        Err(denial) => u64::from(denial.to_bits()),
    }
}

/// Inserts both prepared entries; returns `FlowOpened` or a denial.
#[inline(never)]
fn insert<A: Family>(key: &FlowKey<A>, granted: u64) -> u32 {
    let grant = Grant::from_bits(granted);
    match write_pair(key, &grant) {
        Ok(()) => Reason::FlowOpened as u32,
        Err(reason) => Denial::of_slot(reason, grant.slot).to_bits(),
    }
}

/// The reverse entry first: it reserves the source port.
#[inline(always)]
fn write_pair<A: Family>(key: &FlowKey<A>, grant: &Grant) -> Result<(), Reason> {
    let link = maps::link(grant.link).ok_or(Reason::NoLinkDefault)?;
    let draft = A::new_flow().ok_or(Reason::HelperFailed)?;
    reserve_port(draft, key, link)?;
    match maps::reserve(Stage::Unreplied, key, &draft.forward) {
        Ok(()) => Ok(()),
        Err(refused) => {
            maps::forget(Stage::Unreplied, &draft.reverse_key);
            // Taken: another CPU opened the same flow at the same time; its entry holds.
            if matches!(refused, Refused::Taken) { Ok(()) } else { Err(Reason::FlowTableFull) }
        }
    }
}

/// Prepares both entries without the source port; false if there is no scratch space. (It returns a value because the
/// verifier checks the return register of a BPF function.)
#[inline(never)]
fn prepare<A: Family>(key: &FlowKey<A>, granted: u64, zone: u16) -> bool {
    let grant = Grant::from_bits(granted);
    let (Some(link), Some(NewFlow { forward, reverse, reverse_key, .. })) =
        (maps::link(grant.link), A::new_flow())
    else {
        return false;
    };
    let nat = rule::translates(link);
    let pinned = if link.flags & LINK_NAT != 0 { FLOW_NAT } else { 0 };
    let stack = if link.flags & LINK_MARK != 0 { FLOW_MARK } else { 0 };
    // Packet counters are zero in the prepared entries: nothing writes them there.
    forward.state.created_ns = now();
    forward.state.veth = key.scope;
    forward.state.slot = grant.index;
    forward.state.link = grant.link;
    forward.state.class = grant.class;
    forward.state.zone = zone;
    forward.state.flags = pinned | stack | if grant.by_traffic { FLOW_BY_TRAFFIC } else { 0 };
    reverse.state = forward.state;
    reverse.state.flags |= FLOW_REVERSE;
    let (daddr, dport_be) = rule::far_end(&Maps, key, grant.link);
    if pinned | stack == 0 && daddr == key.daddr && dport_be == key.dport_be {
        forward.state.flags |= FLOW_AS_IS;
        reverse.state.flags |= FLOW_AS_IS;
    }
    rule::translate(forward, key, if nat { A::source(link) } else { key.saddr }, daddr);
    rule::translate_ports(forward, key, key.sport_be, dport_be);
    *reverse_key = key.paired(forward);
    reverse.saddr = key.daddr;
    reverse.daddr = key.saddr;
    reverse.sport_be = key.dport_be;
    reverse.dport_be = key.sport_be;
    reverse.addr_delta = rule::undone(forward.addr_delta);
    true
}

/// Inserts the reverse entry under the first free source port, else under that of the connection that ended first among those that
/// were tried; leaves the port in the forward entry.
#[inline(always)]
fn reserve_port<A: Family>(draft: &mut NewFlow<A>, key: &FlowKey<A>, link: &Link) -> Result<(), Reason> {
    let ports = rule::ports::source_ports(key.sport_be, link);
    let index = draft.forward.state.link;
    draft.place = own_place(switches::port_secret(), key.saddr, key.sport_be, index);
    // Where that was taken, the far end remembers the tuple by another one.
    if let Some(port_be) = draft.port_before(index) {
        draft.place = ports.place_of(port_be);
    }
    let own = *black_box(&mut draft.place);
    let mut place = own;
    let random = random();
    let (mut oldest_ns, mut oldest_be) = (u64::MAX, 0);
    for n in 0..PORT_TRIES {
        let sport_be = ports.at(place);
        match reserve(draft, key, sport_be) {
            Ok(()) => return Ok(()),
            Err(Refused::Full) => return Err(Reason::FlowTableFull),
            Err(Refused::Taken) => {
                let ended_ns = ended_ns(&draft.reverse_key);
                if ended_ns < oldest_ns {
                    (oldest_ns, oldest_be) = (ended_ns, sport_be);
                }
            }
        }
        place = other_place(own, random, n);
    }
    if oldest_be == 0 {
        return Err(Reason::PortsExhausted);
    }
    draft.reverse_key.dport_be = oldest_be;
    unreplied::displace(&draft.reverse_key);
    reserve(draft, key, oldest_be).map_err(|_| Reason::PortsExhausted)
}

/// Inserts the reverse entry under a source port. Ports of replied flows are taken too.
#[inline(always)]
fn reserve<A: Family>(draft: &mut NewFlow<A>, key: &FlowKey<A>, sport_be: u16) -> Result<(), Refused> {
    let NewFlow { forward, reverse, reverse_key, .. } = draft;
    rule::translate_ports(forward, key, sport_be, forward.dport_be);
    reverse.port_delta = rule::undone(forward.port_delta);
    reverse_key.dport_be = sport_be;
    maps::reserve(Stage::Unreplied, reverse_key, reverse)?;
    if maps::replied(reverse_key).is_none() {
        return Ok(());
    }
    maps::forget(Stage::Unreplied, reverse_key);
    Err(Refused::Taken)
}

/// When the connection of a reverse entry was last seen, if it has ended; else the end of time.
#[inline(always)]
fn ended_ns<A: Family>(key: &FlowKey<A>) -> u64 {
    match maps::unreplied(key) {
        Some(flow) if flow.state.flags & FLOW_ENDED != 0 => flow.state.last_seen_ns,
        _ => u64::MAX,
    }
}
