use super::*;

#[test]
fn dscp_and_class_are_inverse() {
    for class in 1..=MAX_CLASSES {
        assert_eq!(class_of_dscp(dscp_of_class(class)), class);
    }
    let carried = (0..64).filter(|d| class_of_dscp(*d) != 0).count();
    assert_eq!(carried, usize::from(MAX_CLASSES));
}

#[test]
fn each_entry_of_a_pair_names_the_other() {
    let state = FlowState {
        created_ns: 0,
        last_seen_ns: 0,
        packets: 0,
        bytes: 0,
        veth: 9,
        slot: 1,
        link: 2,
        class: 3,
        zone: 4,
        flags: FLOW_NAT,
        tcp_flags: 0,
        pad: [0; 3],
        jiffies: 0,
        ack_be: 0,
    };
    let key = Flow4Key {
        saddr: [10, 0, 0, 1],
        daddr: [10, 9, 9, 9],
        sport_be: 1,
        dport_be: 2,
        scope: 9,
        proto: 6,
        pad: 0,
    };
    let forward = Flow4 {
        saddr: [192, 0, 2, 1],
        daddr: [198, 51, 100, 1],
        sport_be: 5,
        dport_be: 6,
        addr_delta: 0,
        port_delta: 0,
        state,
    };
    let reverse_key = key.paired(&forward);
    assert_eq!(reverse_key.scope, REVERSE | 2);
    assert_eq!((reverse_key.saddr, reverse_key.dport_be), ([198, 51, 100, 1], 5));
    let reverse = Flow4 {
        saddr: key.daddr,
        daddr: key.saddr,
        sport_be: key.dport_be,
        dport_be: key.sport_be,
        state: FlowState { flags: FLOW_NAT | FLOW_REVERSE, ..state },
        ..forward
    };
    assert_eq!(reverse_key.paired(&reverse), key);
    let plain = Flow4 { state: FlowState { flags: 0, ..state }, ..forward };
    assert_eq!(key.paired(&plain).scope, REVERSE | ANY_LINK);
}
