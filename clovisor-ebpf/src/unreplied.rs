//! From the unreplied to the replied table: a flood fills only the first.
//!
//! New flows are inserted into an LRU. The first packet that comes back moves both entries to the table of replied flows, from
//! which no flow is displaced. Insert before delete, so that a concurrent lookup always finds the flow.

use clovisor_common::abi::{FLOW_REVERSE, Flow, FlowKey, POD_OPENS, POD_QUOTA, Reason, WINDOW_SHIFT};
use clovisor_common::rule;

use crate::maps::{self, NewFlow, Refused, Stage};
use crate::packet::now;
use crate::rewrite::Family;

/// Moves both entries of a flow, by its reverse entry, to the replied table. Returns the reason why they stay, or `Passed`.
#[inline(never)]
pub(crate) fn promote<A: Family>(key: &FlowKey<A>) -> u32 {
    match try_promote(key) {
        Ok(()) => Reason::Passed as u32,
        Err(reason) => reason as u32,
    }
}

#[inline(always)]
fn try_promote<A: Family>(key: &FlowKey<A>) -> Result<(), Reason> {
    let reverse = maps::unreplied::<A>(key).ok_or(Reason::Passed)?;
    let usage = maps::usage(reverse.state.veth);
    if usage.as_ref().is_some_and(|usage| usage.replied >= POD_QUOTA) {
        return Err(Reason::PodQuota);
    }
    let forward_key = key.paired(reverse);
    let forward = match maps::unreplied(&forward_key) {
        Some(forward) => forward,
        None => restored(key, &forward_key)?,
    };
    keep(key, reverse)?;
    if let Err(full) = keep(&forward_key, forward) {
        maps::forget(Stage::Replied, key);
        return Err(full);
    }
    maps::forget(Stage::Unreplied, &forward_key);
    maps::forget(Stage::Unreplied, key);
    if let Some(usage) = usage {
        usage.replied += 1;
    }
    Ok(())
}

/// Inserts an entry; another CPU may have inserted it at the same time.
#[inline(always)]
fn keep<A: Family>(key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), Reason> {
    match maps::reserve(Stage::Replied, key, flow) {
        Ok(()) | Err(Refused::Taken) => Ok(()),
        Err(Refused::Full) => Err(Reason::FlowTableFull),
    }
}

/// The forward entry of a reverse entry, made again where other flows displaced it.
#[inline(always)]
fn restored<'a, A: Family>(key: &FlowKey<A>, forward_key: &FlowKey<A>) -> Result<&'a Flow<A>, Reason> {
    let reverse = maps::unreplied(key).ok_or(Reason::Passed)?;
    let NewFlow { forward, .. } = A::new_flow().ok_or(Reason::HelperFailed)?;
    forward.state.created_ns = reverse.state.created_ns;
    forward.state.veth = reverse.state.veth;
    forward.state.slot = reverse.state.slot;
    forward.state.link = reverse.state.link;
    forward.state.class = reverse.state.class;
    forward.state.zone = reverse.state.zone;
    forward.state.flags = reverse.state.flags & !FLOW_REVERSE;
    rule::translate(forward, forward_key, key.daddr, key.saddr);
    rule::translate_ports(forward, forward_key, key.dport_be, key.sport_be);
    Ok(forward)
}

/// The pod behind `veth` may open one more flow now; counts it.
#[inline(always)]
pub(crate) fn may_open(veth: u32) -> bool {
    let Some(usage) = maps::usage(veth) else {
        return true;
    };
    let window = (now() >> WINDOW_SHIFT) as u32;
    if usage.window != window {
        (usage.window, usage.opened) = (window, 0);
    }
    usage.opened += 1;
    usage.opened <= POD_OPENS
}
