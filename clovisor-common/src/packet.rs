//! Reads packets of both IP families: TCP, UDP, ICMP echo.
//!
//! **In**: the bytes of a packet through [`Bytes`]. **Out**: a [`Segment`], checksum arithmetic, the option
//! that holds the MSS. **Never**: writes, allocates or reads outside the bytes.

mod checksum;

use crate::abi::{FlowKey, Link, class_of_dscp};
use checksum::sum_of;
pub use checksum::{checksum_after, delta, fold};

/// Length of an Ethernet header, in bytes.
pub const ETHERNET: usize = 14;

/// EtherType of IPv4, as it stands in the packet.
pub const IPV4_BE: u16 = 0x0800_u16.to_be();

/// EtherType of IPv6, as it stands in the packet.
pub const IPV6_BE: u16 = 0x86dd_u16.to_be();

/// Protocol number of TCP.
pub const TCP: u8 = 6;

/// Protocol number of UDP.
pub const UDP: u8 = 17;

/// TCP flag bits.
pub const FIN: u8 = 1;
/// See [`FIN`].
pub const SYN: u8 = 2;
/// See [`FIN`].
pub const RST: u8 = 4;
/// See [`FIN`].
pub const ACK: u8 = 16;

/// Offset of the checksum in a TCP header.
pub const TCP_CHECKSUM: usize = 16;

/// Offset of the checksum in a UDP header; 0 there means none (IPv4 only).
pub const UDP_CHECKSUM: usize = 6;

/// Offset of the checksum in an ICMP header; over IPv6 it covers the addresses too.
pub const ICMP_CHECKSUM: usize = 2;

/// Offset of the identifier in an ICMP echo.
pub const ECHO_ID: usize = 4;

/// Length of a TCP header without options.
pub const TCP_HEADER: usize = 20;

/// Read access to the bytes of a packet; `None` outside of them.
pub trait Bytes {
    /// One byte.
    fn byte(&self, at: usize) -> Option<u8>;
    /// Two bytes as they stand in memory.
    fn half(&self, at: usize) -> Option<u16>;
    /// `4 * N` bytes as they stand in memory.
    fn words<const N: usize>(&self, at: usize) -> Option<[u32; N]>;
    /// 16 bytes as they stand in memory.
    fn wide(&self, at: usize) -> Option<u128>;
}

impl Bytes for [u8] {
    fn byte(&self, at: usize) -> Option<u8> {
        self.get(at).copied()
    }

    fn half(&self, at: usize) -> Option<u16> {
        Some(u16::from_ne_bytes(*self.get(at..)?.first_chunk()?))
    }

    fn words<const N: usize>(&self, at: usize) -> Option<[u32; N]> {
        let (words, _) = self.get(at..at + 4 * N)?.as_chunks::<4>();
        let mut out = [0; N];
        for (word, bytes) in out.iter_mut().zip(words) {
            *word = u32::from_ne_bytes(*bytes);
        }
        Some(out)
    }

    fn wide(&self, at: usize) -> Option<u128> {
        Some(u128::from_ne_bytes(*self.get(at..)?.first_chunk()?))
    }
}

/// A packet that steering leaves alone: another protocol, a fragment, cut short, or with headers not parsed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unparsed {
    /// Class 1..=16 that its DSCP carries, or 0.
    pub class: u8,
}

/// What steering reads of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<A> {
    pub saddr: A,
    pub daddr: A,
    /// Source port; of an ICMP echo request its identifier, of a reply 0.
    pub sport_be: u16,
    /// Destination port; of an ICMP echo reply its identifier, of a request 0.
    pub dport_be: u16,
    /// [`TCP`], [`UDP`], or the family's [`Address::ICMP`].
    pub proto: u8,
    /// It may be the first packet of a flow: a SYN and nothing else of weight, a datagram, an echo request.
    pub opens: bool,
    /// Type of service / traffic class: DSCP and ECN.
    pub tos: u8,
    /// Time to live / hop limit.
    pub hops: u8,
    /// TCP flags; 0 for other protocols.
    pub flags: u8,
    /// Length of the transport header in bytes, TCP options included.
    pub l4_len: u8,
    /// Offset of the IP header.
    pub l3: usize,
}

impl<A: Address> Segment<A> {
    /// Class 1..=16 that the packet carries, or 0.
    #[inline(always)]
    pub fn class(&self) -> u8 {
        class_of_dscp(self.tos >> 2)
    }

    /// The key of the packet's flow in `zone`.
    #[inline(always)]
    pub fn key(&self, zone: u16) -> FlowKey<A> {
        FlowKey {
            saddr: self.saddr,
            daddr: self.daddr,
            sport_be: self.sport_be,
            dport_be: self.dport_be,
            zone,
            proto: self.proto,
            pad: 0,
        }
    }

    /// Offset of the transport header.
    #[inline(always)]
    pub fn l4(&self) -> usize {
        self.l3 + A::HEADER
    }
}

/// An address of one IP family, with what differs between the families.
pub trait Address: Copy + PartialEq {
    /// Length of the IP header without options or extensions, in bytes.
    const HEADER: usize;
    /// EtherType as it stands in the packet.
    const ETHER_BE: u16;
    /// Protocol number of the family's ICMP.
    const ICMP: u8;
    /// The checksum of the family's ICMP covers the addresses (RFC 4443, 2.3).
    const ICMP_COVERS_ADDRESSES: bool;
    /// Types of an ICMP echo request and its reply.
    const ECHO: [u8; 2];

    /// Parses a packet whose IP header stands at `l3`.
    fn parse<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Result<Segment<Self>, Unparsed>;
    /// The 16 byte form that `ADDRS`, `DESTS` and `PEERS` use.
    fn mapped(self) -> [u8; 16];
    /// The inverse of [`Address::mapped`].
    fn unmapped(addr: [u8; 16]) -> Self;
    /// All bytes zero: "none" in [`Link`].
    fn is_none(self) -> bool;
    /// One's complement sum of the 16 bit words, as they stand in memory.
    fn sum(self) -> u32;
    /// The link's address for SNAT, or none.
    fn source(link: &Link) -> Self;
    /// The link's next hop, or none.
    fn gateway(link: &Link) -> Self;
}

impl Address for [u8; 4] {
    const HEADER: usize = 20;
    const ETHER_BE: u16 = IPV4_BE;
    const ICMP: u8 = 1;
    const ICMP_COVERS_ADDRESSES: bool = false;
    const ECHO: [u8; 2] = [8, 0];

    #[inline(always)]
    fn parse<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Result<Segment<Self>, Unparsed> {
        let [w0, w1, w2, saddr, daddr] = bytes.words::<5>(l3).ok_or(Unparsed { class: 0 })?;
        let ([version, tos, ..], [.., frag_hi, frag_lo]) = (w0.to_ne_bytes(), w1.to_ne_bytes());
        let [hops, proto, ..] = w2.to_ne_bytes();
        let unparsed = Unparsed { class: class_of_dscp(tos >> 2) };
        // More fragments, or not the first one.
        let fragment = frag_hi & 0x3f | frag_lo;
        if version != 0x45 || fragment != 0 {
            return Err(unparsed);
        }
        let ip = Ip { saddr: saddr.to_ne_bytes(), daddr: daddr.to_ne_bytes(), tos, hops, l3 };
        transport(bytes, proto, ip).ok_or(unparsed)
    }

    #[inline(always)]
    fn mapped(self) -> [u8; 16] {
        // As one number: sixteen single bytes would be a call in the kernel.
        (u128::from(u32::from_le_bytes(self)) << 96 | 0xffff << 80).to_le_bytes()
    }

    #[inline(always)]
    fn unmapped(addr: [u8; 16]) -> Self {
        let [.., a, b, c, d] = addr;
        [a, b, c, d]
    }

    #[inline(always)]
    fn is_none(self) -> bool {
        u32::from_ne_bytes(self) == 0
    }

    #[inline(always)]
    fn sum(self) -> u32 {
        sum_of(u32::from_ne_bytes(self))
    }

    #[inline(always)]
    fn source(link: &Link) -> Self {
        link.source4
    }

    #[inline(always)]
    fn gateway(link: &Link) -> Self {
        link.gateway4
    }
}

impl Address for [u8; 16] {
    const HEADER: usize = 40;
    const ETHER_BE: u16 = IPV6_BE;
    const ICMP: u8 = 58;
    const ICMP_COVERS_ADDRESSES: bool = true;
    const ECHO: [u8; 2] = [128, 129];

    #[inline(always)]
    fn parse<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Result<Segment<Self>, Unparsed> {
        // Addresses move as 128 bit numbers: as sixteen bytes they would fill the kernel's stack.
        let Header6 { w0, w1, saddr, daddr } = header6(bytes, l3).ok_or(Unparsed { class: 0 })?;
        let ([hi, lo, ..], [.., next, hops]) = (w0.to_ne_bytes(), w1.to_ne_bytes());
        let tos = hi << 4 | lo >> 4;
        let unparsed = Unparsed { class: class_of_dscp(tos >> 2) };
        if hi >> 4 != 6 {
            return Err(unparsed);
        }
        let ip = Ip { saddr: saddr.to_ne_bytes(), daddr: daddr.to_ne_bytes(), tos, hops, l3 };
        transport(bytes, next, ip).ok_or(unparsed)
    }

    #[inline(always)]
    fn mapped(self) -> [u8; 16] {
        self
    }

    #[inline(always)]
    fn unmapped(addr: [u8; 16]) -> Self {
        addr
    }

    #[inline(always)]
    fn is_none(self) -> bool {
        u128::from_ne_bytes(self) == 0
    }

    #[inline(always)]
    fn sum(self) -> u32 {
        let addr = u128::from_ne_bytes(self);
        sum_of(addr as u32)
            + sum_of((addr >> 32) as u32)
            + sum_of((addr >> 64) as u32)
            + sum_of((addr >> 96) as u32)
    }

    #[inline(always)]
    fn source(link: &Link) -> Self {
        link.source6
    }

    #[inline(always)]
    fn gateway(link: &Link) -> Self {
        link.gateway6
    }
}

/// What the IP header says.
struct Ip<A> {
    saddr: A,
    daddr: A,
    tos: u8,
    hops: u8,
    l3: usize,
}

/// What the transport header says.
struct Transport {
    sport_be: u16,
    dport_be: u16,
    opens: bool,
    flags: u8,
    l4_len: u8,
}

#[inline(always)]
fn transport<A: Address, B: Bytes + ?Sized>(bytes: &B, proto: u8, ip: Ip<A>) -> Option<Segment<A>> {
    let l4 = ip.l3 + A::HEADER;
    let Transport { sport_be, dport_be, opens, flags, l4_len } = match proto {
        TCP => tcp(bytes, l4)?,
        UDP => udp(bytes, l4)?,
        icmp if icmp == A::ICMP => echo(bytes, l4, A::ECHO)?,
        _ => return None,
    };
    let Ip { saddr, daddr, tos, hops, l3 } = ip;
    Some(Segment { saddr, daddr, sport_be, dport_be, proto, opens, tos, hops, flags, l4_len, l3 })
}

#[inline(always)]
fn tcp<B: Bytes + ?Sized>(bytes: &B, l4: usize) -> Option<Transport> {
    let [ports, _, _, w3, _] = bytes.words::<5>(l4)?;
    let [s0, s1, d0, d1] = ports.to_ne_bytes();
    let [offset, flags, ..] = w3.to_ne_bytes();
    let l4_len = (offset >> 4) * 4;
    let (sport_be, dport_be) = (u16::from_ne_bytes([s0, s1]), u16::from_ne_bytes([d0, d1]));
    let opens = flags & (SYN | ACK | RST | FIN) == SYN;
    (usize::from(l4_len) >= TCP_HEADER).then_some(Transport { sport_be, dport_be, opens, flags, l4_len })
}

#[inline(always)]
fn udp<B: Bytes + ?Sized>(bytes: &B, l4: usize) -> Option<Transport> {
    let [ports, _] = bytes.words::<2>(l4)?;
    let [s0, s1, d0, d1] = ports.to_ne_bytes();
    let (sport_be, dport_be) = (u16::from_ne_bytes([s0, s1]), u16::from_ne_bytes([d0, d1]));
    Some(Transport { sport_be, dport_be, opens: true, flags: 0, l4_len: 8 })
}

/// An ICMP echo: the identifier stands for the port of who asks (RFC 5508, 3.1).
#[inline(always)]
fn echo<B: Bytes + ?Sized>(bytes: &B, l4: usize, [request, reply]: [u8; 2]) -> Option<Transport> {
    let [first, second] = bytes.words::<2>(l4)?;
    let ([kind, ..], [i0, i1, ..]) = (first.to_ne_bytes(), second.to_ne_bytes());
    let id = u16::from_ne_bytes([i0, i1]);
    let (sport_be, dport_be) = if kind == request { (id, 0) } else { (0, id) };
    let opens = kind == request;
    (opens || kind == reply).then_some(Transport { sport_be, dport_be, opens, flags: 0, l4_len: 8 })
}

struct Header6 {
    w0: u32,
    w1: u32,
    saddr: u128,
    daddr: u128,
}

#[inline(always)]
fn header6<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Header6> {
    let [w0, w1] = bytes.words::<2>(l3)?;
    Some(Header6 { w0, w1, saddr: bytes.wide(l3 + 8)?, daddr: bytes.wide(l3 + 24)? })
}

/// Offset from the TCP header, and value, of the MSS that a SYN offers; `None` without one.
#[inline(always)]
pub fn offered_mss<B: Bytes + ?Sized>(bytes: &B, l4: usize, tcp_len: u8) -> Option<(usize, u16)> {
    const LAST: usize = 56;
    let mut at = TCP_HEADER;
    // Bounded for the kernel's verifier; the option stands first in practice.
    for _ in 0..8 {
        if at > LAST || at + 4 > usize::from(tcp_len) {
            return None;
        }
        match bytes.byte(l4 + at)? {
            0 => return None,
            1 => at += 1,
            2 => {
                let mss = u16::from_be_bytes([bytes.byte(l4 + at + 2)?, bytes.byte(l4 + at + 3)?]);
                return Some((at + 2, mss));
            }
            _ => at += usize::from(bytes.byte(l4 + at + 1)?).max(2),
        }
    }
    None
}

#[cfg(test)]
mod tests;
