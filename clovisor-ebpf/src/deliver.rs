//! From a link back to the pod.

use clovisor_common::abi::{ANY_LINK, FLOW_STACK, Flow, FlowKey, Link, REVERSE, Reason};
use clovisor_common::packet::{Fragment, RST};

use crate::packet::{DROP, PASS, Packet, verdict};
use crate::steer::{Family, READ, clamp_mss, read, record};
use crate::{embryo, error, fragment, maps};

/// A packet that came in by an uplink.
#[inline(never)]
pub(crate) fn deliver<A: Family>(packet: &mut Packet, l3: usize, index: u8, link: &Link) -> i32 {
    let (READ, Some(segment)) = (read::<A>(packet, l3), A::segment()) else {
        return error::inbound::<A>(packet, l3, index);
    };
    let by_link = REVERSE | u16::from(index);
    if segment.fragment == Fragment::Later && !fragment::complete(segment, by_link) {
        return PASS;
    }
    let mut key = segment.key(by_link);
    let Some(flow) = answered(&mut key, by_link, segment.flags & RST != 0) else {
        return PASS;
    };
    if segment.fragment == Fragment::First && !fragment::learn(segment, by_link) {
        return verdict(packet, Reason::HelperFailed, DROP);
    }
    let (packets, bytes) = packet.on_wire(l3, segment.headers());
    record(flow, segment, packets, bytes);
    if flow.state.flags & FLOW_STACK != 0 {
        maps::count(Reason::Returned, packets, bytes);
        maps::count_link(index, false, packets, bytes);
        return PASS;
    }
    let done = clamp_mss(packet, segment, link.mtu)
        .and_then(|()| A::rewrite(packet, segment, flow, segment.tos, segment.hops));
    if done.is_none() {
        return verdict(packet, Reason::HelperFailed, DROP);
    }
    maps::count(Reason::Returned, packets, bytes);
    maps::count_link(index, false, packets, bytes);
    packet.to_peer(flow.state.veth)
}

/// The entry that a packet belongs to, under the link's number or any; with an answer the flow is no embryo any more.
#[inline(always)]
fn answered<'a, A: Family>(key: &mut FlowKey<A>, by_link: u16, refused: bool) -> Option<&'a mut Flow<A>> {
    let zones = [by_link, REVERSE | ANY_LINK];
    for zone in zones {
        key.zone = zone;
        if let Some(flow) = maps::answered(key) {
            return Some(flow);
        }
    }
    for zone in zones {
        key.zone = zone;
        if maps::embryo(key).is_some() {
            // What the far end refuses needs no lasting place.
            let kept = if refused { Reason::Passed as u32 } else { embryo::promote(key) };
            if kept != Reason::Passed as u32 {
                maps::count_index(kept, 1, 0);
            }
            return maps::flow(key);
        }
    }
    // Another CPU may have moved it between the two looks.
    for zone in zones {
        key.zone = zone;
        if let Some(flow) = maps::answered(key) {
            return Some(flow);
        }
    }
    None
}
