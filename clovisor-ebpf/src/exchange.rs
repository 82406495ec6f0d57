//! Exchanges of datagrams that the node's stack carries: who began. What a pod answers to somebody who dialled it goes back by the
//! way that he came.

use clovisor_common::abi::{Exchange, FlowKey, Pod};
use clovisor_common::packet::{Bytes as _, ETHERNET, Fragment, TCP, UDP, exchange_key};
use clovisor_common::rule;

use crate::maps::{self, Scratch};
use crate::packet::{PASS, Packet, now};
use crate::rewrite::Family;
use crate::segment::{READ, read};
use crate::tables::Maps;

/// A packet that the stack gives to a pod. What a link gives it does not pass here.
#[inline(always)]
pub(crate) fn inward<A: Family>(packet: &Packet, pod: &Pod) -> i32 {
    // Most packets, and told without reading more: in mode `Mark` the answers of all connections come this way.
    if packet.byte(ETHERNET + A::PROTOCOL) == Some(TCP) {
        return PASS;
    }
    let (READ, Some(Scratch { segment, key, .. })) = (read::<A>(packet, ETHERNET), A::scratch()) else {
        return PASS;
    };
    if segment.proto != UDP || segment.fragment == Fragment::Later {
        return PASS;
    }
    (segment.saddr, segment.daddr) = (segment.daddr, segment.saddr);
    (segment.sport_be, segment.dport_be) = (segment.dport_be, segment.sport_be);
    *key = segment.key(packet.ifindex());
    if goes_on(key) == 0 && rule::class_of_traffic(&Maps, pod, segment) != 0 {
        // The answers of a flow in mode `Mark` begin nothing.
        let _noted = note(key, maps::flow(key).is_some().into());
    }
    PASS
}

/// Not 0 if the exchange is known and not over; notes the datagram then. Returns a number because a BPF function does.
#[inline(never)]
fn goes_on<A: Family>(key: &FlowKey<A>) -> u32 {
    let now = now();
    match maps::exchange(&exchange_key(key)) {
        Some(exchange) if !exchange.is_over(now) => {
            if !exchange.is_noted(now) {
                exchange.last_seen_ns = now;
            }
            1
        }
        _ => 0,
    }
}

/// Notes a datagram of the pod's tuple; `by_pod`: not 0 if the pod began, should this be the first one. Returns a number for the same
/// reason.
#[inline(never)]
pub(crate) fn note<A: Family>(key: &FlowKey<A>, by_pod: u32) -> u32 {
    let (key, now) = (exchange_key(key), now());
    match maps::exchange(&key) {
        Some(exchange) if exchange.is_noted(now) => {}
        Some(exchange) => *exchange = Exchange::after(Some(*exchange), by_pod != 0, now),
        None => maps::begin_exchange(&key, &Exchange::after(None, by_pod != 0, now)),
    }
    by_pod
}
