//! Fragments: later ones get the ports of the first one.
//!
//! A pod's own fragments arrive in order. Fragments from a link may be reordered; one that arrives before its first is left to
//! the node's stack, which drops it.

use clovisor_common::abi::{FragmentKey, Ports};
use clovisor_common::packet::Segment;

use crate::maps;
use crate::rewrite::Family;

/// Keeps the ports of a first fragment that is steered; false if there is no room.
#[inline(never)]
pub(crate) fn learn<A: Family>(first: &Segment<A>, scope: u32) -> bool {
    maps::remember(&key(first, scope), Ports { sport_be: first.sport_be, dport_be: first.dport_be })
}

/// Gives a later fragment the ports of its first; false if that one is not known.
#[inline(never)]
pub(crate) fn complete<A: Family>(later: &mut Segment<A>, scope: u32) -> bool {
    let Some(Ports { sport_be, dport_be }) = maps::ports(&key(later, scope)) else {
        return false;
    };
    (later.sport_be, later.dport_be) = (sport_be, dport_be);
    true
}

#[inline(always)]
fn key<A: Family>(of: &Segment<A>, scope: u32) -> FragmentKey {
    let (saddr, daddr) = (of.saddr.mapped(), of.daddr.mapped());
    FragmentKey { saddr, daddr, id: of.id, scope, proto: of.proto.into(), pad: 0 }
}
