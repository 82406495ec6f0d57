//! Reads packets of both IP families: TCP, UDP, ICMP echo, fragments of them, and what ICMP errors quote.
//!
//! **In**: the bytes of a packet through [`Bytes`]. **Out**: a [`Segment`], checksum arithmetic, the option
//! that holds the MSS. **Never**: writes, allocates or reads outside the bytes.

mod bytes;
mod checksum;
mod extensions;
mod fast_path;
mod quoted;
mod segment;
mod transport;

use crate::abi::{LINK_UP4, LINK_UP6, Link, Slot, class_of_dscp};
pub use bytes::{
    ACK, Bytes, ECHO_ID, ETHERNET, FIN, ICMP_CHECKSUM, IPV4_BE, IPV6_BE, RST, SYN, TCP, TCP_CHECKSUM,
    TCP_HEADER, UDP, UDP_CHECKSUM,
};
use checksum::sum_of;
pub use checksum::{checksum_after, delta, fold};
use extensions::{Extended, extended};
pub use fast_path::FastParse;
pub use quoted::Quoted;
pub use segment::{Address, Fragment, Plain, Segment, Unparsed, exchange_key};
pub use transport::offered_mss;
use transport::{Ip, transport};

impl Address for [u8; 4] {
    const HEADER: usize = 20;
    const PROTOCOL: usize = 9;
    const ETHER_BE: u16 = IPV4_BE;
    const ICMP: u8 = 1;
    const LINK_UP: u32 = LINK_UP4;
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
    fn destination_of<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Self> {
        bytes.words::<1>(l3 + 16).map(|[daddr]| daddr.to_ne_bytes())
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

    #[inline(always)]
    fn link(slot: &Slot) -> u8 {
        slot.link4
    }
}

impl Address for [u8; 16] {
    const HEADER: usize = 40;
    const PROTOCOL: usize = 6;
    const ETHER_BE: u16 = IPV6_BE;
    const ICMP: u8 = 58;
    const LINK_UP: u32 = LINK_UP6;
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
    fn destination_of<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Self> {
        bytes.wide(l3 + 24).map(u128::to_ne_bytes)
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

    #[inline(always)]
    fn link(slot: &Slot) -> u8 {
        slot.link6
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
