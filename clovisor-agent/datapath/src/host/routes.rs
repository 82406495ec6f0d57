//! The routes of a snapshot, in an order that answers questions without a walk through all of them.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

/// A unicast route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRoute {
    pub destination: IpAddr,
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
    pub ifindex: u32,
    pub metric: u32,
    /// The source address of the node's own packets on this route (`src`).
    pub source: Option<IpAddr>,
}

impl HostRoute {
    /// The order of [`Routes`].
    pub(super) const fn place(&self) -> (bool, u8, IpAddr, u32) {
        (self.destination.is_ipv6(), self.prefix, self.destination, self.metric)
    }
}

/// Unicast routes of the main table, by family, prefix length, network and metric. Copies share their content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes(Arc<Sorted>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Sorted {
    all: Vec<HostRoute>,
    /// The part of `all` with each prefix length, longest first.
    lengths: Vec<Length>,
    /// Places of the route with a gateway that has the shortest prefix, then the lowest metric, of each device and family.
    gateways: Vec<usize>,
}

#[derive(Debug, PartialEq, Eq)]
struct Length {
    v4: bool,
    prefix: u8,
    part: Range<usize>,
}

impl From<Vec<HostRoute>> for Routes {
    fn from(mut all: Vec<HostRoute>) -> Self {
        all.sort_by_key(HostRoute::place);
        Self::sorted(all)
    }
}

impl FromIterator<HostRoute> for Routes {
    fn from_iter<T: IntoIterator<Item = HostRoute>>(routes: T) -> Self {
        Self::from(routes.into_iter().collect::<Vec<_>>())
    }
}

impl Extend<HostRoute> for Routes {
    fn extend<T: IntoIterator<Item = HostRoute>>(&mut self, routes: T) {
        *self = self.iter().copied().chain(routes).collect();
    }
}

impl Routes {
    /// `all` in the order of [`HostRoute::place`].
    pub(super) fn sorted(all: Vec<HostRoute>) -> Self {
        let mut lengths: Vec<Length> = Vec::new();
        let mut gateways: Vec<usize> = Vec::new();
        let mut last = None;
        for (place, route) in all.iter().enumerate() {
            let v4 = route.destination.is_ipv4();
            match lengths.last_mut() {
                Some(length) if (length.v4, length.prefix) == (v4, route.prefix) => {
                    length.part.end = place + 1
                }
                _ => lengths.push(Length { v4, prefix: route.prefix, part: place..place + 1 }),
            }
            // Most routes of a large node are of one device: of these only the first ones may be the best.
            if route.gateway.is_some() && last != Some((route.ifindex, v4, route.prefix)) {
                last = note_gateway(&all, &mut gateways, place);
            }
        }
        lengths.sort_by_key(|length| Reverse(length.prefix));
        Self(Arc::new(Sorted { all, lengths, gateways }))
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, HostRoute> {
        self.0.all.iter()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.all.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.all.is_empty()
    }

    /// The default routes, IPv4 before IPv6, then by metric.
    pub fn defaults(&self) -> impl Iterator<Item = &HostRoute> {
        let parts = [true, false].into_iter().filter_map(|v4| self.part(v4, 0));
        parts.flatten()
    }

    /// The route through a device that names its gateway: with the shortest prefix, then the lowest metric.
    #[must_use]
    pub fn gateway(&self, ifindex: u32, v4: bool) -> Option<&HostRoute> {
        let routes = self.0.gateways.iter().filter_map(|place| self.0.all.get(*place));
        routes.into_iter().find(|route| route.ifindex == ifindex && route.destination.is_ipv4() == v4)
    }

    /// The route the kernel would take: longest prefix, then lowest metric.
    #[must_use]
    pub fn to(&self, address: IpAddr) -> Option<&HostRoute> {
        let lengths = self.0.lengths.iter().filter(|length| length.v4 == address.is_ipv4());
        lengths.into_iter().find_map(|length| {
            let part = self.0.all.get(length.part.clone())?;
            let network = network(address, length.prefix);
            let first = part.partition_point(|route| route.destination < network);
            part.get(first).filter(|route| route.destination == network)
        })
    }

    fn part(&self, v4: bool, prefix: u8) -> Option<&[HostRoute]> {
        let length = self.0.lengths.iter().find(|length| (length.v4, length.prefix) == (v4, prefix))?;
        self.0.all.get(length.part.clone())
    }
}

/// Notes a route with a gateway if it is the best one of its device and family so far; returns what need not be asked about
/// again: device, family and prefix length.
fn note_gateway(all: &[HostRoute], gateways: &mut Vec<usize>, place: usize) -> Option<(u32, bool, u8)> {
    let route = all.get(place)?;
    let v4 = route.destination.is_ipv4();
    let same = |other: &HostRoute| other.ifindex == route.ifindex && other.destination.is_ipv4() == v4;
    let noted = gateways.iter_mut().find(|noted| all.get(**noted).is_some_and(same));
    match noted {
        None => gateways.push(place),
        Some(noted) => {
            let best = all.get(*noted)?;
            if (route.prefix, route.metric) < (best.prefix, best.metric) {
                *noted = place;
            }
            // A longer prefix is never better, and prefixes come in ascending order.
            if route.prefix > best.prefix {
                return Some((route.ifindex, v4, route.prefix));
            }
        }
    }
    None
}

/// The address with all bits behind the prefix cleared.
pub(super) fn network(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

impl<'a> IntoIterator for &'a Routes {
    type Item = &'a HostRoute;
    type IntoIter = std::slice::Iter<'a, HostRoute>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests;
