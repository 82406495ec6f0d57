//! The fast path for packets in the middle of a flow, which most are.
//!
//! It decides nothing by itself: what it does with a packet, [`crate::egress`] and [`crate::ingress`] would do with it too,
//! by the same functions. It leaves to them, untouched, every packet that it does not know to stay on its way.
//!
//! All of it is part of the programs themselves: where the kernel guards returns against speculation, as on many AMD
//! processors, each function is dear.

use clovisor_common::abi::{FLOW_MARK, Link, Reason};
use clovisor_common::packet::{Bytes as _, ETHERNET, TCP, UDP};
use clovisor_common::rule::{self, Disposition};

use crate::egress::{carry, too_big};
use crate::ingress::hand_over;
use crate::maps;
use crate::packet::Packet;
use crate::rewrite::Family;
use crate::switches;

/// A packet of a pod, for the link that it is on and stays on.
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
    // Who sends datagrams without being answered keeps on doing so.
    let flow = maps::replied(&key).or_else(|| if PROTO == UDP { maps::unreplied(&key) } else { None })?;
    let slot = maps::slot(u32::from(flow.state.slot))?;
    let link = maps::link(flow.state.link)?;
    // Whether it could move is looked up where it may matter.
    let movable = slot.link != flow.state.link;
    if !matches!(rule::disposition::<A>(&flow.state, Some(link), slot, movable), Disposition::Stay)
        || flow.state.flags & FLOW_MARK != 0
        || rule::reopens(segment, &flow.state, true)
        || segment.ttl <= 1
        || too_big(packet, segment, link)
    {
        return None;
    }
    Some(carry(packet, segment, flow, &slot, link, Reason::Steered))
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
    if flow.state.flags & FLOW_MARK != 0 {
        return None;
    }
    Some(hand_over(packet, segment, flow, l3, index))
}
