//! Reads packets of both IP families: TCP, UDP, ICMP echo, fragments of them, and what ICMP errors quote.
//!
//! **In**: the bytes of a packet through [`Bytes`]. **Out**: a [`Segment`], checksum arithmetic, the option
//! that holds the MSS. **Never**: writes, allocates or reads outside the bytes.

mod checksum;
mod extensions;
mod fast_path;
mod quoted;
mod transport;

use crate::abi::{FlowKey, Link, class_of_dscp};
use checksum::sum_of;
pub use checksum::{checksum_after, delta, fold};
use extensions::{Extended, extended};
pub use fast_path::FastParse;
pub use quoted::{Plain, Quoted};
pub use transport::offered_mss;
use transport::{Ip, transport};

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

/// A packet that steering leaves alone: another protocol, cut short, or with headers not parsed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unparsed {
    /// Class 1..=16 that its DSCP carries, or 0.
    pub class: u8,
}

/// Which part of a packet this one is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// The first of several: it has the transport header.
    First,
    /// Another one: its ports are those of the first one with the same identification.
    Later,
}

/// What steering reads of one packet.
#[repr(C, align(8))] // copied by words
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
    pub is_new: bool,
    /// Type of service / traffic class: DSCP and ECN.
    pub tos: u8,
    /// Time to live / hop limit.
    pub ttl: u8,
    /// TCP flags; 0 for other protocols.
    pub flags: u8,
    /// Length of the transport header in bytes, TCP options included.
    pub l4_len: u8,
    pub fragment: Fragment,
    /// Identification that the fragments of one packet share, as it stands in memory; 0 if whole.
    pub id: u32,
    /// TCP acknowledgment number, as it stands in memory; it counts where the flags have [`ACK`].
    pub ack_be: u32,
    /// Offset of the transport header.
    pub l4: u8,
    /// Offset of the IP header.
    pub l3: u8,
}

impl<A: Address> Segment<A> {
    /// Class 1..=16 that the packet carries, or 0.
    #[inline(always)]
    pub fn class(&self) -> u8 {
        class_of_dscp(self.tos >> 2)
    }

    /// The key of the packet's flow in `scope`.
    #[inline(always)]
    pub fn key(&self, scope: u32) -> FlowKey<A> {
        FlowKey {
            saddr: self.saddr,
            daddr: self.daddr,
            sport_be: self.sport_be,
            dport_be: self.dport_be,
            scope,
            proto: self.proto.into(),
            pad: 0,
        }
    }

    /// Offset of the IP header.
    #[inline(always)]
    pub fn l3(&self) -> usize {
        usize::from(self.l3)
    }

    /// Offset of the transport header.
    #[inline(always)]
    pub fn l4(&self) -> usize {
        usize::from(self.l4)
    }

    /// Length of the IP header with its options or extensions, and of the transport header.
    #[inline(always)]
    pub fn headers(&self) -> u32 {
        u32::from(self.l4 - self.l3) + u32::from(self.l4_len)
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
    /// Is this the type of an ICMP error, which quotes the packet that it is about?
    fn is_error(kind: u8) -> bool;

    /// Parses a packet whose IP header stands at `l3`.
    fn parse<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Result<Segment<Self>, Unparsed>;
    /// Reads the source address of a packet whose IP header stands at `l3`.
    fn source_of<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Self>;
    /// Reads an IP header without options or extensions, of a packet whose transport header follows.
    fn plain<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Plain<Self>>;
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

    /// Unreachable, time exceeded, parameter problem (RFC 792).
    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, 3 | 11 | 12)
    }

    #[inline(always)]
    fn parse<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Result<Segment<Self>, Unparsed> {
        let [w0, w1, w2, saddr, daddr] = bytes.words::<5>(l3).ok_or(Unparsed { class: 0 })?;
        let ([version, tos, ..], [id0, id1, frag_hi, frag_lo]) = (w0.to_ne_bytes(), w1.to_ne_bytes());
        let [ttl, proto, ..] = w2.to_ne_bytes();
        let unparsed = Unparsed { class: class_of_dscp(tos >> 2) };
        let words = usize::from(version & 0x0f);
        if version >> 4 != 4 || words < 5 {
            return Err(unparsed);
        }
        let fragment = match (frag_hi & 0x20 != 0, (frag_hi & 0x1f | frag_lo) != 0) {
            (_, true) => Fragment::Later,
            (true, false) => Fragment::First,
            (false, false) => Fragment::Whole,
        };
        let id = if fragment == Fragment::Whole { 0 } else { u32::from(u16::from_ne_bytes([id0, id1])) };
        let (saddr, daddr) = (saddr.to_ne_bytes(), daddr.to_ne_bytes());
        let ip = Ip { saddr, daddr, tos, ttl, fragment, id, l3, l4: l3 + 4 * words };
        transport(bytes, proto, ip).ok_or(unparsed)
    }

    #[inline(always)]
    fn source_of<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Self> {
        bytes.words::<1>(l3 + 12).map(|[saddr]| saddr.to_ne_bytes())
    }

    #[inline(always)]
    fn plain<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Plain<Self>> {
        let [w0, w1, w2, saddr, daddr] = bytes.words::<5>(l3)?;
        let ([version, tos, ..], [.., frag_hi, frag_lo]) = (w0.to_ne_bytes(), w1.to_ne_bytes());
        let [ttl, proto, ..] = w2.to_ne_bytes();
        let plain = version == 0x45 && (frag_hi & 0x1f | frag_lo) == 0;
        let (saddr, daddr) = (saddr.to_ne_bytes(), daddr.to_ne_bytes());
        plain.then_some(Plain { saddr, daddr, proto, tos, ttl })
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

    /// Unreachable, too big, time exceeded, parameter problem (RFC 4443, 3).
    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, 1..=4)
    }

    #[inline(always)]
    fn parse<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Result<Segment<Self>, Unparsed> {
        // Addresses move as 128 bit numbers: as sixteen bytes they would fill the kernel's stack.
        let Header6 { w0, w1, saddr, daddr } = header6(bytes, l3).ok_or(Unparsed { class: 0 })?;
        let ([hi, lo, ..], [.., next, ttl]) = (w0.to_ne_bytes(), w1.to_ne_bytes());
        let tos = hi << 4 | lo >> 4;
        let unparsed = Unparsed { class: class_of_dscp(tos >> 2) };
        if hi >> 4 != 6 {
            return Err(unparsed);
        }
        let Extended { next, l4, fragment, id } = extended(bytes, next, l3 + Self::HEADER).ok_or(unparsed)?;
        let (saddr, daddr) = (saddr.to_ne_bytes(), daddr.to_ne_bytes());
        transport(bytes, next, Ip { saddr, daddr, tos, ttl, fragment, id, l3, l4 }).ok_or(unparsed)
    }

    #[inline(always)]
    fn source_of<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Self> {
        bytes.wide(l3 + 8).map(u128::to_ne_bytes)
    }

    #[inline(always)]
    fn plain<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Plain<Self>> {
        let Header6 { w0, w1, saddr, daddr } = header6(bytes, l3)?;
        let ([hi, lo, ..], [.., proto, ttl]) = (w0.to_ne_bytes(), w1.to_ne_bytes());
        let (saddr, daddr) = (saddr.to_ne_bytes(), daddr.to_ne_bytes());
        (hi >> 4 == 6).then_some(Plain { saddr, daddr, proto, tos: hi << 4 | lo >> 4, ttl })
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

#[cfg(test)]
mod generated;
#[cfg(test)]
mod tests;
