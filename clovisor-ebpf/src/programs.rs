//! Entry points: each dispatches by address family.
#![allow(unsafe_code, reason = "the licence is a symbol that the kernel reads")]

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use clovisor_common::abi::Link;
use clovisor_common::packet::{ETHERNET, IPV4_BE, IPV6_BE};
use clovisor_common::rule;

use crate::packet::{PASS, Packet};
use crate::rewrite::Family;
use crate::{egress, exchange, fast_path, ingress, leak_guard, maps};

/// TC ingress of the host side of a mapped pod's veth.
#[classifier]
pub(crate) fn pod_in(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(ctx);
    match packet.ether() {
        IPV4_BE => out::<[u8; 4]>(&mut packet),
        IPV6_BE => out::<[u8; 16]>(&mut packet),
        _ => PASS,
    }
}

#[inline(always)]
fn out<A: Family>(packet: &mut Packet) -> i32 {
    if let Some(verdict) = fast_path::out::<A>(packet) {
        return verdict;
    }
    packet.set_seen(false);
    packet.make_readable(ETHERNET);
    match maps::pod(packet.ifindex()) {
        Some(pod) => egress::egress::<A>(packet, pod),
        None => PASS,
    }
}

/// TC egress of the host side of a pod's veth whose own packets mappings of traffic govern.
#[classifier]
pub(crate) fn pod_out(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(ctx);
    packet.make_readable(ETHERNET);
    let Some(pod) = maps::pod(packet.ifindex()) else {
        return PASS;
    };
    match packet.ether() {
        IPV4_BE => exchange::inward::<[u8; 4]>(&packet, pod),
        IPV6_BE => exchange::inward::<[u8; 16]>(&packet, pod),
        _ => PASS,
    }
}

/// TC ingress of an uplink.
#[classifier]
pub(crate) fn wan_in(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(ctx);
    if packet.is_for_another_device() {
        return PASS;
    }
    let Some((index, link)) = maps::link_of(packet.ifindex()) else {
        return PASS;
    };
    match packet.ether() {
        IPV4_BE => back::<[u8; 4]>(&mut packet, index, link),
        IPV6_BE => back::<[u8; 16]>(&mut packet, index, link),
        _ => PASS,
    }
}

#[inline(always)]
fn back<A: Family>(packet: &mut Packet, index: u8, link: &Link) -> i32 {
    let l3 = maps::ip_offset(link);
    if rule::serves_pods_only(link)
        && let Some(daddr) = A::destination_of(packet, l3)
        && maps::addr(&daddr.mapped()).is_none()
    {
        return PASS;
    }
    if let Some(verdict) = fast_path::back::<A>(packet, l3, index, link) {
        return verdict;
    }
    packet.make_readable(l3);
    ingress::ingress::<A>(packet, l3, index, link)
}

/// TC egress of an uplink.
#[classifier]
pub(crate) fn wan_out(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(ctx);
    // Keep the mark: a stacked device's lower device runs this program again.
    if packet.is_seen() {
        return PASS;
    }
    let Some((index, link)) = maps::link_of(packet.ifindex()) else {
        return PASS;
    };
    let l3 = maps::ip_offset(link);
    packet.make_readable(l3);
    match packet.ether() {
        IPV4_BE => leak_guard::leak_guard::<[u8; 4]>(&mut packet, l3, index),
        IPV6_BE => leak_guard::leak_guard::<[u8; 16]>(&mut packet, l3, index),
        _ => PASS,
    }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
