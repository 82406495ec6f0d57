//! The segment of a packet: parsed into this CPU's scratch space, its MSS clamped, counted in its flow.

use core::hint::black_box;

use clovisor_common::abi::{Flow, Link};
use clovisor_common::packet::{ACK, SYN, Segment, offered_mss};
use clovisor_common::rule;

use crate::packet::{Packet, jiffies, now};
use crate::rewrite::Family;

/// What [`read`] returns for a packet that it could parse; else the class of one that it could not.
pub(crate) const READ: u32 = u32::MAX;

/// Parses a packet into this CPU's segment. A function of its own in the kernel too: what the verifier learned on the
/// way (protocol, fragment, header lengths) ends with it, else it would follow every combination of these through all
/// that comes after.
#[inline(never)]
pub(crate) fn read<A: Family>(packet: &Packet, l3: usize) -> u32 {
    // The compiler would hand over the packet's two ends instead, which the verifier does not know any more then.
    let packet = black_box(packet);
    match (A::parse(packet, l3), A::scratch()) {
        (Ok(segment), Some(scratch)) => {
            scratch.segment = segment;
            READ
        }
        (Err(unparsed), _) => u32::from(unparsed.class),
        (Ok(_), None) => 0,
    }
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
