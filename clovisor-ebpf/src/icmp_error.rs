//! ICMP errors about packets of flows: outer and quoted addresses and ports are translated together (RFC 5508, 4).
//!
//! A pod behind NAT learns the path MTU beyond the link by them.

use clovisor_common::abi::{FLOW_MARK, FlowKey, Reason};
use clovisor_common::packet::{ETHERNET, Quoted};
use clovisor_common::rule;

use crate::maps::{self, Scratch};
use crate::packet::{DROP, PASS, Packet, verdict, verdict_at};
use crate::rewrite::Family;

/// An error that came in by an uplink, for the pod whose packet it quotes.
#[inline(never)]
pub(crate) fn inbound<A: Family>(packet: &mut Packet, l3: usize, index: u8) -> i32 {
    let Some(quoted) = Quoted::<A>::parse(packet, l3) else {
        return PASS;
    };
    // The key is in the scratch space: the BPF stack has no room for it here.
    let (Some(Scratch { key, .. }), Some(link)) = (A::scratch(), maps::link(index)) else {
        return PASS;
    };
    let [likely, other] = rule::scopes(index, link);
    *key = quoted.key(likely);
    let mut found = maps::flow(key);
    if found.is_none() {
        key.scope = other;
        found = maps::flow(key);
    }
    let Some(flow) = found else {
        return PASS;
    };
    if quoted.daddr != key.daddr || flow.state.flags & FLOW_MARK != 0 {
        return PASS;
    }
    let bytes = u64::from(packet.ip_len(l3));
    // An error from a router keeps its source; one from the peer gets the address that the pod dialled.
    let saddr = if quoted.saddr == key.saddr { flow.saddr } else { quoted.saddr };
    let done = A::rewrite_error(packet, &quoted, flow, saddr, quoted.tos, quoted.ttl)
        .and_then(|()| packet.with_ethernet(l3, A::ETHER_BE));
    if done.is_none() {
        return verdict_at(packet, l3, Reason::HelperFailed, DROP);
    }
    maps::count(Reason::ErrorTranslated, 1, bytes);
    maps::count_link(index, false, 1, bytes);
    packet.to_peer(flow.state.veth)
}

/// An error of a pod about a packet of a flow, for the sender of that packet.
#[inline(never)]
pub(crate) fn outbound<A: Family>(packet: &mut Packet, class: u8) -> i32 {
    let unknown = if class == 0 { Reason::Passed } else { Reason::Unsupported };
    let Some(quoted) = Quoted::<A>::parse(packet, ETHERNET) else {
        return pass(packet, unknown);
    };
    let key: FlowKey<A> = quoted.key(packet.ifindex());
    let Some(flow) = maps::flow(&key) else {
        return pass(packet, unknown);
    };
    if quoted.saddr != key.saddr || quoted.daddr != key.daddr {
        return pass(packet, unknown);
    }
    let slot = maps::slot_of_flow(flow);
    let link = match maps::link(flow.state.link) {
        Some(link) if rule::stays::<A>(Some(link), &flow.state, slot) => link,
        _ => return verdict(packet, Reason::LinkDown, DROP),
    };
    if flow.state.flags & FLOW_MARK != 0 {
        packet.set_mark(link);
        return verdict(packet, Reason::Steered, PASS);
    }
    if quoted.ttl <= 1 {
        return verdict(packet, Reason::TtlExceeded, DROP);
    }
    let bytes = u64::from(packet.ip_len(ETHERNET));
    let tos = rule::flow_tos(&flow.state, quoted.tos, rule::wire_dscp(slot, link));
    if A::rewrite_error(packet, &quoted, flow, flow.saddr, tos, quoted.ttl - 1).is_none() {
        return verdict(packet, Reason::HelperFailed, DROP);
    }
    maps::count(Reason::ErrorTranslated, 1, bytes);
    maps::count_link(flow.state.link, true, 1, bytes);
    packet.set_seen(true);
    A::send(packet, link.ifindex, A::gateway(link))
}

#[inline(always)]
fn pass(packet: &Packet, reason: Reason) -> i32 {
    if reason as u32 == Reason::Passed as u32 { PASS } else { verdict(packet, reason, PASS) }
}
