//! The fast path, for packets in the middle of a flow.
//!
//! A packet that the fast path handles is handled by the same functions as in [`crate::egress`] and [`crate::ingress`], with the
//! same result. Every other packet is left to the slow path, unchanged.
//!
//! All functions are inlined into the programs: where the kernel guards returns against speculation, as on many AMD
//! processors, each call is expensive.

use clovisor_common::abi::{FLOW_MARK, Link, Reason};
use clovisor_common::packet::{Bytes as _, ETHERNET, TCP, UDP};
use clovisor_common::rule::{self, Disposition};

use crate::egress::{carry, stamp, too_big};
use crate::ingress::{hand_over, note};
use crate::maps;
use crate::packet::Packet;
use crate::rewrite::Family;
use crate::switches;

/// A packet of a pod whose flow stays on its link.
#[inline(always)]
pub(crate) fn out<A: Family>(packet: &mut Packet) -> Option<i32> {
    if !switches::fast_path() {
        return None;
    }
    match packet.byte(ETHERNET + A::PROTO_AT) {
        Some(TCP) => out_of::<TCP, A>(packet),
        Some(UDP) => out_of::<UDP, A>(packet),
        _ => None,
    }
}

/// A packet that came in by an uplink.
#[inline(always)]
pub(crate) fn back<A: Family>(packet: &mut Packet, l3: usize, index: u8, link: &Link) -> Option<i32> {
    if !switches::fast_path() {
        return None;
    }
    match packet.byte(l3 + A::PROTO_AT) {
        Some(TCP) => back_of::<TCP, A>(packet, l3, index, link),
        Some(UDP) => back_of::<UDP, A>(packet, l3, index, link),
        _ => None,
    }
}

#[inline(always)]
fn out_of<const PROTO: u8, A: Family>(packet: &mut Packet) -> Option<i32> {
    let segment = &A::parse_fast::<PROTO, _>(packet, ETHERNET)?;
    let key = segment.key(packet.ifindex());
    // A sender of datagrams without replies (syslog, telemetry) stays in the unreplied table. In mode Mark the slow path asks whether
    // it has earned its place among the replied ones.
    let flow = match maps::replied(&key) {
        Some(flow) => flow,
        None if PROTO == UDP => maps::unreplied(&key).filter(|flow| flow.state.flags & FLOW_MARK == 0)?,
        None => return None,
    };
    let slot = maps::slot(u32::from(flow.state.slot))?;
    let link = maps::link(flow.state.link)?;
    // An upper bound: whether the flow can move is looked up by the slow path.
    let movable = A::link(&slot) != flow.state.link;
    if !matches!(rule::disposition::<A>(&flow.state, Some(link), slot, movable), Disposition::Stay)
        || rule::reopens(segment, &flow.state, true)
        || segment.ttl <= 1
        || too_big(packet, segment, link)
    {
        return None;
    }
    Some(if flow.state.flags & FLOW_MARK == 0 {
        carry(packet, segment, flow, &slot, link, Reason::Steered)
    } else {
        packet.set_seen(false);
        stamp(packet, segment, flow, &slot, link, Reason::Steered)
    })
}

#[inline(always)]
fn back_of<const PROTO: u8, A: Family>(
    packet: &mut Packet,
    l3: usize,
    index: u8,
    link: &Link,
) -> Option<i32> {
    let segment = &A::parse_fast::<PROTO, _>(packet, l3)?;
    let [likely, _] = rule::scopes(index, link);
    let flow = maps::replied(&segment.key(likely))?;
    Some(if flow.state.flags & FLOW_MARK == 0 {
        hand_over(packet, segment, flow, l3, index)
    } else {
        note(packet, segment, flow, l3, index)
    })
}
