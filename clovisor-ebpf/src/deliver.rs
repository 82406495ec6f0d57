//! From a link back to the pod.

use clovisor_common::abi::{ANY_LINK, Link, REVERSE, Reason};

use crate::maps;
use crate::packet::{DROP, PASS, Packet, verdict};
use crate::steer::{Family, clamp_mss, record};

/// A packet that came in by an uplink.
#[inline(never)]
pub(crate) fn deliver<A: Family>(packet: &mut Packet, l3: usize, index: u8, link: &Link) -> i32 {
    let Ok(segment) = A::parse(packet, l3) else {
        return PASS;
    };
    let mut key = segment.key(REVERSE | u16::from(index));
    let mut found = maps::flow(&key);
    if found.is_none() {
        key.zone = REVERSE | ANY_LINK;
        found = maps::flow(&key);
    }
    let Some(flow) = found else {
        return PASS;
    };
    let (packets, bytes) = packet.on_wire(l3, A::HEADER as u32 + u32::from(segment.l4_len));
    record(flow, segment.flags, packets, bytes);
    let done = clamp_mss(packet, &segment, link.mtu)
        .and_then(|()| A::rewrite(packet, &segment, flow, segment.tos, segment.hops));
    if done.is_none() {
        return verdict(packet, Reason::HelperFailed, DROP);
    }
    maps::count(Reason::Returned, packets, bytes);
    maps::count_link(index, false, packets, bytes);
    packet.to_peer(flow.state.veth)
}
