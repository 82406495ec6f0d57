extern crate std;

use super::*;
use crate::abi::FlowKey;
use std::vec;
use std::vec::Vec;

const V4: [u8; 44] = [
    0x45, 0x4e, 0, 44, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // IP
    0x9c, 0x41, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 2, 0x60, 0x12, 0, 0, 0, 0, 0, 0, 2, 4, 5,
    0xb4, // TCP with MSS
];

#[test]
fn a_segment_of_ipv4_is_read() {
    let segment = <[u8; 4]>::parse(&V4[..], 0);
    let wanted = Segment {
        saddr: [10, 0, 0, 1],
        daddr: [10, 0, 0, 2],
        sport_be: 40_001_u16.to_be(),
        dport_be: 443_u16.to_be(),
        tos: 0x4e,
        ttl: 64,
        proto: TCP,
        is_new: false,
        flags: SYN | ACK,
        l4_len: 24,
        fragment: Fragment::Whole,
        id: 0,
        ack_be: 2_u32.to_be(),
        l4: 20,
        l3: 0,
    };
    assert_eq!(segment, Ok(wanted));
    assert_eq!(wanted.class(), 5);
}

#[test]
fn every_cut_is_refused() {
    for length in 0..40 {
        assert!(<[u8; 4]>::parse(&V4[..length], 0).is_err(), "{length} bytes");
        assert!(<[u8; 16]>::parse(&V4[..length], 0).is_err(), "{length} bytes");
    }
}

#[test]
fn other_protocols_and_broken_headers_are_refused_with_their_class() {
    for (at, byte) in [(0, 0x44), (0, 0x65), (0, 0x4f), (9, 1), (9, 47), (32, 0x40)] {
        let mut bytes = V4;
        bytes[at] = byte;
        assert_eq!(<[u8; 4]>::parse(&bytes[..], 0), Err(Unparsed { class: 5 }), "{byte:#x} at {at}");
    }
}

#[test]
fn datagrams_and_echoes_open_and_replies_do_not() {
    let id = 0x9c41_u16.to_be();
    for (proto, kind, expected) in [
        (UDP, 0x9c, Some((id, 443_u16.to_be(), true))),
        (1, 8, Some((5, 0, true))),
        (1, 0, Some((0, 5, false))),
        (1, 3, None),
        (58, 128, None),
    ] {
        let mut bytes = V4;
        (bytes[9], bytes[20]) = (proto, kind);
        bytes[24..26].copy_from_slice(&5_u16.to_ne_bytes());
        let segment = <[u8; 4]>::parse(&bytes[..28], 0).ok();
        let read = segment.map(|s| (s.sport_be, s.dport_be, s.is_new));
        assert_eq!(read, expected, "protocol {proto}, type {kind}");
        assert!(segment.is_none_or(|s| s.flags == 0 && s.l4_len == 8 && s.proto == proto));
        assert!(<[u8; 4]>::parse(&bytes[..27], 0).is_err(), "cut short");
    }
}

#[test]
fn the_mss_is_found_behind_other_options_and_never_past_the_end() {
    let with = |options: &[u8]| {
        let mut bytes = [0_u8; 60];
        bytes[20..20 + options.len()].copy_from_slice(options);
        bytes
    };
    assert_eq!(offered_mss(&V4[..], 20, 24), Some((22, 1460)));
    assert_eq!(offered_mss(&with(&[1, 1, 2, 4, 5, 0xb4])[..], 0, 28), Some((24, 1460)));
    assert_eq!(
        offered_mss(&with(&[8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4])[..], 0, 36),
        Some((32, 1460))
    );
    assert_eq!(offered_mss(&with(&[0, 2, 4, 5])[..], 0, 28), None);
    assert_eq!(offered_mss(&with(&[3, 0, 0, 0, 0])[..], 0, 60), None);
    assert_eq!(offered_mss(&with(&[3, 255])[..], 0, 60), None);
    assert_eq!(offered_mss(&with(&[1, 1, 1])[..], 0, 20), None);
    assert_eq!(offered_mss(&[0; 21][..], 0, 60), None);
}

#[test]
fn deltas_mend_a_checksum_and_take_themselves_back() {
    let sum = |words: &[u16]| words.iter().map(|w| u32::from(*w)).sum::<u32>();
    for (old, new) in
        [([1, 2], [3, 4]), ([0xffff, 0], [0, 0xffff]), ([0xfffe, 0xffff], [0, 1]), ([7, 7], [7, 7])]
    {
        let rest = 0x1234;
        let field = !fold(rest + sum(&old));
        let change = delta(sum(&old), sum(&new));
        let mended = checksum_after(field, u32::from(change));
        assert_eq!(fold(rest + sum(&new) + u32::from(mended)), 0xffff, "{old:?} to {new:?}");
        let back = checksum_after(mended, u32::from(crate::rule::undone(change)));
        assert_eq!(fold(rest + sum(&old) + u32::from(back)), 0xffff, "{new:?} back to {old:?}");
    }
}

#[test]
fn mapped_addresses_come_back() {
    assert_eq!(<[u8; 4]>::unmapped([10, 1, 2, 3].mapped()), [10, 1, 2, 3]);
    assert_eq!([10, 1, 2, 3].mapped()[10..], [0xff, 0xff, 10, 1, 2, 3]);
}

#[test]
fn a_header_with_options_moves_the_transport_behind_them() {
    let mut bytes = [0; 52];
    bytes[..20].copy_from_slice(&V4[..20]);
    bytes[28..].copy_from_slice(&V4[20..]);
    bytes[0] = 0x47;
    let segment = <[u8; 4]>::parse(&bytes[..], 0).ok();
    let read = segment.map(|s| (s.l4, s.headers(), s.dport_be, s.flags));
    assert_eq!(read, Some((28, 52, 443_u16.to_be(), SYN | ACK)));
    assert!(<[u8; 4]>::parse(&bytes[..44], 0).is_err(), "cut short");
}

#[test]
fn fragments_say_which_one_they_are() {
    for (hi, lo, proto, fragment) in [
        (0x20, 0, UDP, Some(Fragment::First)),
        (0x20, 5, UDP, Some(Fragment::Later)),
        (0x01, 0, TCP, Some(Fragment::Later)),
        (0, 1, 1, Some(Fragment::Later)),
        (0, 1, 47, None),
        (0x40, 0, UDP, Some(Fragment::Whole)),
    ] {
        let mut bytes = V4;
        (bytes[6], bytes[7], bytes[9]) = (hi, lo, proto);
        let segment = <[u8; 4]>::parse(&bytes[..], 0).ok();
        assert_eq!(segment.map(|s| s.fragment), fragment, "{hi:#x} {lo:#x} protocol {proto}");
        let ports =
            segment.filter(|s| s.fragment == Fragment::Later).map(|s| (s.sport_be, s.dport_be, s.is_new));
        assert!(ports.is_none_or(|later| later == (0, 0, false)), "{ports:?}");
        let id = segment.filter(|s| s.fragment != Fragment::Whole).map(|s| s.id);
        assert!(id.is_none_or(|id| id == u32::from(u16::from_ne_bytes([0, 1]))));
    }
}

/// IPv6 with these bytes between its header (whose next header is `next`) and a UDP header.
fn extended(next: u8, between: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0, 0, 0, next, 64];
    bytes.extend([0xfd; 32]);
    bytes.extend(between);
    bytes.extend([0x9c, 0x41, 1, 0xbb, 0, 8, 0, 0]);
    bytes
}

#[test]
fn two_extension_headers_are_walked_through() {
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let fragment = |offset: u8, more: u8| [UDP, 0, 0, offset << 3 | more, 0, 0, 0, 7];
    for (next, between, expected) in [
        (0, options(UDP).to_vec(), Some((48, Fragment::Whole))),
        (60, options(UDP).to_vec(), Some((48, Fragment::Whole))),
        (0, [options(60), options(UDP)].concat(), Some((56, Fragment::Whole))),
        (0, [options(60), options(60), options(UDP)].concat(), None),
        (44, fragment(0, 1).to_vec(), Some((48, Fragment::First))),
        (44, fragment(0, 0).to_vec(), Some((48, Fragment::Whole))),
        (0, [options(44), fragment(3, 0)].concat(), Some((56, Fragment::Later))),
        (43, options(UDP).to_vec(), None),
        (0, vec![UDP, 9, 0, 0, 0, 0, 0, 0], None),
    ] {
        let bytes = extended(next, &between);
        let segment = <[u8; 16]>::parse(&bytes[..], 0).ok();
        assert_eq!(segment.map(|s| (s.l4, s.fragment)), expected, "{next} {between:?}");
        assert!(segment.is_none_or(|s| s.fragment == Fragment::Later || s.dport_be == 443_u16.to_be()));
    }
}

#[test]
fn an_error_is_known_by_what_it_quotes() {
    let mut bytes =
        vec![0x45, 0, 0, 56, 0, 1, 0, 0, 64, 1, 0, 0, 192, 0, 2, 1, 10, 0, 0, 1, 3, 4, 0, 0, 0, 0, 5, 20];
    bytes.extend(&V4[..28]);
    let quoted = Quoted::<[u8; 4]>::parse(&bytes[..], 0);
    let key = quoted.map(|q| q.key(9));
    let wanted = FlowKey {
        saddr: [10, 0, 0, 2],
        daddr: [10, 0, 0, 1],
        sport_be: 443_u16.to_be(),
        dport_be: 40_001_u16.to_be(),
        scope: 9,
        proto: TCP.into(),
        pad: 0,
    };
    assert_eq!(key, Some(wanted));
    assert_eq!(quoted.map(|q| (q.icmp(), q.quote())), Some((20, 28)));
    for (at, byte) in [(0, 0x46), (9, 17), (20, 8), (28, 0x46), (35, 1), (37, 47)] {
        let mut other = bytes.clone();
        other[at] = byte;
        assert_eq!(Quoted::<[u8; 4]>::parse(&other[..], 0), None, "{byte:#x} at {at}");
    }
    assert_eq!(Quoted::<[u8; 4]>::parse(&bytes[..55], 0), None, "cut short");
}
