//! From a pod to its link.

use core::hint::black_box;

use clovisor_common::abi::{FLOW_MARK, Flow, FlowKey, Link, Pod, Reason, Slot};
use clovisor_common::packet::{ETHERNET, FIN, Fragment, RST, Segment, TCP};
use clovisor_common::reply::IcmpError;
use clovisor_common::rule::packed::Outcome;
use clovisor_common::rule::{self, Disposition};

use crate::maps::{self, Scratch};
use crate::packet::{DROP, PASS, Packet, verdict};
use crate::rewrite::Family;
use crate::segment::{READ, clamp_mss, read, record};
use crate::tables::Maps;
use crate::{fragment, icmp_error, new_flow, switches, unreplied};

/// A packet that came out of a pod.
#[inline(always)]
pub(crate) fn egress<A: Family>(packet: &mut Packet, pod: &Pod) -> i32 {
    let outcome = outcome::<A>(packet, pod);
    // Here, since the frame of `outcome` has no room for what that needs. A packet that was not parsed leaves the one before in the
    // scratch space, whose connection has ended by then or not.
    if let Some(Scratch { segment, key, .. }) = A::scratch()
        && segment.flags & (FIN | RST) != 0
    {
        let _ended = unreplied::end(key);
    }
    match Outcome::from_i32(outcome) {
        Outcome::TooBig => icmp_error::<A>(packet, false),
        Outcome::Held => icmp_error::<A>(packet, true),
        Outcome::Unparsed(class) => icmp_error::outbound::<A>(packet, class),
        Outcome::Verdict(verdict) => verdict,
        Outcome::Replied => PASS,
    }
}

/// The verdict, or work for the caller, as [`Outcome::to_i32`].
#[inline(never)]
fn outcome<A: Family>(packet: &mut Packet, pod: &Pod) -> i32 {
    let (class, Some(Scratch { segment, key, granted, slot, reason })) =
        (read::<A>(packet, ETHERNET), A::scratch())
    else {
        return verdict(packet, Reason::HelperFailed, DROP);
    };
    if class != READ {
        return Outcome::Unparsed(class as u8).to_i32();
    }
    if segment.fragment == Fragment::Later && !fragment::complete(segment, packet.ifindex()) {
        return if segment.class() == 0 { PASS } else { verdict(packet, Reason::Unsupported, PASS) };
    }
    *key = segment.key(packet.ifindex());
    // Branches are merged here: the verifier explores each path through them separately.
    let flow;
    (flow, *reason) = match known(segment, key) {
        Some(flow) => (flow, Reason::Steered),
        None => match new_flow::open(packet, pod, segment, key, granted) {
            Ok(flow) => (flow, Reason::FlowOpened),
            Err(verdict) => return verdict,
        },
    };
    *slot = maps::slot_of_flow(flow);
    let slot = &*black_box(slot);
    let link = maps::link(flow.state.link);
    let outcome =
        match rule::disposition::<A>(&flow.state, link, *slot, rule::movable(&Maps, key, flow, *slot)) {
            Disposition::Reset => return reset(packet, segment, flow),
            Disposition::Hold => Outcome::Held.to_i32(),
            course => {
                if let Disposition::Move(to) = course {
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
                match flow.state.flags & FLOW_MARK {
                    0 => send(packet, segment, flow, slot, reason),
                    _ => mark(packet, segment, flow, slot, reason),
                }
            }
        };
    if outcome != Outcome::Replied.to_i32() {
        return outcome;
    }
    // The node's stack forwarded the reply, so that no program has seen it.
    let kept = unreplied::promote(&key.paired(flow));
    if kept != Reason::Passed as u32 {
        maps::count_index(kept, 1, 0);
    }
    PASS
}

/// The flow of the packet, unless the packet opens a new connection with the same tuple.
#[inline(always)]
fn known<'a, A: Family>(segment: &Segment<A>, key: &FlowKey<A>) -> Option<&'a mut Flow<A>> {
    let Some(flow) = maps::flow(key) else {
        A::new_flow()?.keep_port(None);
        return None;
    };
    if !segment.is_new {
        return Some(flow);
    }
    let stays = rule::stays::<A>(maps::link(flow.state.link), &flow.state, maps::slot_of_flow(flow));
    if !rule::reopens(segment, &flow.state, stays) {
        return Some(flow);
    }
    A::new_flow()?.keep_port(Some(flow));
    unreplied::forget(key, flow);
    None
}

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
        return Outcome::TooBig.to_i32();
    }
    if segment.ttl <= 1 {
        return verdict(packet, Reason::TtlExceeded, DROP);
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
    let (tos, ttl) =
        (rule::flow_tos(&flow.state, segment.tos, rule::wire_dscp(*slot, link)), segment.ttl - 1);
    if switches::fail_rewrites() || A::rewrite(packet, segment, flow, tos, ttl).is_none() {
        return verdict(packet, Reason::HelperFailed, DROP);
    }
    maps::count(reason, packets, bytes);
    maps::count_link(flow.state.link, true, packets, bytes);
    packet.set_seen(true);
    A::send(packet, link.ifindex, A::gateway(link))
}

/// Marks a packet of a pinned flow: the node's stack forwards it by the link's rule, fragments and translates it.
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
    let before = flow.state.tcp_flags;
    let verdict = stamp(packet, segment, flow, slot, link, reason);
    if verdict == PASS && rule::proves_answer(segment, before, &flow.state) {
        return Outcome::Replied.to_i32();
    }
    verdict
}

/// Sets class and mark of a packet.
#[inline(always)]
pub(crate) fn stamp<A: Family>(
    packet: &mut Packet,
    segment: &Segment<A>,
    flow: &mut Flow<A>,
    slot: &Slot,
    link: &Link,
    reason: Reason,
) -> i32 {
    let (packets, bytes) = packet.on_wire(ETHERNET, segment.headers());
    record(flow, segment, packets, bytes);
    let tos = rule::flow_tos(&flow.state, segment.tos, rule::wire_dscp(*slot, link));
    if A::set_tos(packet, segment, tos).is_none() {
        return verdict(packet, Reason::HelperFailed, DROP);
    }
    maps::count(reason, packets, bytes);
    maps::count_link(flow.state.link, true, packets, bytes);
    packet.set_mark(link);
    PASS
}

/// The packet, or a segment that GSO will make of it, exceeds the link's MTU.
#[inline(always)]
pub(crate) fn too_big<A: Family>(packet: &Packet, segment: &Segment<A>, link: &Link) -> bool {
    let largest = match packet.gso_size() {
        0 => packet.ip_len(ETHERNET),
        payload => payload + segment.headers(),
    };
    largest > u32::from(link.mtu)
}

/// Resets the sender's connection, so that its application reconnects by a link that is up.
#[inline(never)]
fn reset<A: Family>(packet: &mut Packet, segment: &Segment<A>, flow: &mut Flow<A>) -> i32 {
    let payload = packet.ip_len(ETHERNET).saturating_sub(segment.headers());
    if segment.flags & RST != 0 || segment.proto != TCP || segment.fragment == Fragment::Later {
        return verdict(packet, Reason::LinkDown, DROP);
    }
    let Some(frame) = maps::reply() else {
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

/// Answers with ICMP "too big" or, if `held`, "unreachable".
#[inline(never)]
fn icmp_error<A: Family>(packet: &mut Packet, held: bool) -> i32 {
    let scratch =
        A::scratch().and_then(|scratch| Some((&scratch.segment, maps::flow(&scratch.key)?, scratch.reason)));
    let Some((segment, flow, reason)) = scratch else {
        return verdict(packet, Reason::HelperFailed, DROP);
    };
    if reason == Reason::FlowMoved {
        // The packet is counted as answered; the move is counted besides.
        maps::count(Reason::FlowMoved, 1, 0);
    }
    let (reason, error) = if held {
        (Reason::FlowHeld, IcmpError::Unreachable)
    } else {
        let mtu = maps::link(flow.state.link).map_or(0, |link| link.mtu.into());
        (Reason::MtuExceeded, IcmpError::TooBig(mtu))
    };
    let dropped = verdict(packet, reason, DROP);
    if segment.fragment == Fragment::Later {
        // The first fragment was answered.
        return dropped;
    }
    let answered = maps::reply().and_then(|frame| {
        A::icmp_error(packet, segment, error, frame).and_then(|len| packet.replace(frame, len))
    });
    if answered.is_some() { packet.to_peer(flow.state.veth) } else { dropped }
}
