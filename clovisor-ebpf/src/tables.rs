//! The maps as the forwarding rule reads them.

use clovisor_common::abi::{
    Addr, AddrKey, ClassKey, DestClasses, DestKey, ExchangeKey, Link, Peer, PeerKey, Slot, SlotIndex,
    Traffic, TrafficKey,
};
use clovisor_common::rule::Tables;

use crate::maps;
use crate::packet::now;

/// The maps, for the rule.
pub(crate) struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn addr(&self, key: &AddrKey) -> Option<Addr> {
        maps::addr(key)
    }

    #[inline(always)]
    fn slot_of(&self, key: &ClassKey) -> Option<SlotIndex> {
        maps::slot_of(key)
    }

    #[inline(always)]
    fn dest(&self, key: &DestKey) -> Option<DestClasses> {
        maps::dest(key)
    }

    #[inline(always)]
    fn traffic(&self, key: &TrafficKey) -> Option<&Traffic> {
        maps::traffic(key)
    }

    #[inline(always)]
    fn local(&self, address: &AddrKey) -> u32 {
        maps::local(address)
    }

    #[inline(always)]
    fn began_outside(&self, key: &ExchangeKey) -> bool {
        maps::exchange(key).is_some_and(|exchange| exchange.began_outside(now()))
    }

    #[inline(always)]
    fn slot(&self, index: SlotIndex) -> Option<Slot> {
        maps::slot(index)
    }

    #[inline(always)]
    fn link(&self, index: u8) -> Option<&Link> {
        maps::link(index)
    }

    #[inline(always)]
    fn peer(&self, key: &PeerKey) -> Option<Peer> {
        maps::peer(key)
    }
}
