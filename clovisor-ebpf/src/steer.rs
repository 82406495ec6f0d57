//! From a pod to its link.

use core::hint::black_box;

use clovisor_common::abi::{FLOW_NAT, FLOW_STACK, Flow, FlowKey, Link, MAX_CLASSES, Pod, Reason, Slot};
use clovisor_common::answer::{Answer, Complaint};
use clovisor_common::packet::{ACK, ETHERNET, Fragment, RST, SYN, Segment, Steady, TCP, offered_mss};
use clovisor_common::rule::{self, Course};

use crate::maps::{self, Place, Stage, Table};
use crate::packet::{DROP, PASS, Packet, jiffies, now, verdict};
use crate::wire::Wire;
use crate::{embryo, error, fragment, open};

/// All that a family needs on its way to a link.
pub(crate) trait Family: Steady + Answer + Table + Wire {}
impl<A: Steady + Answer + Table + Wire> Family for A {}

/// A packet that came out of a pod.
#[inline(always)]
pub(crate) fn steer<A: Family>(packet: &mut Packet, pod: &Pod) -> i32 {
    match outcome::<A>(packet, pod) {
        about @ (TOO_BIG | HELD) => complain::<A>(packet, about),
        unread @ UNREAD.. if unread <= UNREAD + i32::from(MAX_CLASSES) => {
            error::outbound::<A>(packet, (unread - UNREAD) as u8)
        }
        verdict => verdict,
    }
}

/// A verdict, or what is left to do with the stack that this took.
#[inline(never)]
fn outcome<A: Family>(packet: &mut Packet, pod: &Pod) -> i32 {
    let (class, Some(Place { segment, key, granted, slot, reason })) =
        (read::<A>(packet, ETHERNET), A::place())
    else {
        return verdict(packet, Reason::HelperFailed, DROP);
    };
    if class != READ {
        return UNREAD + class as i32;
    }
    if segment.fragment == Fragment::Later && !fragment::complete(segment, packet.ifindex()) {
        return if segment.class() == 0 { PASS } else { verdict(packet, Reason::Unsupported, PASS) };
    }
    *key = segment.key(packet.ifindex());
    // One way through all of this, so that the verifier walks it once: it knows no joins.
    let flow;
    (flow, *reason) = match known(segment, key) {
        Some(flow) => (flow, Reason::Steered),
        None => match open::first(packet, pod, segment, key, granted) {
            Ok(flow) => (flow, Reason::FlowOpened),
            Err(verdict) => return verdict,
        },
    };
    *slot = slot_of(flow);
    let slot = &*black_box(slot);
    let link = maps::link(flow.state.link);
    let outcome = match rule::course::<A>(&flow.state, link, *slot, movable(key, flow, *slot)) {
        Course::Reset => return reset(packet, segment, flow),
        Course::Hold => HELD,
        course => {
            if let Course::Move(to) = course {
                flow.state.link = to;
                if let Some(reverse) = maps::flow(&key.paired(flow)) {
                    reverse.state.link = to;
                }
                *reason = Reason::FlowMoved;
            }
            let reason = *black_box(reason);
            if clamp_mss(packet, segment, maps::link(flow.state.link)).is_none() {
                return verdict(packet, Reason::HelperFailed, DROP);
            }
            match flow.state.flags & FLOW_STACK {
                0 => send(packet, segment, flow, slot, reason),
                _ => mark(packet, segment, flow, slot, reason),
            }
        }
    };
    match outcome {
        ANSWERED => {
            // The far end's answer came by the stack.
            let kept = embryo::promote(&key.paired(flow));
            if kept != Reason::Passed as u32 {
                maps::count_index(kept, 1, 0);
            }
            PASS
        }
        outcome => outcome,
    }
}

/// What [`read`] returns for a packet that it could parse; else the class of one that it could not.
pub(crate) const READ: u32 = u32::MAX;

/// Parses a packet into this CPU's segment. A function of its own in the kernel too: what the verifier learned on the
/// way (protocol, fragment, header lengths) ends with it, else it would follow every combination of these through all
/// that comes after.
#[inline(never)]
pub(crate) fn read<A: Family>(packet: &Packet, l3: usize) -> u32 {
    // The compiler would hand over the packet's two ends instead, which the verifier does not know any more then.
    let packet = black_box(packet);
    match (A::parse(packet, l3), A::place()) {
        (Ok(segment), Some(place)) => {
            place.segment = segment;
            READ
        }
        (Err(unparsed), _) => u32::from(unparsed.class),
        (Ok(_), None) => 0,
    }
}

/// The flow of the packet, unless that begins another one with the same tuple.
#[inline(always)]
fn known<'a, A: Family>(segment: &Segment<A>, key: &FlowKey<A>) -> Option<&'a mut Flow<A>> {
    let flow = maps::flow(key)?;
    if !segment.opens {
        return Some(flow);
    }
    let stays = rule::stays::<A>(maps::link(flow.state.link), &flow.state, slot_of(flow));
    if !rule::reopens(segment, &flow.state, stays) {
        return Some(flow);
    }
    let paired = key.paired(flow);
    for stage in [Stage::Answered, Stage::Embryo] {
        maps::forget(stage, &paired);
        maps::forget(stage, key);
    }
    None
}

/// The slot by which the flow was opened, as it is now.
#[inline(always)]
pub(crate) fn slot_of<A>(flow: &Flow<A>) -> Slot {
    maps::slot(u32::from(flow.state.slot)).unwrap_or(Slot::NONE)
}

/// The slot's link would carry the flow as it is: no NAT on either side, and the same far end.
#[inline(always)]
fn movable<A: Family>(dialled: &FlowKey<A>, flow: &Flow<A>, slot: Slot) -> bool {
    if flow.state.flags & FLOW_NAT != 0 || slot.link == flow.state.link {
        return false;
    }
    maps::link(slot.link).is_some_and(|link| rule::takes_over::<A>(link, &flow.state))
        && open::far_end(dialled, slot.link) == (flow.daddr, flow.dport_be)
}

/// Not verdicts: the caller does the rest, with the stack that [`send`], [`mark`] or [`outcome`] used.
const TOO_BIG: i32 = i32::MIN;
const HELD: i32 = i32::MIN + 1;
const ANSWERED: i32 = i32::MIN + 2;
/// The same for a packet that could not be parsed: plus the class that it carries.
const UNREAD: i32 = i32::MIN + 3;

/// Sends a packet of a pinned flow on its link, if it is not too big for it.
#[inline(never)]
fn send<A: Family>(
    packet: &mut Packet,
    segment: &Segment<A>,
    flow: &mut Flow<A>,
    slot: &Slot,
    reason: Reason,
) -> i32 {
    let Some(link) = maps::link(flow.state.link) else {
        return verdict(packet, Reason::LinkDown, DROP);
    };
    if too_big(packet, segment, link) {
        return TOO_BIG;
    }
    if segment.hops <= 1 {
        return verdict(packet, Reason::HopsExceeded, DROP);
    }
    if segment.fragment == Fragment::First && !fragment::learn(segment, flow.state.veth) {
        return verdict(packet, Reason::HelperFailed, DROP);
    }
    carry(packet, segment, flow, slot, link, reason)
}

/// Translates a packet and puts it on the link.
#[inline(always)]
pub(crate) fn carry<A: Family>(
    packet: &mut Packet,
    segment: &Segment<A>,
    flow: &mut Flow<A>,
    slot: &Slot,
    link: &Link,
    reason: Reason,
) -> i32 {
    let (packets, bytes) = packet.on_wire(ETHERNET, segment.headers());
    record(flow, segment, packets, bytes);
    let (tos, hops) =
        (rule::flow_tos(&flow.state, segment.tos, rule::wire_dscp(*slot, link)), segment.hops - 1);
    if maps::refuses() || A::rewrite(packet, segment, flow, tos, hops).is_none() {
        return verdict(packet, Reason::HelperFailed, DROP);
    }
    maps::count(reason, packets, bytes);
    maps::count_link(flow.state.link, true, packets, bytes);
    packet.set_seen(true);
    A::send(packet, link.ifindex, A::gateway(link))
}

/// Marks a packet of a pinned flow for the stack, which forwards it by its link, cuts and translates it.
#[inline(never)]
fn mark<A: Family>(
    packet: &mut Packet,
    segment: &Segment<A>,
    flow: &mut Flow<A>,
    slot: &Slot,
    reason: Reason,
) -> i32 {
    let Some(link) = maps::link(flow.state.link) else {
        return verdict(packet, Reason::LinkDown, DROP);
    };
    if segment.fragment == Fragment::First && !fragment::learn(segment, flow.state.veth) {
        return verdict(packet, Reason::HelperFailed, DROP);
    }
    let (packets, bytes) = packet.on_wire(ETHERNET, segment.headers());
    let before = flow.state.tcp_flags;
    record(flow, segment, packets, bytes);
    let answered = rule::proves_answer(segment, before, &flow.state);
    let tos = rule::flow_tos(&flow.state, segment.tos, rule::wire_dscp(*slot, link));
    if A::set_tos(packet, segment, tos).is_none() {
        return verdict(packet, Reason::HelperFailed, DROP);
    }
    maps::count(reason, packets, bytes);
    maps::count_link(flow.state.link, true, packets, bytes);
    packet.set_mark(link);
    if answered { ANSWERED } else { PASS }
}

/// Notes a packet in its direction's entry.
#[inline(always)]
pub(crate) fn record<A>(flow: &mut Flow<A>, segment: &Segment<A>, packets: u64, bytes: u64) {
    let jiffies = jiffies();
    if flow.state.jiffies != jiffies || flow.state.last_seen_ns == 0 {
        flow.state.jiffies = jiffies;
        flow.state.last_seen_ns = now();
    }
    flow.state.packets += packets;
    flow.state.bytes += bytes;
    flow.state.tcp_flags |= segment.flags;
    if segment.flags & ACK != 0 {
        flow.state.ack_be = segment.ack_be;
    }
}

/// One of the IP packets that this one becomes on the wire is larger than the link takes.
#[inline(always)]
pub(crate) fn too_big<A: Family>(packet: &Packet, segment: &Segment<A>, link: &Link) -> bool {
    let largest = match packet.gso_size() {
        0 => packet.ip_len(ETHERNET),
        payload => payload + segment.headers(),
    };
    largest > u32::from(link.mtu)
}

/// Lowers the MSS of a SYN to what fits the link.
#[inline(always)]
pub(crate) fn clamp_mss<A: Family>(
    packet: &mut Packet,
    segment: &Segment<A>,
    link: Option<&Link>,
) -> Option<()> {
    let Some(mtu) = link.map(|link| link.mtu).filter(|_| segment.flags & SYN != 0) else {
        return Some(());
    };
    let l4 = segment.l4();
    let Some((at, offered)) = offered_mss(packet, l4, segment.l4_len) else {
        return Some(());
    };
    match rule::clamped_mss::<A>(offered, mtu) {
        Some(mss) => packet.set_half(l4, at, offered.to_be(), mss.to_be()),
        None => Some(()),
    }
}

/// Ends the sender's connection at once, so that it dials again and gets a link that is up.
#[inline(never)]
fn reset<A: Family>(packet: &mut Packet, segment: &Segment<A>, flow: &mut Flow<A>) -> i32 {
    let payload = packet.ip_len(ETHERNET).saturating_sub(segment.headers());
    if segment.flags & RST != 0 || segment.proto != TCP || segment.fragment == Fragment::Later {
        return verdict(packet, Reason::LinkDown, DROP);
    }
    let Some(frame) = maps::answer() else {
        return verdict(packet, Reason::HelperFailed, DROP);
    };
    let Some(len) = A::reset(packet, segment, payload, frame) else {
        return verdict(packet, Reason::LinkDown, DROP);
    };
    flow.state.tcp_flags |= RST;
    let answered = verdict(packet, Reason::FlowReset, DROP);
    match packet.replace(frame, len) {
        Some(()) => packet.to_peer(flow.state.veth),
        None => answered,
    }
}

/// Answers that the packet is too big for its link ([`TOO_BIG`]), or that there is no link now ([`HELD`]).
#[inline(never)]
fn complain<A: Family>(packet: &mut Packet, about: i32) -> i32 {
    let place = A::place().and_then(|place| Some((&place.segment, maps::flow(&place.key)?, place.reason)));
    let Some((segment, flow, reason)) = place else {
        return verdict(packet, Reason::HelperFailed, DROP);
    };
    if reason == Reason::FlowMoved {
        // The packet is answered, and counted as such; the flow has moved all the same.
        maps::count(Reason::FlowMoved, 1, 0);
    }
    let (reason, complaint) = if about == HELD {
        (Reason::FlowHeld, Complaint::Unreachable)
    } else {
        let mtu = maps::link(flow.state.link).map_or(0, |link| link.mtu.into());
        (Reason::MtuExceeded, Complaint::TooBig(mtu))
    };
    let dropped = verdict(packet, reason, DROP);
    if segment.fragment == Fragment::Later {
        // The first one was answered.
        return dropped;
    }
    let answered = maps::answer().and_then(|frame| {
        A::complain(packet, segment, complaint, frame).and_then(|len| packet.replace(frame, len))
    });
    if answered.is_some() { packet.to_peer(flow.state.veth) } else { dropped }
}
