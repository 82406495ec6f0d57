//! Source ports of translated flows (RFC 6056, RFC 6888).
//!
//! A tuple of a pod always asks for the same port: the far end, which may still remember the tuple's last connection, sees what it
//! would see without translation, in TCP timestamps too. Another port for the same tuple looks like an old duplicate half the time
//! (PAWS, RFC 7323, section 5; with kernel commit 165573e41f2f each port has a timestamp offset of its own).

use super::translates;
use crate::abi::Link;
use crate::packet::Address;

/// Source ports tried before a first packet is refused.
pub const PORT_TRIES: u16 = 24;

/// The source ports that a flow may leave with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourcePorts {
    /// Host byte order.
    first: u16,
    /// Number of ports, at least one.
    count: u32,
}

/// The pod's own source port (network byte order) where its address leaves too, else the link's range. Under SNAT the
/// pod's own port is never reused: the node's masquerade could have given the same port to another pod's connection.
#[inline(always)]
#[must_use]
pub fn source_ports(own_be: u16, link: &Link) -> SourcePorts {
    if !translates(link) || link.port_max < link.port_min || link.port_min == 0 {
        return SourcePorts { first: u16::from_be(own_be), count: 1 };
    }
    SourcePorts { first: link.port_min, count: u32::from(link.port_max - link.port_min) + 1 }
}

impl SourcePorts {
    /// The place of a port (network byte order); of one outside the range some other.
    #[inline(always)]
    #[must_use]
    pub const fn place_of(self, port_be: u16) -> u32 {
        u16::from_be(port_be).wrapping_sub(self.first) as u32
    }

    /// The port at a place (network byte order).
    #[inline(always)]
    #[must_use]
    pub const fn at(self, place: u32) -> u16 {
        (self.first + (place % self.count) as u16).to_be()
    }
}

/// The place that a pod's address and port (network byte order) have on a link: consecutive ports of a pod have consecutive places,
/// and nobody without `secret` knows where they begin.
#[inline(always)]
#[must_use]
pub fn own_place<A: Address>(secret: u32, saddr: A, sport_be: u16, link: u8) -> u32 {
    let mut hash = secret ^ (link as u32 + 1).wrapping_mul(0x9e37_79b1);
    for word in saddr.mapped().as_chunks::<4>().0 {
        hash = (hash ^ u32::from_ne_bytes(*word)).wrapping_mul(0x85eb_ca6b);
        hash ^= hash >> 15;
    }
    // Half of the range, so that the sum does not wrap: two ports of a pod share a place only where the range is smaller than theirs.
    (hash >> 1) + u16::from_be(sport_be) as u32
}

/// The place of try `n` after the `own` one. First the next place: a client's ports are every second one (Linux takes odd ones only
/// when the even ones are used up), so what another pod's ports left free lies between them. Then places from a random number: the
/// stride is odd, so that consecutive tries do not walk through one block of ports in use.
#[inline(always)]
#[must_use]
pub const fn other_place(own: u32, random: u32, n: u16) -> u32 {
    if n == 0 { own.wrapping_add(1) } else { (random & 0xffff) + n as u32 * 7919 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{LINK_MARK, LINK_NAT, LINK_UP};

    const LINK: Link = Link { flags: LINK_UP | LINK_NAT, port_min: 20_000, port_max: 20_003, ..Link::NONE };
    const POD: [u8; 4] = [10, 244, 0, 9];

    #[test]
    fn translated_ports_are_of_the_range_and_others_the_pods_own() {
        let own = 40_001_u16.to_be();
        let tries =
            (0..PORT_TRIES).flat_map(|n| [0, 1, u32::MAX].map(|random| other_place(random, random, n)));
        let owned = [0, 1, u32::MAX].map(|secret| own_place(secret, POD, u16::MAX, 63));
        for place in tries.chain(owned) {
            let at = |link: &Link| source_ports(own, link).at(place);
            assert!((20_000..=20_003).contains(&u16::from_be(at(&LINK))));
            assert_eq!(at(&Link { flags: LINK_UP, ..LINK }), own);
            assert_eq!(at(&Link { flags: LINK_UP | LINK_NAT | LINK_MARK, ..LINK }), own);
            assert_ne!(at(&Link { port_min: 1, port_max: u16::MAX, ..LINK }), 0);
            for (port_min, port_max) in [(0, 0), (0, 5), (9, 8)] {
                assert_eq!(at(&Link { port_min, port_max, ..LINK }), own);
            }
        }
    }

    #[test]
    fn ports_of_a_pod_have_places_of_their_own() {
        let ports = source_ports(0, &Link { port_min: 1024, port_max: 29_999, ..LINK });
        for secret in [0, 7, u32::MAX, 0xdead_beef] {
            let of = |sport: u16| ports.at(own_place(secret, POD, sport.to_be(), 3));
            let mut taken = [false; 28_976];
            // The ephemeral ports of a pod, by default.
            for sport in 32_768..=60_999 {
                let port = &mut taken[usize::from(u16::from_be(of(sport)) - 1024)];
                assert!(!*port, "{sport} shares its place");
                *port = true;
            }
            assert_eq!(of(40_000), of(40_000), "another port for the same tuple");
            assert_eq!(ports.at(ports.place_of(of(40_000))), of(40_000));
            assert!((1024..30_000).contains(&u16::from_be(ports.at(ports.place_of(u16::from_be(9))))));
        }
    }

    #[test]
    fn pods_links_and_secrets_have_places_of_their_own() {
        let place = |secret, last, link| own_place(secret, [10, 244, 0, last], 40_000_u16.to_be(), link);
        let known = place(0, 0, 0);
        assert!((1..=255).all(|last| place(0, last, 0) != known));
        assert!((1..64).all(|link| place(0, 0, link) != known));
        assert!((1..256).all(|secret| place(secret, 0, 0) != known));
        let wide = |last: u8| own_place(0, u128::to_be_bytes((0xfd00 << 112) | u128::from(last)), 0, 0);
        assert!((1..=255).all(|last| wide(last) != wide(0)));
    }
}
