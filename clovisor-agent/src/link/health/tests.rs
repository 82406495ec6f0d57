use super::super::table::Overall;
use super::*;
use clovisor_datapath::host::legacy::LegacyTables;
use clovisor_datapath::host::net::{DeviceAddress, Neighbour};
use clovisor_datapath::host::routes::{HostRoute, Routes};
use clovisor_objects::wan_link::{Gateway, Nat};
use std::net::Ipv4Addr;

const HOP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));

fn spec(device: &str) -> WanLinkSpec {
    WanLinkSpec {
        node_selector: BTreeMap::new(),
        device: Some(device.into()),
        device_selector: None,
        gateway: Gateway::default(),
        nat: Nat::Masquerade,
        mode: Mode::Redirect,
        policy_bypass: PolicyBypass::Refused,
        mtu: None,
        dscp: None,
        state: LinkState::Active,
        peers: Vec::new(),
        allowed_namespaces: Vec::new(),
    }
}

fn default(gateway: Option<IpAddr>, ifindex: u32, metric: u32) -> HostRoute {
    let destination = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    HostRoute { destination, prefix: 0, gateway, ifindex, metric, source: None }
}

fn address(address: IpAddr) -> DeviceAddress {
    DeviceAddress::global(address, 24)
}

fn net() -> HostNet {
    let s9 = Device {
        ifindex: 9,
        name: "s9".into(),
        mtu: 1500,
        carrier: true,
        mac: vec![2, 0, 0, 0, 0, 9],
        addresses: vec![address(Ipv4Addr::new(10, 9, 0, 2).into())],
        ..Device::default()
    };
    HostNet {
        devices: [(9, s9)].into(),
        routes: vec![default(Some(HOP), 9, 0)].into(),
        neighbours: vec![Neighbour {
            address: HOP,
            ifindex: 9,
            mac: vec![1],
            reachability: Reachability::Known,
        }],
        ..HostNet::default()
    }
}

const MARKS: MarkMask = MarkMask(0x7f00_0000);

fn at(ms: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(ms).unwrap_or_else(|e| panic!("{e}"))
}

/// Link s9 at a time when nothing is away any more that `old` waited for.
fn link(spec: &WanLinkSpec, net: &HostNet, old: Option<&LinkEntry>) -> LinkEntry {
    let old = old.map(|old| {
        let long_ago = |lacks: Option<jiff::Timestamp>| lacks.or(Some(at(0)));
        LinkEntry { lacking: PerFamily::each(|family| long_ago(*old.lacking.of(family))), ..old.clone() }
    });
    link_at(spec, net, old.as_ref(), at(60_000))
}

fn link_at(spec: &WanLinkSpec, net: &HostNet, old: Option<&LinkEntry>, now: jiff::Timestamp) -> LinkEntry {
    let place = Place { id: LinkId(0), chosen: None, device: device(spec, net, None) };
    super::link("s9", spec, net, place, (old, now))
}

/// Of IPv4, the only family of [`net`].
fn health(spec: &WanLinkSpec, net: &HostNet) -> Health {
    link(spec, net, None).health.v4
}

fn asked(specs: &BTreeMap<String, Arc<WanLinkSpec>>, net: &HostNet) -> Vec<(IpAddr, String)> {
    let table =
        observe(specs, net, &LinkTable::default(), &Kept::default(), MARKS, jiff::Timestamp::UNIX_EPOCH);
    unresolved(specs, &table, net)
}

#[test]
fn a_link_is_up_when_everything_on_the_way_is() {
    let up = link(&spec("s9"), &net(), None);
    assert_eq!((up.health.v4, up.overall(), up.trouble()), (Health::Up, Overall::Up, None));
    assert_eq!(
        (up.gateway4, up.source4),
        (Some(Ipv4Addr::new(10, 9, 0, 1)), Some(Ipv4Addr::new(10, 9, 0, 2)))
    );
    assert_eq!(up.mtu, 1500);
    type Break = fn(&mut HostNet);
    let rows: [(Break, DownReason); 5] = [
        (|n| n.devices.clear(), DownReason::DeviceMissing),
        (|n| n.devices.values_mut().for_each(|d| d.carrier = false), DownReason::NoCarrier),
        (|n| n.devices.values_mut().for_each(|d| d.addresses.clear()), DownReason::NoAddress),
        (|n| n.routes = Routes::default(), DownReason::GatewayUnknown),
        (|n| n.neighbours.clear(), DownReason::GatewayUnresolved),
    ];
    for (break_it, reason) in rows {
        let mut net = net();
        break_it(&mut net);
        assert_eq!(health(&spec("s9"), &net), Health::Down(reason));
    }
}

const HOP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 1));

/// With IPv6 as well, whose gateway is known too.
fn dual() -> HostNet {
    let mut net = net();
    let own = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 2);
    net.devices.values_mut().for_each(|d| d.addresses.push(address(own.into())));
    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    net.routes.extend([HostRoute { destination: any, ..default(Some(HOP6), 9, 0) }]);
    net.neighbours.push(Neighbour { address: HOP6, ..net.neighbours[0].clone() });
    net
}

fn fail(net: &mut HostNet, gateway: IpAddr) {
    let entries = net.neighbours.iter_mut().filter(|n| n.address == gateway);
    entries.for_each(|n| n.reachability = Reachability::Failed);
}

#[test]
fn families_fail_one_by_one() {
    let (up, dead) = (Health::Up, Health::Down(DownReason::GatewayUnresolved));
    for (failed, v4, v6, overall, trouble) in [
        (&[][..], up, up, Overall::Up, None),
        (&[HOP], dead, up, Overall::Partial, Some("IPv4: the gateway does not answer")),
        (&[HOP6], up, dead, Overall::Partial, Some("IPv6: the gateway does not answer")),
        (&[HOP, HOP6], dead, dead, Overall::Down, Some("the gateway does not answer")),
    ] {
        let mut net = dual();
        failed.iter().for_each(|hop| fail(&mut net, *hop));
        let link = link(&spec("s9"), &net, None);
        assert_eq!((link.health, link.overall()), (PerFamily { v4, v6 }, overall), "{failed:?}");
        assert_eq!((link.source4.is_some(), link.source6.is_some()), (v4 == up, v6 == up), "{failed:?}");
        let said = link.trouble();
        assert_eq!(said.is_some(), trouble.is_some(), "{said:?}");
        assert!(trouble.is_none_or(|words| said.is_some_and(|said| said.starts_with(words))), "{failed:?}");
    }
}

#[test]
fn a_link_lacks_a_family_that_it_had_or_whose_gateway_is_given() {
    let without = |keep: fn(&IpAddr) -> bool| {
        let mut net = dual();
        net.devices.values_mut().for_each(|d| d.addresses.retain(|own| keep(&own.address)));
        net
    };
    let ipv4_only = || without(IpAddr::is_ipv4);
    let fresh = link(&spec("s9"), &net(), None);
    assert_eq!((fresh.overall(), fresh.health.v6), (Overall::Up, Health::Down(DownReason::NoAddress)));
    let had = link(&spec("s9"), &dual(), None);
    let lost = link(&spec("s9"), &ipv4_only(), Some(&had));
    assert_eq!((lost.overall(), lost.usable()), (Overall::Partial, vec![IpFamily::V4]));
    let still = link(&spec("s9"), &ipv4_only(), Some(&lost));
    assert_eq!(still.overall(), Overall::Partial);
    let mut given = spec("s9");
    given.gateway.ipv6 = Some(Ipv6Addr::LOCALHOST);
    assert_eq!(link(&given, &net(), None).overall(), Overall::Partial);
    let ipv6_only = without(IpAddr::is_ipv6);
    let only = link(&spec("s9"), &ipv6_only, None);
    assert_eq!((only.overall(), only.usable()), (Overall::Up, vec![IpFamily::V6]));
    let mut dead = ipv6_only;
    fail(&mut dead, HOP6);
    let link = link(&spec("s9"), &dead, Some(&only));
    let reason = DownReason::GatewayUnresolved;
    assert_eq!((link.overall(), link.faults()), (Overall::Down, vec![(IpFamily::V6, reason)]));
    assert_eq!(link.trouble(), Some(reason.to_string()), "the link's only family need not be named");
}

#[test]
fn a_family_that_an_earlier_agent_had_is_missed() {
    let specs = BTreeMap::from([("s9".to_owned(), Arc::new(spec("s9")))]);
    let observed = |net: &HostNet, kept: &Kept| {
        observe(&specs, net, &LinkTable::default(), kept, MARKS, jiff::Timestamp::UNIX_EPOCH)
    };
    let had = observed(&dual(), &Kept::default()).kept();
    let (lost, never) = (observed(&net(), &had), observed(&net(), &Kept::default()));
    assert_eq!((lost.links["s9"].overall(), never.links["s9"].overall()), (Overall::Partial, Overall::Up));
    assert_eq!(lost.links["s9"].faults(), [(IpFamily::V6, DownReason::NoAddress)]);
    assert_eq!(lost.kept(), had, "and stays so");
}

#[test]
fn a_forgotten_gateway_holds_until_it_fails_to_answer() {
    let up = link(&spec("s9"), &net(), None);
    let rows = [
        (None, Health::Up),
        (Some(Reachability::Asked), Health::Up),
        (Some(Reachability::Known), Health::Up),
    ];
    let failed = (Some(Reachability::Failed), Health::Down(DownReason::GatewayUnresolved));
    for (reach, health) in rows.into_iter().chain([failed]) {
        let mut net = net();
        net.neighbours.clear();
        net.neighbours.extend(reach.map(|reachability| Neighbour {
            address: HOP,
            ifindex: 9,
            mac: vec![1],
            reachability,
        }));
        assert_eq!(link(&spec("s9"), &net, Some(&up)).health.v4, health, "{reach:?}");
    }
}

#[test]
fn the_gateway_may_be_given_and_is_solicited() {
    let mut net = net();
    net.routes = Routes::default();
    net.neighbours.clear();
    let mut spec = spec("s9");
    spec.gateway.ipv4 = Some(Ipv4Addr::new(10, 9, 0, 1));
    assert_eq!(health(&spec, &net), Health::Down(DownReason::GatewayUnresolved));
    let specs = BTreeMap::from([("s9".to_owned(), Arc::new(spec.clone()))]);
    assert_eq!(asked(&specs, &net), [(HOP, "s9".to_owned())]);
    net.neighbours.push(Neighbour {
        address: HOP,
        ifindex: 9,
        mac: vec![1],
        reachability: Reachability::Known,
    });
    assert_eq!(health(&spec, &net), Health::Up);
    assert_eq!(asked(&specs, &net), []);
}

#[test]
fn a_device_without_link_layer_needs_no_gateway() {
    let mut net = net();
    net.routes = Routes::default();
    net.devices.values_mut().for_each(|d| d.l3 = true);
    assert_eq!(health(&spec("s9"), &net), Health::Up);
}

#[test]
fn a_policy_is_bypassed_only_where_that_is_accepted() {
    let at = jiff::Timestamp::UNIX_EPOCH;
    let (none, filter) = (LegacyTables::default(), LegacyTables::listed("filter\n", ""));
    let unread = Health::Down(DownReason::PolicyUnread(filter));
    for (mode, policy_bypass, policy, legacy_tables, health) in [
        (Mode::Redirect, PolicyBypass::Refused, None, none, Health::Up),
        (Mode::Redirect, PolicyBypass::Refused, Some("x"), none, Health::Down(DownReason::PolicyBypassed)),
        (Mode::Redirect, PolicyBypass::Accepted, Some("x"), none, Health::Up),
        (Mode::Mark, PolicyBypass::Refused, Some("x"), none, Health::Down(DownReason::MarkUnrouted)),
        (Mode::Redirect, PolicyBypass::Refused, None, filter, unread),
        (Mode::Redirect, PolicyBypass::Refused, Some("x"), filter, Health::Down(DownReason::PolicyBypassed)),
        (Mode::Redirect, PolicyBypass::Accepted, None, filter, Health::Up),
        (Mode::Mark, PolicyBypass::Refused, None, filter, Health::Down(DownReason::MarkUnrouted)),
    ] {
        let spec = WanLinkSpec { mode, policy_bypass, ..spec("s9") };
        let specs = BTreeMap::from([("s9".to_owned(), Arc::new(spec))]);
        let net = HostNet { forward_policy: policy.map(str::to_owned), legacy_tables, ..net() };
        let seen = observe(&specs, &net, &LinkTable::default(), &Kept::default(), MARKS, at);
        assert_eq!(
            seen.links["s9"].health.v4, health,
            "{mode:?} {policy_bypass:?} {policy:?} {legacy_tables}"
        );
    }
}

/// What to do about it is part of the reason, and its code is one word.
#[test]
fn unread_tables_are_named_with_a_remedy() {
    let reason = DownReason::PolicyUnread(LegacyTables::listed("filter\n", "raw\n"));
    let words = reason.to_string();
    for part in ["iptable_filter, ip6table_raw", "mode: Mark", "policyBypass: Accepted", "modprobe -r"] {
        assert!(words.contains(part), "{words}");
    }
    assert_eq!(reason.name(), "PolicyUnread");
    assert_eq!(DownReason::PolicyBypassed.name(), format!("{:?}", DownReason::PolicyBypassed));
}

#[test]
fn a_link_by_mark_waits_for_its_rule_and_minds_the_reverse_path() {
    let specs = BTreeMap::from([("s9".to_owned(), Arc::new(WanLinkSpec { mode: Mode::Mark, ..spec("s9") }))]);
    let at = jiff::Timestamp::UNIX_EPOCH;
    let observed = |net: &HostNet| {
        observe(&specs, net, &LinkTable::default(), &Kept::default(), MARKS, at).links["s9"].clone()
    };
    let mut net = net();
    assert_eq!(observed(&net).health.v4, Health::Down(DownReason::MarkUnrouted));
    net.fwmark = forwarding(&observed(&net));
    assert_eq!(net.fwmark.len(), 5, "{:?}", net.fwmark);
    assert_eq!(observed(&net).health.v4, Health::Up);
    net.devices.values_mut().for_each(|d| d.strict = true);
    assert_eq!(observed(&net).health.v4, Health::Up, "the default route is its own");
    net.routes = vec![default(Some(HOP), 8, 0)].into();
    assert_eq!(observed(&net).health.v4, Health::Down(DownReason::GatewayUnknown));
    net.routes.extend([default(Some(HOP), 9, 100)]);
    assert_eq!(observed(&net).health.v4, Health::Down(DownReason::StrictReversePath));
}

/// The stack's filter is IPv4's, and rules and tables are each family's own.
#[test]
fn by_mark_each_family_has_its_own_rule() {
    let specs = BTreeMap::from([("s9".to_owned(), Arc::new(WanLinkSpec { mode: Mode::Mark, ..spec("s9") }))]);
    let at = jiff::Timestamp::UNIX_EPOCH;
    let observed = |net: &HostNet| {
        observe(&specs, net, &LinkTable::default(), &Kept::default(), MARKS, at).links["s9"].clone()
    };
    let mut net = dual();
    let all = forwarding(&observed(&net));
    let unrouted = Health::Down(DownReason::MarkUnrouted);
    for (v4, health) in [
        (true, PerFamily { v4: Health::Up, v6: unrouted }),
        (false, PerFamily { v4: unrouted, v6: Health::Up }),
    ] {
        net.fwmark = all.iter().copied().filter(|entry| entry.is_v4() == v4).collect();
        assert_eq!(observed(&net).health, health, "{v4}");
    }
    net.fwmark = all;
    net.devices.values_mut().for_each(|d| d.strict = true);
    let of_network = HostRoute { destination: HOP, prefix: 24, ..default(Some(HOP), 9, 0) };
    let others = net.routes.iter().copied().filter(|route| route.destination.is_ipv6());
    net.routes = others.chain([of_network]).collect();
    let strict = Health::Down(DownReason::StrictReversePath);
    assert_eq!(observed(&net).health, PerFamily { v4: strict, v6: Health::Up });
}

#[test]
fn numbers_stay_and_times_move_with_the_state() {
    let specs = |names: &[&str]| -> BTreeMap<String, Arc<WanLinkSpec>> {
        names.iter().map(|n| ((*n).to_owned(), Arc::new(spec(n)))).collect()
    };
    let one = observe(&specs(&["s9"]), &net(), &LinkTable::default(), &Kept::default(), MARKS, at(1));
    let two = observe(&specs(&["a", "s9"]), &net(), &one, &Kept::default(), MARKS, at(2));
    assert_eq!((two.links["s9"].id, two.links["a"].id), (LinkId(0), LinkId(1)));
    assert_eq!(two.links["s9"].since, at(1));
    let three = observe(&specs(&["s9"]), &HostNet::default(), &two, &Kept::default(), MARKS, at(3));
    assert_eq!(three.links["s9"].since, at(3));
}

#[test]
fn only_a_redirect_that_nobody_has_accepted_is_closed_to_a_policed_namespace() {
    let egress_policies = Arc::new(BTreeMap::from([("shop".to_owned(), "deny".to_owned())]));
    for (mode, policy_bypass, closed) in [
        (Mode::Redirect, PolicyBypass::Refused, true),
        (Mode::Redirect, PolicyBypass::Accepted, false),
        (Mode::Mark, PolicyBypass::Refused, false),
    ] {
        let specs =
            BTreeMap::from([("s9".to_owned(), Arc::new(WanLinkSpec { mode, policy_bypass, ..spec("s9") }))]);
        let (before, epoch) = (LinkTable::default(), jiff::Timestamp::UNIX_EPOCH);
        let mut table = observe(&specs, &net(), &before, &Kept::default(), MARKS, epoch);
        close(&mut table, &specs, &egress_policies);
        assert_eq!(
            table.links["s9"].egress_policies.contains_key("shop"),
            closed,
            "{mode:?} {policy_bypass:?}"
        );
    }
}

mod changes;
