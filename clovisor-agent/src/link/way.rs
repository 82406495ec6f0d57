//! How packets of one family leave by a link: source address and next hop; pure.
//!
//! What the network does not show any more may be about to come back: a lease that is renewed takes address and default
//! route away for a moment. A link that was usable keeps them for [`GRACE`] while its carrier stays.

use super::source_address::{has, is_tentative, replaces, source};
use super::table::{DownReason, Health, LinkEntry};
use clovisor_datapath::host::net::{Device, HostNet, Reachability};
use clovisor_datapath::host::routes::HostRoute;
use clovisor_objects::family::IpFamily;
use clovisor_objects::wan_link::{LinkState, WanLinkSpec};
use jiff::{SignedDuration, Timestamp};
use std::net::IpAddr;

/// How long an address, a route or a rule may be away before the link is down.
const GRACE: SignedDuration = SignedDuration::from_secs(2);

/// The same for an address that is back and still tentative: duplicate address detection takes up to two seconds (RFC 4862,
/// section 5.4).
const TENTATIVE: SignedDuration = SignedDuration::from_secs(4);

/// When what is away since `since` is to be looked at next; none: not for this.
pub(super) fn deadline(since: Timestamp, now: Timestamp) -> Option<Timestamp> {
    [GRACE, TENTATIVE].into_iter().map(|time| since + time).find(|at| *at > now)
}

/// How packets leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) source: IpAddr,
    /// None: destinations are on the link.
    pub(super) gateway: Option<IpAddr>,
    /// The gateway that takes the place of `gateway` once it answers.
    pub(super) awaited: Option<IpAddr>,
    /// Source or gateway is one that the network does not show any more.
    pub(super) lacks: bool,
}

/// How packets of a family left the same device before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    source: IpAddr,
    gateway: Option<IpAddr>,
    /// What is away may still come back.
    pub(super) waits: bool,
    /// An address that is back may still become usable.
    waits_for_tentative: bool,
}

impl Before {
    /// Of a link that was usable for the family; none for others.
    pub(super) fn of(
        old: Option<&LinkEntry>,
        device: &Device,
        family: IpFamily,
        now: Timestamp,
    ) -> Option<Self> {
        let old = old.filter(|old| old.ifindex == Some(device.ifindex))?;
        let (source, gateway) = match family {
            IpFamily::V4 => (old.source4.map(IpAddr::V4), old.gateway4.map(IpAddr::V4)),
            IpFamily::V6 => (old.source6.map(IpAddr::V6), old.gateway6.map(IpAddr::V6)),
        };
        let lacking = old.lacking.of(family);
        let within = |time| {
            *old.health.of(family) == Health::Up
                && lacking.is_none_or(|since| now.duration_since(since) < time)
        };
        let (waits, waits_for_tentative) = (within(GRACE), within(TENTATIVE));
        Some(Self { source: source?, gateway, waits, waits_for_tentative })
    }

    /// The old source instead of `found`, which may be none or another kind of address.
    fn holds(&self, found: Option<IpAddr>, net: &HostNet) -> bool {
        let waits = self.waits || self.waits_for_tentative && is_tentative(net, self.source);
        waits && !has(net, self.source) && found.is_none_or(|found| !replaces(found, self.source))
    }
}

/// The way of a family by `device`; `before`: the one that the link had.
///
/// # Errors
/// Why there is none.
pub(super) fn way(
    spec: &WanLinkSpec,
    net: &HostNet,
    device: &Device,
    before: Option<Before>,
    family: IpFamily,
) -> Result<Way, DownReason> {
    if spec.state == LinkState::Disabled {
        return Err(DownReason::Disabled);
    }
    if !device.carrier {
        return Err(DownReason::NoCarrier);
    }
    let found = own_source(spec, net, device, family);
    let held = before.filter(|before| before.holds(found, net));
    let source = held.map(|held| held.source).or(found).ok_or(DownReason::NoAddress)?;
    let way = |gateway, lacks| Way { source, gateway, awaited: None, lacks: lacks || held.is_some() };
    let Some(gateway) = next_hop(spec, net, device, family) else {
        let held = before.filter(|before| before.waits).and_then(|before| before.gateway);
        return match held {
            // Without a link layer there is no next hop to know.
            _ if device.l3 => Ok(way(None, false)),
            Some(held) if answers(net, device, held, before) => Ok(way(Some(held), true)),
            _ => Err(DownReason::GatewayUnknown),
        };
    };
    if device.l3 || device.no_arp || answers(net, device, gateway, before) {
        return Ok(way(Some(gateway), false));
    }
    // The old next hop is given up when the new one is known.
    let old = before.filter(|before| {
        before.gateway.is_some_and(|old| old != gateway && answers(net, device, old, Some(*before)))
    });
    let old = old.ok_or(DownReason::GatewayUnresolved)?;
    let source = if has(net, old.source) { old.source } else { source };
    Ok(Way { source, gateway: old.gateway, awaited: Some(gateway), lacks: held.is_some() })
}

/// `before`: a gateway that was found then holds until it fails to answer. The kernel forgets entries that are not used, and
/// asking again takes a moment.
fn answers(net: &HostNet, device: &Device, gateway: IpAddr, before: Option<Before>) -> bool {
    match reachability(net, device, gateway) {
        Some(Reachability::Known) => true,
        Some(Reachability::Asked) | None => before.is_some_and(|before| before.gateway == Some(gateway)),
        Some(Reachability::Failed) => false,
    }
}

/// What is known of a gateway's link-layer address.
pub(super) fn reachability(net: &HostNet, device: &Device, gateway: IpAddr) -> Option<Reachability> {
    let entry = net.neighbours.iter().find(|n| n.ifindex == device.ifindex && n.address == gateway);
    entry.map(|n| n.reachability)
}

/// The source address of new flows, by what the network shows.
pub(super) fn own_source(
    spec: &WanLinkSpec,
    net: &HostNet,
    device: &Device,
    family: IpFamily,
) -> Option<IpAddr> {
    let gateway = next_hop(spec, net, device, family);
    let route = own_route(net, device, family).filter(|route| gateway.is_none() || route.gateway == gateway);
    source(net, device, route, gateway, family)
}

/// The route of the node by the device: the default route, else the one that names a gateway.
fn own_route<'a>(net: &'a HostNet, device: &Device, family: IpFamily) -> Option<&'a HostRoute> {
    let own =
        |route: &&HostRoute| route.ifindex == device.ifindex && IpFamily::of(route.destination) == family;
    let default = net.routes.defaults().find(own);
    default.or_else(|| net.routes.gateway(device.ifindex, family == IpFamily::V4))
}

/// The gateway of `spec`, else the one that the node's own routes use on the device: of the default route, else of any route.
pub(super) fn next_hop(
    spec: &WanLinkSpec,
    net: &HostNet,
    device: &Device,
    family: IpFamily,
) -> Option<IpAddr> {
    given(spec, family).or_else(|| {
        let route = net.routes.gateway(device.ifindex, family == IpFamily::V4)?;
        route.gateway.filter(|gateway| IpFamily::of(*gateway) == family)
    })
}

/// The gateway of `spec`.
pub(super) fn given(spec: &WanLinkSpec, family: IpFamily) -> Option<IpAddr> {
    match family {
        IpFamily::V4 => spec.gateway.ipv4.map(IpAddr::V4),
        IpFamily::V6 => spec.gateway.ipv6.map(IpAddr::V6),
    }
}
