//! Replies to a pod in the name of the network: a RST for a connection whose link is down, an ICMP error for a packet that
//! cannot be sent.
//!
//! **In**: the offending packet. **Out**: whole frames, checksums complete. **Never**: sends.

use crate::packet::{
    ACK, Address, Bytes, ETHERNET, FIN, ICMP_CHECKSUM, IPV4_BE, IPV6_BE, RST, SYN, Segment, TCP, TCP_HEADER,
    fold,
};
use crate::rule::sum_bytes;

const TTL: u8 = 64;
const ICMP4: u8 = 1;
const ICMP6: u8 = 58;

/// Room for the longest reply.
pub type Frame = [u8; 112];

/// The content of an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// Packet too big; the MTU in bytes.
    TooBig(u32),
    /// Network unreachable (RFC 792), no route to destination (RFC 4443): TCP retransmits sooner than its
    /// back-off says (RFC 6069).
    Unreachable,
}

/// Replies of an address family.
pub trait Reply: Address {
    /// Writes the RST that ends the sender's connection at once (RFC 9293, 3.10.7.1) and returns the frame's length;
    /// `payload` in bytes.
    fn reset<B: Bytes + ?Sized>(
        bytes: &B,
        of: &Segment<Self>,
        payload: u32,
        frame: &mut Frame,
    ) -> Option<usize>;
    /// Writes the ICMP error about the packet and returns the frame's length. It quotes the packet's IP header, as if
    /// that had no options, and 8 bytes of the transport.
    fn icmp_error<B: Bytes + ?Sized>(
        bytes: &B,
        of: &Segment<Self>,
        error: IcmpError,
        frame: &mut Frame,
    ) -> Option<usize>;
}

impl Reply for [u8; 4] {
    #[inline(always)]
    fn reset<B: Bytes + ?Sized>(
        bytes: &B,
        of: &Segment<Self>,
        payload: u32,
        frame: &mut Frame,
    ) -> Option<usize> {
        const L4: usize = ETHERNET + 20;
        ethernet(bytes, frame, IPV4_BE)?;
        header4(frame, of, 40, TCP);
        let sums = of.saddr.sum() + of.daddr.sum();
        put(frame, L4, tcp_reset(bytes, of, payload, sums)?);
        Some(L4 + TCP_HEADER)
    }

    #[inline(always)]
    fn icmp_error<B: Bytes + ?Sized>(
        bytes: &B,
        of: &Segment<Self>,
        error: IcmpError,
        frame: &mut Frame,
    ) -> Option<usize> {
        const L4: usize = ETHERNET + 20;
        /// The quoted IP header, behind the header of the error.
        const QUOTE: usize = L4 + 8;
        const END: usize = QUOTE + 20 + 8;
        ethernet(bytes, frame, IPV4_BE)?;
        header4(frame, of, 56, ICMP4);
        let (code, mtu) = match error {
            IcmpError::TooBig(mtu) => (4, mtu.min(0xffff) as u16),
            IcmpError::Unreachable => (0, 0),
        };
        put(frame, L4, [3, code, 0, 0, 0, 0]);
        put(frame, L4 + 6, mtu.to_be_bytes());
        put(frame, QUOTE, words::<5, 20, B>(bytes, of.l3())?);
        put(frame, QUOTE, [0x45]);
        put(frame, QUOTE + 20, words::<2, 8, B>(bytes, of.l4())?);
        let sum = sum_bytes(frame.get(L4..END)?);
        put(frame, L4 + ICMP_CHECKSUM, (!sum).to_ne_bytes());
        Some(END)
    }
}

impl Reply for [u8; 16] {
    #[inline(always)]
    fn reset<B: Bytes + ?Sized>(
        bytes: &B,
        of: &Segment<Self>,
        payload: u32,
        frame: &mut Frame,
    ) -> Option<usize> {
        const L4: usize = ETHERNET + 40;
        ethernet(bytes, frame, IPV6_BE)?;
        header6(frame, of, 20, TCP);
        let sums = of.saddr.sum() + of.daddr.sum();
        put(frame, L4, tcp_reset(bytes, of, payload, sums)?);
        Some(L4 + TCP_HEADER)
    }

    #[inline(always)]
    fn icmp_error<B: Bytes + ?Sized>(
        bytes: &B,
        of: &Segment<Self>,
        error: IcmpError,
        frame: &mut Frame,
    ) -> Option<usize> {
        const L4: usize = ETHERNET + 40;
        /// The quoted IP header, behind the header of the error.
        const QUOTE: usize = L4 + 8;
        const END: usize = QUOTE + 40 + 8;
        ethernet(bytes, frame, IPV6_BE)?;
        header6(frame, of, 56, ICMP6);
        let (kind, mtu) = match error {
            IcmpError::TooBig(mtu) => (2, mtu),
            IcmpError::Unreachable => (1, 0),
        };
        put(frame, L4, [kind, 0, 0, 0]);
        put(frame, L4 + 4, mtu.to_be_bytes());
        put(frame, QUOTE, words::<10, 40, B>(bytes, of.l3())?);
        put(frame, QUOTE + 6, [of.proto]);
        put(frame, QUOTE + 40, words::<2, 8, B>(bytes, of.l4())?);
        let pseudo = fold(of.saddr.sum() + of.daddr.sum() + be(56) + be(u16::from(ICMP6)));
        let sum = fold(u32::from(sum_bytes(frame.get(L4..END)?)) + u32::from(pseudo));
        put(frame, L4 + ICMP_CHECKSUM, (!sum).to_ne_bytes());
        Some(END)
    }
}

/// A number that the packet holds in network byte order, as a term of a sum of words as they stand in memory.
#[inline(always)]
fn be(number: u16) -> u32 {
    u32::from(number.to_be())
}

#[inline(always)]
fn put<const N: usize>(frame: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(place) = frame.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<N>()) {
        *place = bytes;
    }
}

#[inline(always)]
fn words<const WORDS: usize, const BYTES: usize, B: Bytes + ?Sized>(
    bytes: &B,
    at: usize,
) -> Option<[u8; BYTES]> {
    let words = bytes.words::<WORDS>(at)?;
    let mut out = [0; BYTES];
    for (place, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *place = word.to_ne_bytes();
    }
    Some(out)
}

/// Swaps the two MAC addresses.
#[inline(always)]
fn ethernet<B: Bytes + ?Sized>(bytes: &B, frame: &mut [u8], ether_be: u16) -> Option<()> {
    let [d0, d1, d2, s0, s1, s2] =
        [bytes.half(0)?, bytes.half(2)?, bytes.half(4)?, bytes.half(6)?, bytes.half(8)?, bytes.half(10)?];
    for (i, half) in [s0, s1, s2, d0, d1, d2, ether_be].into_iter().enumerate() {
        put(frame, 2 * i, half.to_ne_bytes());
    }
    Some(())
}

#[inline(always)]
fn header4(frame: &mut [u8], of: &Segment<[u8; 4]>, len: u16, proto: u8) {
    let mut header = [0; 20];
    put(&mut header, 0, [0x45, 0]);
    put(&mut header, 2, len.to_be_bytes());
    put(&mut header, 8, [TTL, proto]);
    put(&mut header, 12, of.daddr);
    put(&mut header, 16, of.saddr);
    let checksum = !sum_bytes(&header);
    put(&mut header, 10, checksum.to_ne_bytes());
    put(frame, ETHERNET, header);
}

#[inline(always)]
fn header6(frame: &mut [u8], of: &Segment<[u8; 16]>, payload: u16, proto: u8) {
    put(frame, ETHERNET, [0x60, 0, 0, 0]);
    put(frame, ETHERNET + 4, payload.to_be_bytes());
    put(frame, ETHERNET + 6, [proto, TTL]);
    put(frame, ETHERNET + 8, of.daddr);
    put(frame, ETHERNET + 24, of.saddr);
}

/// `sums`: the addresses' part of the pseudo header.
#[inline(always)]
fn tcp_reset<A: Address, B: Bytes + ?Sized>(
    bytes: &B,
    of: &Segment<A>,
    payload: u32,
    sums: u32,
) -> Option<[u8; 20]> {
    let [_, seq, ack, ..] = bytes.words::<5>(of.l4())?;
    let (seq, ack) = (u32::from_be(seq), u32::from_be(ack));
    let (seq, ack, flags) = if of.flags & ACK != 0 {
        (ack, 0, RST)
    } else {
        let length = payload + u32::from(of.flags & SYN != 0) + u32::from(of.flags & FIN != 0);
        (0, seq.wrapping_add(length), RST | ACK)
    };
    let mut header = [0; 20];
    put(&mut header, 0, of.dport_be.to_ne_bytes());
    put(&mut header, 2, of.sport_be.to_ne_bytes());
    put(&mut header, 4, seq.to_be_bytes());
    put(&mut header, 8, ack.to_be_bytes());
    put(&mut header, 12, [0x50, flags]);
    let pseudo = fold(sums + be(20) + be(u16::from(TCP)));
    let checksum = !fold(u32::from(sum_bytes(&header)) + u32::from(pseudo));
    put(&mut header, 16, checksum.to_ne_bytes());
    Some(header)
}
