//! The packet that an ICMP error quotes (RFC 792, RFC 4443).

use super::bytes::{Bytes, TCP, UDP};
use super::segment::Address;
use crate::abi::FlowKey;

/// Offset of the quoted packet in an ICMP error.
const QUOTE: usize = 8;

/// An ICMP error about a packet of a protocol that is steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<A> {
    /// Source and destination of the error itself.
    pub saddr: A,
    pub daddr: A,
    /// The quoted tuple reversed: that of a packet in the direction of the error.
    pub sport_be: u16,
    pub dport_be: u16,
    pub quoted_saddr: A,
    pub quoted_daddr: A,
    pub proto: u8,
    pub tos: u8,
    pub ttl: u8,
    /// Offset of the IP header of the error; the ICMP header, the quoted one and its transport follow without options.
    pub l3: u8,
}

impl<A: Address> Quoted<A> {
    /// Reads an error whose IP header stands at `l3`; `None` if it is none, or quotes what is not steered.
    #[inline(always)]
    pub fn parse<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Self> {
        let outer = A::plain(bytes, l3)?;
        let l4 = l3 + A::HEADER;
        if outer.proto != A::ICMP || !A::is_error(bytes.byte(l4)?) {
            return None;
        }
        let quote = l4 + QUOTE;
        let inner = A::plain(bytes, quote)?;
        let [first, second] = bytes.words::<2>(quote + A::HEADER)?;
        let [a, b, c, d] = first.to_ne_bytes();
        let [e, f, ..] = second.to_ne_bytes();
        let (sport_be, dport_be) = match inner.proto {
            TCP | UDP => (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])),
            icmp if icmp == A::ICMP && a == A::ECHO[0] => (u16::from_ne_bytes([e, f]), 0),
            icmp if icmp == A::ICMP && a == A::ECHO[1] => (0, u16::from_ne_bytes([e, f])),
            _ => return None,
        };
        Some(Self {
            saddr: outer.saddr,
            daddr: outer.daddr,
            sport_be: dport_be,
            dport_be: sport_be,
            quoted_saddr: inner.saddr,
            quoted_daddr: inner.daddr,
            proto: inner.proto,
            tos: outer.tos,
            ttl: outer.ttl,
            l3: l3 as u8,
        })
    }

    /// The key in `scope` of the flow's entry for this direction.
    #[inline(always)]
    pub fn key(&self, scope: u32) -> FlowKey<A> {
        FlowKey {
            saddr: self.quoted_daddr,
            daddr: self.quoted_saddr,
            sport_be: self.sport_be,
            dport_be: self.dport_be,
            scope,
            proto: self.proto.into(),
            pad: 0,
        }
    }

    /// Offset of the error's own IP header.
    #[inline(always)]
    pub const fn l3(&self) -> usize {
        self.l3 as usize
    }

    /// Offset of the ICMP header.
    #[inline(always)]
    pub const fn icmp(&self) -> usize {
        self.l3() + A::HEADER
    }

    /// Offset of the quoted IP header.
    #[inline(always)]
    pub const fn quote(&self) -> usize {
        self.icmp() + QUOTE
    }
}
