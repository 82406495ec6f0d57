//! Exchanges of datagrams that the node's stack carries: who began. What a pod answers to somebody who dialled it goes back by the
//! way that he came.

use clovisor_common::abi::{Exchange, FlowKey, Pod};
use clovisor_common::packet::{ETHERNET, Fragment, UDP, exchange_key};
use clovisor_common::rule;

use crate::maps::{self, Scratch};
use crate::packet::{PASS, Packet, now};
use crate::rewrite::Family;
use crate::segment::{READ, read};
use crate::tables::Maps;

/// A packet that the stack gives to a pod. What a link gives it does not pass here.
#[inline(always)]
pub(crate) fn inward<A: Family>(packet: &Packet, pod: &Pod) -> i32 {
    let (READ, Some(Scratch { segment, key, .. })) = (read::<A>(packet, ETHERNET), A::scratch()) else {
        return PASS;
    };
    if segment.proto != UDP || segment.fragment == Fragment::Later {
        return PASS;
    }
    (segment.saddr, segment.daddr) = (segment.daddr, segment.saddr);
    (segment.sport_be, segment.dport_be) = (segment.dport_be, segment.sport_be);
    if rule::class_of_traffic(&Maps, pod, segment) != 0 {
        *key = segment.key(packet.ifindex());
        // The answers of a flow in mode `Mark` come this way too.
        let _noted = note(key, maps::flow(key).is_some().into());
    }
    PASS
}

/// Notes a datagram of the pod's tuple; `by_pod`: not 0 if the pod began, should this be the first one. Returns a number because a
/// BPF function does.
#[inline(never)]
pub(crate) fn note<A: Family>(key: &FlowKey<A>, by_pod: u32) -> u32 {
    let key = exchange_key(key);
    maps::note_exchange(&key, Exchange::after(maps::exchange(&key), by_pod != 0, now()));
    by_pod
}
