//! From a link back to the pod.

use clovisor_common::abi::{FLOW_MARK, Flow, FlowKey, Link, REVERSE, Reason};
use clovisor_common::packet::{FIN, Fragment, RST, Segment};
use clovisor_common::rule;

use crate::maps::Scratch;
use crate::packet::{DROP, PASS, Packet, verdict_at};
use crate::rewrite::Family;
use crate::segment::{READ, clamp_mss, read, record};
use crate::{fragment, icmp_error, maps, switches, unreplied};

/// A packet that came in by an uplink.
#[inline(never)]
pub(crate) fn ingress<A: Family>(packet: &mut Packet, l3: usize, index: u8, link: &Link) -> i32 {
    let (READ, Some(Scratch { segment, key, .. })) = (read::<A>(packet, l3), A::scratch()) else {
        return icmp_error::inbound::<A>(packet, l3, index);
    };
    let by_link = REVERSE | u32::from(index);
    if segment.fragment == Fragment::Later && !fragment::complete(segment, by_link) {
        return PASS;
    }
    *key = segment.key(by_link);
    let Some(flow) = found(key, rule::scopes(index, link), segment.flags & RST != 0) else {
        return PASS;
    };
    if segment.fragment == Fragment::First && !fragment::learn(segment, by_link) {
        return verdict_at(packet, l3, Reason::HelperFailed, DROP);
    }
    if clamp_mss(packet, segment, Some(link)).is_none() {
        return verdict_at(packet, l3, Reason::HelperFailed, DROP);
    }
    let verdict = if flow.state.flags & FLOW_MARK == 0 {
        hand_over(packet, segment, flow, l3, index)
    } else {
        note(packet, segment, flow, l3, index)
    };
    if segment.flags & FIN != 0 {
        let _ended = unreplied::end(key);
    }
    verdict
}

/// Translates a packet and gives it to its pod.
#[inline(always)]
pub(crate) fn hand_over<A: Family>(
    packet: &mut Packet,
    segment: &Segment<A>,
    flow: &mut Flow<A>,
    l3: usize,
    index: u8,
) -> i32 {
    let (packets, bytes) = packet.on_wire(l3, segment.headers());
    record(flow, segment, packets, bytes);
    let done = A::rewrite(packet, segment, flow, segment.tos, segment.ttl)
        .and_then(|()| packet.with_ethernet(l3, A::ETHER_BE));
    if switches::fail_rewrites() || done.is_none() {
        return verdict_at(packet, l3, Reason::HelperFailed, DROP);
    }
    maps::count(Reason::Returned, packets, bytes);
    maps::count_link(index, false, packets, bytes);
    packet.to_peer(flow.state.veth)
}

/// Counts a packet that the node's stack gives to its pod.
#[inline(always)]
pub(crate) fn note<A: Family>(
    packet: &Packet,
    segment: &Segment<A>,
    flow: &mut Flow<A>,
    l3: usize,
    index: u8,
) -> i32 {
    let (packets, bytes) = packet.on_wire(l3, segment.headers());
    record(flow, segment, packets, bytes);
    maps::count(Reason::Returned, packets, bytes);
    maps::count_link(index, false, packets, bytes);
    PASS
}

/// The packet's entry, in the scope of its link or of any; a reply moves an unreplied flow to the replied table.
#[inline(always)]
fn found<'a, A: Family>(key: &mut FlowKey<A>, scopes: [u32; 2], refused: bool) -> Option<&'a mut Flow<A>> {
    for scope in scopes {
        key.scope = scope;
        if let Some(flow) = maps::replied(key) {
            return Some(flow);
        }
    }
    for scope in scopes {
        key.scope = scope;
        if maps::unreplied(key).is_some() {
            // A connection that the far end refuses stays in the unreplied table.
            let kept = if refused { Reason::Passed as u32 } else { unreplied::promote(key) };
            if kept != Reason::Passed as u32 {
                maps::count_index(kept, 1, 0);
            }
            return maps::flow(key);
        }
    }
    // Another CPU may have moved the entry between the two lookups.
    for scope in scopes {
        key.scope = scope;
        if let Some(flow) = maps::replied(key) {
            return Some(flow);
        }
    }
    None
}
