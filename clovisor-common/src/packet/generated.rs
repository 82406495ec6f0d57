//! Generated packets: nothing panics, and what is read is what another parser reads.

extern crate std;

use super::*;
use etherparse::{
    IpFragOffset, IpHeaders, Ipv4Header, Ipv6Header, NetSlice, PacketBuilder, SlicedPacket, TransportSlice,
};
use proptest::prelude::*;
use std::vec::Vec;

/// A packet to build.
#[derive(Clone, Debug)]
struct Recipe {
    source: [u8; 16],
    destination: [u8; 16],
    ports: (u16, u16),
    v6: bool,
    tos: u8,
    ttl: u8,
    /// UDP, an echo, else TCP.
    kind: u8,
    /// Identification, and of some the offset of the fragment.
    offset: u16,
    more: bool,
    flags: u8,
    ack: u32,
    /// Words of TCP options.
    words: usize,
    payload: usize,
}

/// A whole packet from its IP header on.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let tuple = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<(u16, u16)>());
    let header = (any::<bool>(), any::<u8>(), any::<u8>(), 0..4_u8, any::<u16>(), any::<bool>());
    let rest = (any::<u8>(), any::<u32>(), 0..=10_usize, 0..64_usize);
    let recipe = (tuple, header, rest).prop_map(|(tuple, header, rest)| {
        let (source, destination, ports) = tuple;
        let (v6, tos, ttl, kind, offset, more) = header;
        let (flags, ack, words, payload) = rest;
        Recipe { source, destination, ports, v6, tos, ttl, kind, offset, more, flags, ack, words, payload }
    });
    recipe.prop_filter_map("a header that cannot be written", |recipe| built(&recipe))
}

fn headers(recipe: &Recipe) -> Option<IpHeaders> {
    let Recipe { source, destination, v6, tos, ttl, offset, more, .. } = *recipe;
    if v6 {
        let header =
            Ipv6Header { traffic_class: tos, hop_limit: ttl, source, destination, ..Ipv6Header::default() };
        return Some(IpHeaders::Ipv6(header, Default::default()));
    }
    let header = Ipv4Header {
        dscp: (tos >> 2).try_into().ok()?,
        ecn: (tos & 3).try_into().ok()?,
        time_to_live: ttl,
        source: *source.first_chunk()?,
        destination: *destination.first_chunk()?,
        identification: offset,
        fragment_offset: IpFragOffset::try_new(if offset % 3 == 0 { offset % 8192 } else { 0 }).ok()?,
        more_fragments: more && offset % 2 == 0,
        ..Ipv4Header::default()
    };
    Some(IpHeaders::Ipv4(header, Default::default()))
}

fn built(recipe: &Recipe) -> Option<Vec<u8>> {
    let Recipe { ports: (sport, dport), v6, kind, flags, ack, words, payload, .. } = *recipe;
    let (builder, payload) = (PacketBuilder::ip(headers(recipe)?), std::vec![7; payload]);
    let mut out = Vec::new();
    match kind {
        0 => builder.udp(sport, dport).write(&mut out, &payload).ok()?,
        1 if v6 => builder.icmpv6_echo_request(sport, dport).write(&mut out, &payload).ok()?,
        1 => builder.icmpv4_echo_request(sport, dport).write(&mut out, &payload).ok()?,
        _ => {
            let mut header = etherparse::TcpHeader::new(sport, dport, 1, 9);
            (header.fin, header.syn, header.rst) = (flags & FIN != 0, flags & SYN != 0, flags & RST != 0);
            (header.ack, header.acknowledgment_number) = (flags & ACK != 0, ack);
            header.set_options_raw(&std::vec![1; words * 4]).ok()?;
            builder.tcp_header(header).write(&mut out, &payload).ok()?;
        }
    }
    Some(out)
}

/// The same by etherparse; `None` where that finds no transport header.
fn judged(bytes: &[u8]) -> Option<(u16, u16, u8)> {
    match SlicedPacket::from_ip(bytes).ok()?.transport? {
        TransportSlice::Tcp(tcp) => {
            let flag = |set: bool, bit| if set { bit } else { 0 };
            let flags =
                flag(tcp.fin(), FIN) | flag(tcp.syn(), SYN) | flag(tcp.rst(), RST) | flag(tcp.ack(), ACK);
            Some((tcp.source_port(), tcp.destination_port(), flags))
        }
        TransportSlice::Udp(udp) => Some((udp.source_port(), udp.destination_port(), 0)),
        _ => None,
    }
}

fn compare<A: FastParse + std::fmt::Debug>(bytes: &[u8]) -> Result<(), TestCaseError> {
    let parsed = A::parse(bytes, 0);
    for fast in [A::parse_fast::<TCP, _>(bytes, 0), A::parse_fast::<UDP, _>(bytes, 0)].into_iter().flatten() {
        prop_assert_eq!(Ok(fast), parsed);
    }
    if let (Ok(segment), Some((sport, dport, flags))) = (parsed, judged(bytes)) {
        prop_assert_eq!((u16::from_be(segment.sport_be), u16::from_be(segment.dport_be)), (sport, dport));
        prop_assert_eq!(segment.flags & (FIN | SYN | RST | ACK), flags);
        prop_assert!(segment.l4() + usize::from(segment.l4_len) <= bytes.len().max(segment.l4() + 60));
    }
    let _no_panic = (Quoted::<A>::parse(bytes, 0), A::source_of(bytes, 0), A::plain(bytes, 0));
    if let Ok(segment) = parsed {
        let _no_panic = offered_mss(bytes, segment.l4(), segment.l4_len);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
        compare::<[u8; 4]>(&bytes)?;
        compare::<[u8; 16]>(&bytes)?;
    }

    #[test]
    fn whole_packets_are_read_as_others_read_them(bytes in packet()) {
        let v6 = bytes.first().is_some_and(|first| first >> 4 == 6);
        let read = if v6 {
            compare::<[u8; 16]>(&bytes)?;
            <[u8; 16]>::parse(&bytes[..], 0).map(|s| (s.tos, s.ttl, s.fragment))
        } else {
            compare::<[u8; 4]>(&bytes)?;
            <[u8; 4]>::parse(&bytes[..], 0).map(|s| (s.tos, s.ttl, s.fragment))
        };
        let sliced = SlicedPacket::from_ip(&bytes).map_err(|error| TestCaseError::fail(std::format!("{error}")))?;
        let wanted = match sliced.net {
            Some(NetSlice::Ipv4(ip)) => {
                let header = ip.header();
                let fragment = match (header.fragments_offset().value(), header.more_fragments()) {
                    (0, false) => Fragment::Whole,
                    (0, true) => Fragment::First,
                    _ => Fragment::Later,
                };
                (header.dcp().value() << 2 | header.ecn().value(), header.ttl(), fragment)
            }
            Some(NetSlice::Ipv6(ip)) => {
                (ip.header().traffic_class(), ip.header().hop_limit(), Fragment::Whole)
            }
            _ => return Err(TestCaseError::fail("no IP header")),
        };
        prop_assert_eq!(read, Ok(wanted));
    }

    /// A whole packet of which one byte is another, or the end is missing.
    #[test]
    fn broken_packets_are_read_without_a_panic(bytes in packet(), at in 0..120_usize, byte: u8, end in 0..160_usize) {
        let mut bytes = bytes;
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        bytes.truncate(end);
        compare::<[u8; 4]>(&bytes)?;
        compare::<[u8; 16]>(&bytes)?;
    }

    /// RFC 1624: a field mended by deltas is the field summed anew.
    #[test]
    fn a_mended_checksum_is_the_one_of_the_changed_words(words in any::<[u16; 9]>(), changed in any::<[u16; 9]>()) {
        let sum = |words: &[u16]| words.iter().map(|word| u32::from(*word)).sum::<u32>();
        let field = !fold(sum(&words));
        let mended = checksum_after(field, delta(sum(&words), sum(&changed)).into());
        // Zero has two forms.
        prop_assert_eq!(fold(sum(&changed) + u32::from(mended)), 0xffff);
    }
}
