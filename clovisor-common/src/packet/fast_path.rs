//! Parses the common case: whole packets without IP options or extensions, datagrams or segments of an open connection.
//!
//! A subset of [`Address::parse`]: for every packet that this accepts, both return the same segment. All headers are at constant
//! offsets, which saves the programs branches; hence one function a protocol.

use super::transport::{Ip, tcp, udp};
use super::{Address, Bytes, FIN, Fragment, Header6, RST, SYN, Segment, TCP, UDP, header6};

/// Packets in the middle of a flow.
pub trait FastParse: Address {
    /// Offset of the protocol's number in the IP header.
    const PROTO_AT: usize;

    /// Parses such a packet, of protocol `PROTO` ([`TCP`] or [`UDP`]), whose IP header stands at `l3`; `None` for any
    /// other.
    fn parse_fast<const PROTO: u8, B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Segment<Self>>;
}

impl FastParse for [u8; 4] {
    const PROTO_AT: usize = 9;

    #[inline(always)]
    fn parse_fast<const PROTO: u8, B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Segment<Self>> {
        let [w0, w1, w2, saddr, daddr] = bytes.words::<5>(l3)?;
        let ([version, tos, ..], [.., frag_hi, frag_lo]) = (w0.to_ne_bytes(), w1.to_ne_bytes());
        let [ttl, proto, ..] = w2.to_ne_bytes();
        if version != 0x45 || proto != PROTO || (frag_hi & 0x3f | frag_lo) != 0 {
            return None;
        }
        let (saddr, daddr, l4) = (saddr.to_ne_bytes(), daddr.to_ne_bytes(), l3 + Self::HEADER);
        middle::<PROTO, _, _>(bytes, Ip { saddr, daddr, tos, ttl, fragment: Fragment::Whole, id: 0, l3, l4 })
    }
}

impl FastParse for [u8; 16] {
    const PROTO_AT: usize = 6;

    #[inline(always)]
    fn parse_fast<const PROTO: u8, B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Segment<Self>> {
        let Header6 { w0, w1, saddr, daddr } = header6(bytes, l3)?;
        let ([hi, lo, ..], [.., next, ttl]) = (w0.to_ne_bytes(), w1.to_ne_bytes());
        if hi >> 4 != 6 || next != PROTO {
            return None;
        }
        let (saddr, daddr, l4) = (saddr.to_ne_bytes(), daddr.to_ne_bytes(), l3 + Self::HEADER);
        let tos = hi << 4 | lo >> 4;
        middle::<PROTO, _, _>(bytes, Ip { saddr, daddr, tos, ttl, fragment: Fragment::Whole, id: 0, l3, l4 })
    }
}

#[inline(always)]
fn middle<const PROTO: u8, A: Address, B: Bytes + ?Sized>(bytes: &B, ip: Ip<A>) -> Option<Segment<A>> {
    let transport = match PROTO {
        TCP => tcp(bytes, ip.l4).filter(|tcp| tcp.flags & (SYN | FIN | RST) == 0)?,
        UDP => udp(bytes, ip.l4)?,
        _ => return None,
    };
    Some(transport.of(PROTO, ip))
}
