//! Reads the transport header: TCP, UDP, ICMP echo.

use core::hint::black_box;

use super::bytes::{ACK, Bytes, FIN, RST, SYN, TCP, TCP_HEADER, UDP};
use super::segment::{Address, Fragment, Segment};

/// Fields of the IP header.
pub(super) struct Ip<A> {
    pub(super) saddr: A,
    pub(super) daddr: A,
    pub(super) tos: u8,
    pub(super) ttl: u8,
    pub(super) fragment: Fragment,
    pub(super) id: u32,
    pub(super) l3: usize,
    /// Offset of the transport header.
    pub(super) l4: usize,
}

/// Fields of the transport header.
pub(super) struct Transport {
    sport_be: u16,
    dport_be: u16,
    is_new: bool,
    pub(super) flags: u8,
    l4_len: u8,
    ack_be: u32,
}

#[inline(always)]
pub(super) fn transport<A: Address, B: Bytes + ?Sized>(
    bytes: &B,
    proto: u8,
    ip: Ip<A>,
) -> Option<Segment<A>> {
    let transport = match proto {
        TCP | UDP if matches!(ip.fragment, Fragment::Later) => LATER,
        icmp if icmp == A::ICMP && matches!(ip.fragment, Fragment::Later) => LATER,
        TCP => tcp(bytes, ip.l4)?,
        UDP => udp(bytes, ip.l4)?,
        icmp if icmp == A::ICMP => echo(bytes, ip.l4, A::ECHO)?,
        _ => return None,
    };
    Some(transport.of(proto, ip))
}

impl Transport {
    /// Both headers together.
    #[inline(always)]
    pub(super) fn of<A>(self, proto: u8, ip: Ip<A>) -> Segment<A> {
        let Ip { saddr, daddr, tos, ttl, fragment, id, l3, l4 } = ip;
        let Self { sport_be, dport_be, is_new, flags, l4_len, ack_be } = self;
        let (l3, l4) = (l3 as u8, l4 as u8);
        Segment {
            saddr,
            daddr,
            sport_be,
            dport_be,
            proto,
            is_new,
            tos,
            ttl,
            flags,
            l4_len,
            fragment,
            id,
            ack_be,
            l4,
            l3,
        }
    }
}

/// A fragment but the first has no transport header.
const LATER: Transport =
    Transport { sport_be: 0, dport_be: 0, is_new: false, flags: 0, l4_len: 0, ack_be: 0 };

#[inline(always)]
pub(super) fn tcp<B: Bytes + ?Sized>(bytes: &B, l4: usize) -> Option<Transport> {
    let [ports, _, ack_be, w3, _] = bytes.words::<5>(l4)?;
    let [s0, s1, d0, d1] = ports.to_ne_bytes();
    let [offset, flags, ..] = w3.to_ne_bytes();
    let l4_len = (offset >> 4) * 4;
    let (sport_be, dport_be) = (u16::from_ne_bytes([s0, s1]), u16::from_ne_bytes([d0, d1]));
    let is_new = flags & (SYN | ACK | RST | FIN) == SYN;
    (usize::from(l4_len) >= TCP_HEADER).then_some(Transport {
        sport_be,
        dport_be,
        is_new,
        flags,
        l4_len,
        ack_be,
    })
}

#[inline(always)]
pub(super) fn udp<B: Bytes + ?Sized>(bytes: &B, l4: usize) -> Option<Transport> {
    let [ports, _] = bytes.words::<2>(l4)?;
    let [s0, s1, d0, d1] = ports.to_ne_bytes();
    let (sport_be, dport_be) = (u16::from_ne_bytes([s0, s1]), u16::from_ne_bytes([d0, d1]));
    Some(Transport { sport_be, dport_be, is_new: true, flags: 0, l4_len: 8, ack_be: 0 })
}

/// An ICMP echo: the identifier stands for the port of who asks (RFC 5508, 3.1).
#[inline(always)]
fn echo<B: Bytes + ?Sized>(bytes: &B, l4: usize, [request, reply]: [u8; 2]) -> Option<Transport> {
    let [first, second] = bytes.words::<2>(l4)?;
    let ([kind, ..], [i0, i1, ..]) = (first.to_ne_bytes(), second.to_ne_bytes());
    let id = u16::from_ne_bytes([i0, i1]);
    let (sport_be, dport_be) = if kind == request { (id, 0) } else { (0, id) };
    let is_new = kind == request;
    (is_new || kind == reply).then_some(Transport {
        sport_be,
        dport_be,
        is_new,
        flags: 0,
        l4_len: 8,
        ack_be: 0,
    })
}

/// Offset from the TCP header, and value, of the MSS that a SYN offers; `None` without one.
#[inline(always)]
pub fn offered_mss<B: Bytes + ?Sized>(bytes: &B, l4: usize, tcp_len: u8) -> Option<(usize, u16)> {
    const LAST: usize = 56;
    let mut at = TCP_HEADER;
    // Bounded for the kernel's verifier; the option stands first in practice.
    for _ in 0..8 {
        at = usize::from(unknown(at as u8));
        if at > LAST || at + 4 > usize::from(tcp_len) {
            return None;
        }
        let (kind, length) = (bytes.byte(l4 + at)?, bytes.byte(l4 + at + 1)?);
        match kind {
            0 => return None,
            1 => at += 1,
            2 => {
                let mss = u16::from_be_bytes([bytes.byte(l4 + at + 2)?, bytes.byte(l4 + at + 3)?]);
                return Some((at + 2, mss));
            }
            // An option of length zero does not advance; the loop is bounded.
            _ => at += usize::from(length),
        }
    }
    None
}

/// Hides the value from the verifier (spilled and reloaded as part of a larger store), so that iterations of the loop look
/// alike and are pruned.
#[inline(always)]
fn unknown(n: u8) -> u8 {
    #[repr(align(8))]
    struct Stored([u8; 8]);
    black_box(Stored([0, n, 0, 0, 0, 0, 0, 0])).0[1]
}
