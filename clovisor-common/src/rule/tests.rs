use super::*;
use crate::abi::{LINK_UP, LINK_UP4, LINK_UP6, NO_LINK};
use crate::packet::SYN;

fn flow(link: u8, tcp_flags: u8) -> FlowState {
    FlowState {
        created_ns: 0,
        last_seen_ns: 0,
        packets: 0,
        bytes: 0,
        veth: 1,
        slot: 0,
        link,
        class: 5,
        zone: 1,
        flags: 0,
        tcp_flags,
        pad: [0; 3],
        jiffies: 0,
        ack_be: 0,
    }
}

fn slot(link: u8, flags: u8) -> Slot {
    Slot { flags, ..Slot::of(link) }
}

const LINK: Link = Link {
    ifindex: 1,
    mtu: 1500,
    wire_dscp: 0,
    pad: 0,
    flags: LINK_UP | LINK_NAT,
    mark: 0,
    mark_mask: 0,
    port_min: 20_000,
    port_max: 20_003,
    gateway4: [0; 4],
    source4: [192, 0, 2, 1],
    gateway6: [0; 16],
    source6: [0; 16],
};

fn barring(link: u8, slot: Slot) -> Slot {
    Slot { forbidden: 1 << link, ..slot }
}

#[test]
fn a_flow_moves_only_when_it_must_or_may() {
    let flow = flow(2, ACK);
    let up = Some(LINK);
    let down = Some(Link { flags: LINK_NAT, ..LINK });
    for (link, slot, movable, wanted) in [
        (up, slot(2, SLOT_FOLLOW), true, Disposition::Stay),
        (up, slot(3, 0), true, Disposition::Stay),
        (up, slot(3, SLOT_FOLLOW), true, Disposition::Move(3)),
        (up, slot(3, SLOT_FOLLOW), false, Disposition::Stay),
        (up, slot(NO_LINK, SLOT_REFUSE), false, Disposition::Stay),
        (down, slot(3, 0), true, Disposition::Move(3)),
        (down, slot(3, SLOT_FOLLOW), false, Disposition::Reset),
        (down, slot(NO_LINK, 0), false, Disposition::Reset),
        (down, slot(NO_LINK, SLOT_REFUSE), false, Disposition::Hold),
        // The agent has not said yet which link is next.
        (down, slot(2, 0), true, Disposition::Hold),
        (None, slot(NO_LINK, 0), false, Disposition::Reset),
        (None, slot(3, SLOT_REFUSE), false, Disposition::Reset),
        (up, barring(2, slot(3, 0)), true, Disposition::Move(3)),
        (up, barring(2, slot(3, 0)), false, Disposition::Reset),
        (up, barring(3, slot(3, 0)), true, Disposition::Stay),
        (up, barring(2, slot(NO_LINK, 0)), false, Disposition::Reset),
        // It will not be the mapping's again when it is up.
        (down, barring(2, slot(NO_LINK, SLOT_REFUSE)), false, Disposition::Reset),
    ] {
        let got = disposition::<[u8; 4]>(&flow, link.as_ref(), slot, movable);
        assert_eq!(got, wanted, "{link:?} {slot:?} {movable}");
    }
    // Up, but not by the stack any more.
    let stack = FlowState { flags: FLOW_MARK, ..flow };
    assert_eq!(disposition::<[u8; 4]>(&stack, up.as_ref(), slot(2, 0), false), Disposition::Reset);
    let by_mark = Link { flags: LINK_UP | LINK_NAT | LINK_MARK, ..LINK };
    for flow in [flow, stack] {
        assert_eq!(disposition::<[u8; 4]>(&flow, Some(&by_mark), slot(2, 0), false), Disposition::Stay);
    }
}

#[test]
fn a_flow_follows_the_link_of_its_own_family() {
    let flow = flow(2, ACK);
    let families = |link4, link6, flags| Slot { link4, link6, flags, ..Slot::NONE };
    let dual = Link { source6: [1; 16], ..LINK };
    let of = |flags: u32| Link { flags: flags | LINK_NAT, ..dual };
    let (both, only4, only6) = (of(LINK_UP), of(LINK_UP4), of(LINK_UP6));
    for (link, slot, movable, wanted) in [
        (both, families(2, 3, SLOT_FOLLOW), [false, true], [Disposition::Stay, Disposition::Move(3)]),
        (both, families(3, 2, 0), [true, false], [Disposition::Stay, Disposition::Stay]),
        (only6, families(3, 2, 0), [true, false], [Disposition::Move(3), Disposition::Stay]),
        (only4, families(2, 3, 0), [false, true], [Disposition::Stay, Disposition::Move(3)]),
        (only6, families(3, 2, 0), [false, false], [Disposition::Reset, Disposition::Stay]),
        (only4, families(2, NO_LINK, 0), [false, false], [Disposition::Stay, Disposition::Reset]),
        (only4, families(2, NO_LINK, SLOT_REFUSE), [false, false], [Disposition::Stay, Disposition::Hold]),
        // The agent has not said yet which link is next for the family that died.
        (only6, families(2, 2, 0), [false, false], [Disposition::Hold, Disposition::Stay]),
        (only4, families(2, 2, 0), [false, false], [Disposition::Stay, Disposition::Hold]),
        // Up, but without an address of IPv6.
        (
            Link { source6: [0; 16], ..both },
            families(2, 3, 0),
            [false, false],
            [Disposition::Stay, Disposition::Reset],
        ),
        (
            both,
            barring(2, families(3, NO_LINK, 0)),
            [true, false],
            [Disposition::Move(3), Disposition::Reset],
        ),
    ] {
        let got = [
            disposition::<[u8; 4]>(&flow, Some(&link), slot, movable[0]),
            disposition::<[u8; 16]>(&flow, Some(&link), slot, movable[1]),
        ];
        assert_eq!(got, wanted, "{link:?} {slot:?} {movable:?}");
    }
}

#[test]
fn only_a_bare_syn_reopens() {
    let segment = |flags, class: u8| Segment {
        saddr: [10, 0, 0, 1],
        daddr: [10, 0, 0, 2],
        sport_be: 0,
        dport_be: 0,
        tos: crate::abi::dscp_of_class(class) << 2,
        ttl: 64,
        proto: 6,
        is_new: flags == SYN,
        flags,
        l4_len: 20,
        fragment: crate::packet::Fragment::Whole,
        id: 0,
        ack_be: 0,
        l4: 34,
        l3: 14,
    };
    for (flags, class, seen, up, wanted) in [
        (SYN, 5, SYN, true, false),
        (SYN, 6, SYN, true, true),
        (SYN, 5, SYN, false, true),
        (SYN, 5, SYN | ACK, true, true),
        (SYN, 5, SYN | RST, true, true),
        (SYN | ACK, 6, SYN | ACK, false, false),
        (ACK, 6, SYN | ACK | FIN, false, false),
    ] {
        assert_eq!(
            reopens(&segment(flags, class), &flow(2, seen), up),
            wanted,
            "{flags} {class} {seen} {up}"
        );
    }
}

#[test]
fn a_connection_ends_by_both_sides_or_by_the_pods_reset() {
    for (out, back, wanted) in [
        (ACK | FIN, ACK | FIN, true),
        (ACK | FIN, ACK, false),
        (ACK, ACK | FIN, false),
        (ACK | RST, ACK, true),
        (ACK, ACK | RST, false),
    ] {
        assert_eq!(has_ended(&flow(2, out), &flow(2, back)), wanted, "{out} {back}");
    }
}

#[test]
fn a_link_carries_a_family_it_has_an_address_for() {
    assert!(carries::<[u8; 4]>(&LINK));
    assert!(!carries::<[u8; 16]>(&LINK));
    assert!(!carries::<[u8; 4]>(&Link { flags: LINK_NAT, ..LINK }));
    let dual = Link { source6: [1; 16], ..LINK };
    assert!(carries::<[u8; 16]>(&dual));
    for (flags, both) in [(LINK_UP4, [true, false]), (LINK_UP6, [false, true]), (LINK_NAT, [false, false])] {
        let link = Link { flags, ..dual };
        assert_eq!([carries::<[u8; 4]>(&link), carries::<[u8; 16]>(&link)], both, "{flags}");
    }
    assert!(!carries::<[u8; 4]>(&Link { ifindex: 0, ..LINK }));
}

#[test]
fn wire_marks_and_mss() {
    assert_eq!(wire_tos(19 << 2 | 3, 46), 46 << 2 | 3);
    assert_eq!(clamped_mss::<[u8; 4]>(1460, 1500), None);
    assert_eq!(clamped_mss::<[u8; 16]>(1460, 1500), Some(1440));
    assert_eq!(clamped_mss::<[u8; 4]>(1460, 0), None);
}
