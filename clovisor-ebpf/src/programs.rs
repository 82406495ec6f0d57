//! Entry points: each finds the family and hands over.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use clovisor_common::packet::{ETHERNET, IPV4_BE, IPV6_BE};

use crate::packet::{PASS, Packet};
use crate::{deliver, guard, maps, steer};

/// TC ingress of the host side of a mapped pod's veth.
#[classifier]
pub(crate) fn pod_in(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(ctx);
    let Some(pod) = maps::pod(packet.ifindex()) else {
        return PASS;
    };
    packet.set_seen(false);
    match packet.ether(ETHERNET) {
        IPV4_BE => steer::steer::<[u8; 4]>(&mut packet, pod),
        IPV6_BE => steer::steer::<[u8; 16]>(&mut packet, pod),
        _ => PASS,
    }
}

/// TC ingress of an uplink.
#[classifier]
pub(crate) fn wan_in(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(ctx);
    let Some((index, link)) = maps::link_of(packet.ifindex()) else {
        return PASS;
    };
    let l3 = maps::ip_offset(link);
    match packet.ether(l3) {
        IPV4_BE => deliver::deliver::<[u8; 4]>(&mut packet, l3, index, link),
        IPV6_BE => deliver::deliver::<[u8; 16]>(&mut packet, l3, index, link),
        _ => PASS,
    }
}

/// TC egress of an uplink.
#[classifier]
pub(crate) fn wan_out(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(ctx);
    if packet.is_seen() {
        packet.set_seen(false);
        return PASS;
    }
    let Some((index, link)) = maps::link_of(packet.ifindex()) else {
        return PASS;
    };
    let l3 = maps::ip_offset(link);
    match packet.ether(l3) {
        IPV4_BE => guard::guard::<[u8; 4]>(&mut packet, l3, index),
        IPV6_BE => guard::guard::<[u8; 16]>(&mut packet, l3, index),
        _ => PASS,
    }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
