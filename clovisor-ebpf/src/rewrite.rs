//! Rewriting and sending a packet, for each address family.

use aya_ebpf::bindings::BPF_F_RECOMPUTE_CSUM;
use clovisor_common::abi::{FLOW_AS_IS, Flow};
use clovisor_common::packet::{Address, FastParse, Quoted, Segment, checksum_after, delta, fold};
use clovisor_common::reply::Reply;

use crate::maps::Table;
use crate::packet::{Packet, neighbour};

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// All that egress and ingress need of an address family.
pub(crate) trait Family: FastParse + Reply + Table + Rewrite {}
impl<A: FastParse + Reply + Table + Rewrite> Family for A {}

/// The differences between the families in rewriting and sending.
pub(crate) trait Rewrite: Sized {
    /// Writes the flow's tuple, the traffic class and the hop limit.
    fn rewrite(packet: &mut Packet, of: &Segment<Self>, flow: &Flow<Self>, tos: u8, ttl: u8) -> Option<()>;
    /// Writes an ICMP error's own addresses, traffic class and hop limit, and turns the quoted packet into what its
    /// sender sent. The checksum of the quoted transport is not updated: receivers match errors by addresses and ports.
    fn rewrite_error(
        packet: &mut Packet,
        of: &Quoted<Self>,
        flow: &Flow<Self>,
        saddr: Self,
        tos: u8,
        ttl: u8,
    ) -> Option<()>;
    /// Writes the traffic class alone.
    fn set_tos(packet: &mut Packet, of: &Segment<Self>, tos: u8) -> Option<()>;
    /// The verdict that sends the packet by an interface; `gateway` none = the destination is on the link.
    fn send(packet: &Packet, ifindex: u32, gateway: Self) -> i32;
}

/// Writes traffic class and TTL into the first and third word of an IPv4 header and updates its checksum, also for
/// addresses that change it by `addrs`.
#[inline(always)]
fn header4(first: &mut u32, third: &mut u32, tos: u8, ttl: u8, addrs: u16) {
    let [a, old_tos, c, d] = first.to_ne_bytes();
    let [old_ttl, proto, s0, s1] = third.to_ne_bytes();
    let new = [[a, tos], [ttl, proto]].map(u16::from_ne_bytes);
    let old = [[a, old_tos], [old_ttl, proto]].map(|word| !u16::from_ne_bytes(word));
    let change = new.into_iter().chain(old).map(u32::from).sum::<u32>() + u32::from(addrs);
    let [s0, s1] = checksum_after(u16::from_ne_bytes([s0, s1]), change).to_ne_bytes();
    *first = u32::from_ne_bytes([a, tos, c, d]);
    *third = u32::from_ne_bytes([ttl, proto, s0, s1]);
}

/// The first word of an IPv6 header with another traffic class.
#[inline(always)]
const fn with_traffic_class(first: u32, class: u8) -> u32 {
    let [a, b, c, d] = first.to_ne_bytes();
    u32::from_ne_bytes([a & 0xf0 | class >> 4, class << 4 | b & 0x0f, c, d])
}

impl Rewrite for [u8; 4] {
    #[inline(always)]
    fn rewrite(packet: &mut Packet, of: &Segment<Self>, flow: &Flow<Self>, tos: u8, ttl: u8) -> Option<()> {
        if flow.state.flags & FLOW_AS_IS == 0 {
            packet.update_checksum(of, flow)?;
            packet.set_ports(of, flow)?;
        }
        let [first, _, third, saddr, daddr] = packet.view::<[u32; 5]>(of.l3())?;
        header4(first, third, tos, ttl, flow.addr_delta);
        *saddr = u32::from_ne_bytes(flow.saddr);
        *daddr = u32::from_ne_bytes(flow.daddr);
        Some(())
    }

    #[inline(always)]
    fn rewrite_error(
        packet: &mut Packet,
        of: &Quoted<Self>,
        flow: &Flow<Self>,
        saddr: Self,
        tos: u8,
        ttl: u8,
    ) -> Option<()> {
        // The quoted header's checksum balances its addresses; only the ports change the error's.
        packet.mend_error(of, 0, flow.port_delta)?;
        packet.set_quoted_ports(of, flow)?;
        let [_, _, third, from, to] = packet.view::<[u32; 5]>(of.quote())?;
        let [a, b, s0, s1] = third.to_ne_bytes();
        let [s0, s1] = checksum_after(u16::from_ne_bytes([s0, s1]), u32::from(flow.addr_delta)).to_ne_bytes();
        *third = u32::from_ne_bytes([a, b, s0, s1]);
        *from = u32::from_ne_bytes(flow.daddr);
        *to = u32::from_ne_bytes(flow.saddr);
        let [first, _, third, from, to] = packet.view::<[u32; 5]>(of.l3())?;
        let addrs = delta(of.saddr.sum() + of.daddr.sum(), saddr.sum() + flow.daddr.sum());
        header4(first, third, tos, ttl, addrs);
        *from = u32::from_ne_bytes(saddr);
        *to = u32::from_ne_bytes(flow.daddr);
        Some(())
    }

    #[inline(always)]
    fn set_tos(packet: &mut Packet, of: &Segment<Self>, tos: u8) -> Option<()> {
        let [first, _, third] = packet.view::<[u32; 3]>(of.l3())?;
        let [ttl, ..] = third.to_ne_bytes();
        header4(first, third, tos, ttl, 0);
        Some(())
    }

    #[inline(always)]
    fn send(_: &Packet, ifindex: u32, gateway: Self) -> i32 {
        let nexthop = u32::from_ne_bytes(gateway);
        neighbour(ifindex, AF_INET, [nexthop, 0, 0, 0])
    }
}

impl Rewrite for [u8; 16] {
    #[inline(always)]
    fn rewrite(packet: &mut Packet, of: &Segment<Self>, flow: &Flow<Self>, tos: u8, ttl: u8) -> Option<()> {
        if flow.state.flags & FLOW_AS_IS == 0 {
            packet.update_checksum(of, flow)?;
            // IPv6 has no header checksum that would cancel the addresses.
            packet.csum_add(flow.addr_delta);
            packet.set_ports(of, flow)?;
            // By words: sixteen single bytes would be copied as such.
            *packet.view::<[u128; 2]>(of.l3() + 8)? = [flow.saddr, flow.daddr].map(u128::from_ne_bytes);
        }
        let header = packet.view::<[u32; 2]>(of.l3())?;
        let [e, f, next, _] = header[1].to_ne_bytes();
        header[0] = with_traffic_class(header[0], tos);
        header[1] = u32::from_ne_bytes([e, f, next, ttl]);
        Some(())
    }

    #[inline(always)]
    fn rewrite_error(
        packet: &mut Packet,
        of: &Quoted<Self>,
        flow: &Flow<Self>,
        saddr: Self,
        tos: u8,
        ttl: u8,
    ) -> Option<()> {
        let outer = delta(of.saddr.sum() + of.daddr.sum(), saddr.sum() + flow.daddr.sum());
        packet.mend_error(of, outer, fold(u32::from(flow.addr_delta) + u32::from(flow.port_delta)))?;
        packet.set_quoted_ports(of, flow)?;
        packet.store(of.quote() + 8, &[flow.daddr, flow.saddr], 0)?;
        packet.store(of.l3() + 8, &[saddr, flow.daddr], BPF_F_RECOMPUTE_CSUM)?;
        let header = packet.view::<[u32; 2]>(of.l3())?;
        let [e, f, next, _] = header[1].to_ne_bytes();
        header[0] = with_traffic_class(header[0], tos);
        header[1] = u32::from_ne_bytes([e, f, next, ttl]);
        Some(())
    }

    #[inline(always)]
    fn set_tos(packet: &mut Packet, of: &Segment<Self>, tos: u8) -> Option<()> {
        let [header] = packet.view::<[u32; 1]>(of.l3())?;
        *header = with_traffic_class(*header, tos);
        Some(())
    }

    #[inline(always)]
    fn send(_: &Packet, ifindex: u32, gateway: Self) -> i32 {
        let words = gateway.as_chunks::<4>().0;
        let word = |i: usize| words.get(i).map_or(0, |w| u32::from_ne_bytes(*w));
        neighbour(ifindex, AF_INET6, [word(0), word(1), word(2), word(3)])
    }
}
