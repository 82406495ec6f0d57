//! Flows whose source address the node has lost: answers to it do not arrive here any more; pure.

use super::flows::FlowEntry;
use super::image::Image;
use clovisor_common::abi::{FLOW_MARK, FLOW_NAT, LINK_MARK, LINK_NAT};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The addresses that flows can have, and the links whose flows have lost theirs.
#[derive(Clone, Debug)]
pub(super) struct LostSources {
    own: BTreeSet<IpAddr>,
    /// Link and "is IPv4": the stack translates what the link carries, and to what address is not in the flow's entries.
    marked: BTreeSet<(u8, bool)>,
}

impl LostSources {
    /// What `new` lacks of the addresses of `old`; none where nothing is lost. Without `old`, an earlier agent's flows may have any.
    pub(super) fn between(old: Option<&Image>, new: &Image) -> Option<Self> {
        let lost = |old: &Image| old.own.difference(&new.own).next().is_some();
        // Of a node without addresses nothing is known.
        if new.own.is_empty() || !old.is_none_or(lost) {
            return None;
        }
        let mut marked = BTreeSet::new();
        for (id, link) in old.iter().flat_map(|old| &old.links) {
            if link.flags & (LINK_MARK | LINK_NAT) == LINK_MARK | LINK_NAT {
                let sources = [IpAddr::from(link.source4), IpAddr::from(link.source6)];
                let gone = sources.iter().filter(|ip| !ip.is_unspecified() && !new.own.contains(ip));
                marked.extend(gone.map(|ip| (*id, ip.is_ipv4())));
            }
        }
        Some(Self { own: new.own.as_ref().clone(), marked })
    }

    /// The flow has an address that the node does not have.
    pub(super) fn has(&self, flow: &FlowEntry) -> bool {
        let (state, source) = (&flow.forward, flow.translated_source.ip());
        match state.flags & (FLOW_NAT | FLOW_MARK) {
            FLOW_NAT => !self.own.contains(&source),
            both if both == FLOW_NAT | FLOW_MARK => self.marked.contains(&(state.link, source.is_ipv4())),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::teardown::tests::flow;
    use super::*;
    use clovisor_common::abi::Link;
    use std::net::SocketAddr;
    use std::sync::Arc;

    fn image(own: &[[u8; 4]], flags: u32) -> Image {
        let link = Link { flags, source4: [10, 9, 0, 2], ..Link::NONE };
        let own: BTreeSet<IpAddr> = own.iter().map(|ip| IpAddr::from(*ip)).collect();
        Image { links: [(1, link)].into(), own: Arc::new(own), ..Image::default() }
    }

    const A: [u8; 4] = [10, 9, 0, 2];
    const B: [u8; 4] = [10, 9, 0, 3];

    #[test]
    fn flows_of_an_address_that_is_gone() {
        let of = |flags, source: [u8; 4]| {
            let mut flow = flow(false, 0);
            (flow.forward.flags, flow.forward.link) = (flags, 1);
            flow.translated_source = SocketAddr::from((source, 7));
            flow
        };
        let nat = |old: Option<&Image>, new: &Image, source| {
            LostSources::between(old, new).is_some_and(|lost| lost.has(&of(FLOW_NAT, source)))
        };
        let (both, last) = (image(&[A, B], LINK_NAT), image(&[B], LINK_NAT));
        assert!(nat(Some(&both), &last, A) && !nat(Some(&both), &last, B));
        assert!(!nat(Some(&last), &both, A), "one more");
        assert!(nat(None, &last, A) && !nat(None, &both, A), "an earlier agent's");
        assert!(!nat(Some(&both), &image(&[], LINK_NAT), A), "nothing is known");
        let lost = |old: &Image| LostSources::between(Some(old), &last).unwrap_or_else(|| panic!("none"));
        let translated = lost(&both);
        assert!(!translated.has(&of(0, A)) && !translated.has(&of(FLOW_MARK, A)), "not translated");
        assert!(!translated.has(&of(FLOW_NAT | FLOW_MARK, [10, 244, 0, 5])), "the link does not mark");
        let marks = lost(&image(&[A, B], LINK_NAT | LINK_MARK));
        assert!(marks.has(&of(FLOW_NAT | FLOW_MARK, [10, 244, 0, 5])));
    }
}
