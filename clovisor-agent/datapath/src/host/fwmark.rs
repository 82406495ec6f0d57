//! Rules and routes for marked packets: reading, adding, removing those of Clovisor.
//!
//! They have a routing protocol number of their own, by which a later agent and `cleanup` recognise them.

use super::net::FwmarkEntry;
use super::netlink::{HostError, request, tolerate};
use nix::libc::{EEXIST, ENODEV, ENOENT, ESRCH};
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `proto` of our rules and routes, as `ip rule` and `ip route` print it.
pub(super) const PROTOCOL: RouteProtocol = RouteProtocol::Other(193);

/// `pref` of our rules: before those of CNI plugins that route by source address.
const PRIORITY: u32 = 1000;

/// Metric of the unreachable route: any other route is preferred.
const LAST: u32 = 0x7fff_ffff;

/// Adds or removes an entry; one that exists already, or is gone already, is no error.
///
/// # Errors
/// Netlink refused.
pub async fn change(what: FwmarkEntry, add: bool) -> Result<(), HostError> {
    let tolerated = if add { &[EEXIST][..] } else { &[ENOENT, ESRCH, ENODEV][..] };
    request(async |handle| {
        let result = match what {
            FwmarkEntry::Rule { .. } if add => {
                let mut request = handle.rule().add();
                *request.message_mut() = rule(what);
                request.execute().await
            }
            FwmarkEntry::Rule { .. } => handle.rule().del(rule(what)).execute().await,
            FwmarkEntry::Route { .. } if add => handle.route().add(route(what)).execute().await,
            FwmarkEntry::Route { .. } => handle.route().del(route(what)).execute().await,
        };
        tolerate(result, tolerated)
    })
    .await
}

/// What to remove and what to add, in this order; a rule stands while its table is filled.
#[must_use]
pub fn changes(found: &BTreeSet<FwmarkEntry>, wanted: &BTreeSet<FwmarkEntry>) -> Vec<(FwmarkEntry, bool)> {
    let is_rule = |what: &FwmarkEntry| matches!(what, FwmarkEntry::Rule { .. });
    let mut remove: Vec<_> = found.difference(wanted).copied().collect();
    remove.sort_by_key(|what| !is_rule(what));
    let mut add: Vec<_> = wanted.difference(found).copied().collect();
    add.sort_by_key(is_rule);
    remove.into_iter().map(|what| (what, false)).chain(add.into_iter().map(|what| (what, true))).collect()
}

fn family(v4: bool) -> AddressFamily {
    if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn rule(what: FwmarkEntry) -> RuleMessage {
    let mut message = RuleMessage::default();
    if let FwmarkEntry::Rule { v4, mark, mask, table } = what {
        message.header.family = family(v4);
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Priority(PRIORITY),
            RuleAttribute::FwMark(mark),
            RuleAttribute::FwMask(mask),
            RuleAttribute::Table(table),
            RuleAttribute::Protocol(PROTOCOL),
        ];
    }
    message
}

fn route(what: FwmarkEntry) -> RouteMessage {
    let FwmarkEntry::Route { v4, table, hop } = what else {
        return RouteMessage::default();
    };
    let mut message = if v4 {
        RouteMessageBuilder::<Ipv4Addr>::new().table_id(table).protocol(PROTOCOL).build()
    } else {
        RouteMessageBuilder::<Ipv6Addr>::new().table_id(table).protocol(PROTOCOL).build()
    };
    match hop {
        None => {
            message.header.kind = RouteType::Unreachable;
            message.attributes.push(RouteAttribute::Priority(LAST));
        }
        Some((ifindex, gateway)) => {
            message.attributes.push(RouteAttribute::Oif(ifindex));
            message.attributes.push(RouteAttribute::Priority(PRIORITY));
            let gateway = gateway.map(|gateway| match gateway {
                IpAddr::V4(v4) => RouteAddress::Inet(v4),
                IpAddr::V6(v6) => RouteAddress::Inet6(v6),
            });
            message.attributes.extend(gateway.map(RouteAttribute::Gateway));
        }
    }
    message
}

/// A rule of ours, from a message.
pub(super) fn rule_of(message: &RuleMessage) -> Option<FwmarkEntry> {
    let v4 = message.header.family == AddressFamily::Inet;
    let (mut mark, mut mask, mut table, mut ours) = (0, u32::MAX, u32::from(message.header.table), false);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::FwMark(value) => mark = *value,
            RuleAttribute::FwMask(value) => mask = *value,
            RuleAttribute::Table(value) => table = *value,
            RuleAttribute::Protocol(protocol) => ours = *protocol == PROTOCOL,
            _ => {}
        }
    }
    ours.then_some(FwmarkEntry::Rule { v4, mark, mask, table })
}

/// A route of a table of ours, from a message.
pub(super) fn route_of(message: &RouteMessage) -> Option<FwmarkEntry> {
    let v4 = message.header.address_family == AddressFamily::Inet;
    let (mut table, mut oif, mut gateway) = (u32::from(message.header.table), None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(value) => table = *value,
            RouteAttribute::Oif(index) => oif = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) => gateway = Some(IpAddr::V4(*v4)),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
            _ => {}
        }
    }
    // An unreachable route of IPv6 has the loopback device.
    let unicast = message.header.kind == RouteType::Unicast;
    let ours = message.header.protocol == PROTOCOL && table != u32::from(RouteHeader::RT_TABLE_MAIN);
    ours.then_some(FwmarkEntry::Route { v4, table, hop: oif.filter(|_| unicast).map(|oif| (oif, gateway)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let hop = |text: &str| text.parse().map_or(None, |ip| Some((7, Some(ip))));
        for what in [
            FwmarkEntry::Rule { v4: true, mark: 0x300_0000, mask: 0x7f00_0000, table: 49410 },
            FwmarkEntry::Rule { v4: false, mark: 0x300_0000, mask: 0x7f00_0000, table: 49410 },
        ] {
            assert_eq!(rule_of(&rule(what)), Some(what));
        }
        for (v4, hop) in
            [(true, None), (true, hop("10.9.0.1")), (false, hop("fd00:9::1")), (true, Some((7, None)))]
        {
            let what = FwmarkEntry::Route { v4, table: 49410, hop };
            assert_eq!(route_of(&route(what)), Some(what));
        }
    }

    #[test]
    fn rules_of_others_are_not_ours() {
        assert_eq!(rule_of(&RuleMessage::default()), None);
        assert_eq!(route_of(&RouteMessage::default()), None);
    }
}
