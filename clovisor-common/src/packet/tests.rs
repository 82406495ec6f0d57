use super::*;

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
        hops: 64,
        proto: TCP,
        opens: false,
        flags: SYN | ACK,
        l4_len: 24,
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
fn fragments_options_and_other_protocols_are_refused_with_their_class() {
    for (at, byte) in [(0, 0x46), (0, 0x65), (6, 0x20), (6, 0x01), (7, 1), (9, 1), (9, 47), (32, 0x40)] {
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
        let read = segment.map(|s| (s.sport_be, s.dport_be, s.opens));
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
