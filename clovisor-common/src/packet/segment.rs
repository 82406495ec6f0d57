//! A parsed packet, by address family.

use super::bytes::Bytes;
use crate::abi::{ExchangeKey, FlowKey, Link, Slot, class_of_dscp};

/// A packet that is not steered: another protocol, cut short, or with headers not parsed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unparsed {
    /// Class 1..=16 that its DSCP carries, or 0.
    pub class: u8,
}

/// The position of a fragment in its packet.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Not fragmented.
    Whole,
    /// The first fragment, with the transport header.
    First,
    /// A later fragment; its ports are those of the first one with the same identification.
    Later,
}

/// The fields of a packet that steering reads.
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
    /// The packet may open a flow: a SYN without ACK, RST and FIN, a datagram, an echo request.
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
    /// Offset in the IP header of the number of what follows it.
    const PROTOCOL: usize;
    /// EtherType as it stands in the packet.
    const ETHER_BE: u16;
    /// Protocol number of the family's ICMP.
    const ICMP: u8;
    /// The flag of a link that is up for the family.
    const LINK_UP: u32;
    /// The checksum of the family's ICMP covers the addresses (RFC 4443, 2.3).
    const ICMP_COVERS_ADDRESSES: bool;
    /// Types of an ICMP echo request and its reply.
    const ECHO: [u8; 2];
    /// Is this the type of an ICMP error, which quotes the packet that it is about?
    fn is_error(kind: u8) -> bool;

    /// Parses a packet whose IP header stands at `l3`.
    ///
    /// # Errors
    /// The packet is of another protocol, truncated, or has headers that are not parsed.
    fn parse<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Result<Segment<Self>, Unparsed>;
    /// Reads the source address of a packet whose IP header stands at `l3`.
    fn source_of<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Self>;
    /// Reads the destination address of such a packet.
    fn destination_of<B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Self>;
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
    /// The slot's link for the family (index of `LINKS`), or `NO_LINK`.
    fn link(slot: &Slot) -> u8;
}

/// The key of `EXCHANGES` for a forward key.
#[inline(always)]
#[must_use]
pub fn exchange_key<A: Address>(of: &FlowKey<A>) -> ExchangeKey {
    let &FlowKey { saddr, daddr, sport_be, dport_be, scope, proto, pad } = of;
    FlowKey { saddr: saddr.mapped(), daddr: daddr.mapped(), sport_be, dport_be, scope, proto, pad }
}

/// An IP header without options or extensions.
#[derive(Clone, Copy, Debug)]
pub struct Plain<A> {
    pub(super) saddr: A,
    pub(super) daddr: A,
    pub(super) proto: u8,
    pub(super) tos: u8,
    pub(super) ttl: u8,
}
