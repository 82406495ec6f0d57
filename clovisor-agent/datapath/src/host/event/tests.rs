use super::*;
use rtnetlink::packet_route::neighbour::NeighbourHeader;
use rtnetlink::packet_route::route::RouteProtocol;

fn said(message: RouteNetlinkMessage) -> Option<NetEvent> {
    event(&NetlinkMessage::from(message))
}

fn link(family: AddressFamily, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = 7;
    link.header.interface_family = family;
    link.attributes = attributes;
    link
}

#[test]
fn only_whole_messages_describe_a_device() {
    let (name, mtu) = (LinkAttribute::IfName("s9".into()), LinkAttribute::Mtu(1500));
    let whole = || vec![name.clone(), mtu.clone()];
    let is_device =
        |message| matches!(said(RouteNetlinkMessage::NewLink(message)), Some(NetEvent::Device(_)));
    assert!(is_device(link(AddressFamily::Unspec, whole())));
    assert!(!is_device(link(AddressFamily::Unspec, vec![name.clone()])), "of a wireless device");
    assert!(!is_device(link(AddressFamily::Bridge, whole())), "of a bridge's port");
    let gone = |family| said(RouteNetlinkMessage::DelLink(link(family, whole())));
    assert_eq!(gone(AddressFamily::Unspec), Some(NetEvent::DeviceGone(7)));
    assert_eq!(gone(AddressFamily::Bridge), None, "it only left the bridge");
}

#[test]
fn a_neighbour_is_what_its_state_says() {
    let told = |state, mac: &[u8], flags| {
        let mut message = NeighbourMessage::default();
        message.header = NeighbourHeader { family: AddressFamily::Inet, state, flags, ..message.header };
        let to = NeighbourAddress::Inet(Ipv4Addr::new(192, 0, 2, 1));
        message.attributes =
            vec![NeighbourAttribute::Destination(to), NeighbourAttribute::LinkLayerAddress(mac.into())];
        match said(RouteNetlinkMessage::NewNeighbour(message)) {
            Some(NetEvent::Neighbour(_, _, entry)) => Some(entry.map(|(_, reachability)| reachability)),
            _ => None,
        }
    };
    let none = NeighbourFlags::empty();
    for (state, mac, flags, expected) in [
        (NeighbourState::Stale, &[2, 0][..], none, Some(Some(Reachability::Known))),
        (NeighbourState::Permanent, &[2, 0], none, Some(Some(Reachability::Known))),
        (NeighbourState::Noarp, &[2, 0], none, Some(Some(Reachability::Known))),
        (NeighbourState::Noarp, &[0x33, 0x33], none, Some(None)),
        (NeighbourState::Incomplete, &[], none, Some(Some(Reachability::Asked))),
        (NeighbourState::Failed, &[], none, Some(Some(Reachability::Failed))),
        (NeighbourState::None, &[], none, Some(None)),
        (NeighbourState::Stale, &[2, 0], NeighbourFlags::Proxy, None),
    ] {
        assert_eq!(told(state, mac, flags), expected, "{state:?} {mac:?}");
    }
}

#[test]
fn only_routes_for_all_packets_count() {
    let route = |change: &dyn Fn(&mut RouteMessage)| {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.kind = RouteType::Unicast;
        message.header.protocol = RouteProtocol::Static;
        message.attributes.push(RouteAttribute::Oif(3));
        change(&mut message);
        match said(RouteNetlinkMessage::NewRoute(message)) {
            Some(NetEvent::Route(RouteUpdate::Put { hops, .. })) => Some(hops[0].ifindex),
            _ => None,
        }
    };
    assert_eq!(route(&|_| {}), Some(3));
    assert_eq!(route(&|message| message.header.table = 100), None);
    assert_eq!(route(&|message| message.header.tos = 8), None);
    assert_eq!(route(&|message| message.header.source_prefix_length = 64), None);
    assert_eq!(route(&|message| message.header.kind = RouteType::BlackHole), Some(0), "may replace one");
}

#[test]
fn an_address_says_whether_it_may_be_used() {
    let told = |flags: AddressFlags| {
        let mut message = AddressMessage::default();
        message.header.prefix_len = 64;
        message.attributes = vec![
            AddressAttribute::Address(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2).into()),
            AddressAttribute::Flags(flags),
        ];
        match said(RouteNetlinkMessage::NewAddress(message)) {
            Some(NetEvent::Address(_, address)) => (address.tentative, address.deprecated),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told(AddressFlags::Permanent), (false, false));
    assert_eq!(told(AddressFlags::Tentative), (true, false));
    assert_eq!(told(AddressFlags::Tentative | AddressFlags::Dadfailed), (true, false));
    assert_eq!(told(AddressFlags::Tentative | AddressFlags::Optimistic), (false, true));
    assert_eq!(told(AddressFlags::Deprecated), (false, true));
}
