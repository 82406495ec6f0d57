use super::*;
use clovisor_common::abi::{
    FLOW_NAT, FlowState, LINK_NAT, LINK_UP, LINK_UP4, LINK_UP6, Link, NO_LINK, SLOT_REFUSE,
};
use clovisor_common::packet::SYN;

fn state(flags: u16, ack: u32) -> FlowState {
    FlowState {
        created_ns: 0,
        last_seen_ns: 0,
        packets: 1,
        bytes: 0,
        veth: 1,
        slot: 7,
        link: 2,
        class: 1,
        zone: 1,
        flags,
        tcp_flags: SYN | ACK,
        pad: [0; 3],
        jiffies: 0,
        ack_be: ack.to_be(),
    }
}

pub(in super::super) fn flow(v6: bool, flags: u16) -> FlowEntry {
    let at = |v4: &str, v6_text: &str| {
        let text = if v6 { v6_text } else { v4 };
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    };
    let (source, destination) =
        (at("10.1.0.5:4000", "[fd01::5]:4000"), at("192.0.2.9:443", "[2001:db8::9]:443"));
    FlowEntry {
        proto: TCP,
        source,
        destination,
        translated_source: source,
        translated_destination: destination,
        forward: state(flags, 7000),
        reverse: Some(state(flags, 500)),
    }
}

fn link(flags: u32) -> Link {
    Link { ifindex: 9, mtu: 1500, flags, source4: [1; 4], source6: [1; 16], ..Link::NONE }
}

fn image(flags: u32, slot_link: u8, slot_flags: u8) -> Image {
    let slot = Slot { flags: slot_flags, ..Slot::of(slot_link) };
    Image {
        links: [(2, link(flags)), (3, link(LINK_UP))].into(),
        slots: [(7, slot)].into(),
        ..Image::default()
    }
}

#[test]
fn a_connection_that_cannot_move_is_reset_at_what_the_pod_expects() {
    for (v6, header) in [(false, 20), (true, 40)] {
        let told = teardown(&flow(v6, FLOW_NAT), &image(LINK_NAT, 3, 0))
            .unwrap_or_else(|| panic!("nothing is told"));
        assert_eq!((told.resets, told.times, told.packet.len()), (true, 1, header + 20));
        assert_eq!(told.pod, flow(v6, 0).source.ip());
        let tcp = &told.packet[header..];
        assert_eq!(tcp[..4], [1, 187, 15, 160], "from the port that was dialled");
        assert_eq!(tcp[4..8], 7000_u32.to_be_bytes());
        assert_eq!(tcp[13], RST);
    }
}

#[test]
fn only_connections_of_the_family_that_a_link_lost_are_told() {
    for (up, told) in [(LINK_UP6, [true, false]), (LINK_UP4, [false, true]), (LINK_UP, [false, false])] {
        for (flags, flow_flags, resets) in [(LINK_NAT, FLOW_NAT, true), (0, 0, false)] {
            let both = [false, true].map(|v6| teardown(&flow(v6, flow_flags), &image(up | flags, 3, 0)));
            assert_eq!(both.each_ref().map(Option::is_some), told, "{up:#x}");
            assert!(both.iter().flatten().all(|told| told.resets == resets), "{up:#x}");
        }
    }
}

#[test]
fn a_connection_on_a_link_that_its_mapping_lost_is_reset() {
    let mut image = image(LINK_UP | LINK_NAT, 3, 0);
    for (forbidden, told) in [(0, false), (1 << 3, false), (1 << 2, true)] {
        image.slots.entry(7).and_modify(|slot| slot.forbidden = forbidden);
        let teardown = teardown(&flow(false, FLOW_NAT), &image);
        assert_eq!(teardown.is_some_and(|teardown| teardown.resets), told, "{forbidden:b}");
    }
}

#[test]
fn a_connection_that_moves_is_told_to_try_again() {
    for (v6, header) in [(false, 20), (true, 40)] {
        let told = teardown(&flow(v6, 0), &image(0, 3, 0)).unwrap_or_else(|| panic!("nothing is told"));
        assert_eq!((told.resets, told.times), (false, DUPLICATES));
        let icmp = &told.packet[header..];
        assert_eq!(icmp[..2], if v6 { [1, 0] } else { [3, 0] });
        let quoted = &icmp[8 + header..];
        assert_eq!(quoted[..8], [15, 160, 1, 187, 0, 0, 1, 244], "ports and the first unacknowledged byte");
    }
}

#[test]
fn nothing_is_told_where_nothing_is_decided_or_nobody_listens() {
    let quiet =
        |flow: &FlowEntry, image: &Image| assert_eq!(teardown(flow, image), None, "{flow:?} {image:?}");
    quiet(&flow(false, FLOW_NAT), &image(LINK_UP | LINK_NAT, 3, 0));
    quiet(&flow(true, FLOW_NAT), &image(LINK_UP6 | LINK_NAT, 3, 0));
    quiet(&flow(false, FLOW_NAT), &image(LINK_UP4 | LINK_NAT, 3, 0));
    quiet(&flow(false, FLOW_NAT), &image(LINK_NAT, NO_LINK, SLOT_REFUSE));
    quiet(&flow(false, 0), &image(0, 2, 0));
    let udp = FlowEntry { proto: 17, ..flow(false, FLOW_NAT) };
    quiet(&udp, &image(LINK_NAT, 3, 0));
    let unanswered = FlowEntry { reverse: None, ..flow(false, FLOW_NAT) };
    quiet(&unanswered, &image(LINK_NAT, 3, 0));
    let ended = FlowState { tcp_flags: RST | ACK, ..state(FLOW_NAT, 1) };
    quiet(&FlowEntry { forward: ended, ..flow(false, FLOW_NAT) }, &image(LINK_NAT, 3, 0));
}
