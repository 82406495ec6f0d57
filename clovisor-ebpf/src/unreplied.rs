//! From the unreplied to the replied table, and back when the connection ends: a flood fills only the first.
//!
//! New flows are inserted into an LRU. The first packet that comes back moves both entries to the table of replied flows, from
//! which no flow is displaced. An ended connection moves back: its last packets find it there, and its source port stays reserved while
//! the far end may remember it. Insert before delete, so that a concurrent lookup always finds the flow.

use clovisor_common::abi::{FLOW_ENDED, FLOW_REVERSE, Flow, FlowKey, POD_QUOTA, Reason};
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
    if reverse.state.flags & FLOW_ENDED != 0 {
        return Ok(());
    }
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

/// Moves both entries of a connection that has ended, by either key, back among the unreplied ones: they leave the pod's quota and
/// make room for others. Returns a number because a BPF function does.
#[inline(never)]
pub(crate) fn end<A: Family>(key: &FlowKey<A>) -> u32 {
    match try_end(key) {
        Some(()) => 1,
        None => 0,
    }
}

#[inline(always)]
fn try_end<A: Family>(key: &FlowKey<A>) -> Option<()> {
    let flow = maps::replied(key)?;
    let other_key = key.paired(flow);
    let other = maps::replied(&other_key)?;
    let (forward, reverse) = if flow.state.flags & FLOW_REVERSE == 0 {
        (&flow.state, &other.state)
    } else {
        (&other.state, &flow.state)
    };
    if !rule::has_ended(forward, reverse) {
        return None;
    }
    flow.state.flags |= FLOW_ENDED;
    other.state.flags |= FLOW_ENDED;
    // An entry that finds no place stays: the agent removes it.
    maps::reserve(Stage::Unreplied, key, flow).ok()?;
    maps::reserve(Stage::Unreplied, &other_key, other).ok()?;
    let veth = flow.state.veth;
    maps::forget(Stage::Replied, key);
    maps::forget(Stage::Replied, &other_key);
    let usage = maps::usage(veth)?;
    usage.replied = usage.replied.saturating_sub(1);
    Some(())
}

/// Removes both entries of a connection that has ended, by its reverse entry.
#[inline(always)]
pub(crate) fn displace<A: Family>(key: &FlowKey<A>) {
    if let Some(reverse) = maps::unreplied(key) {
        maps::forget(Stage::Unreplied, &key.paired(reverse));
        maps::forget(Stage::Unreplied, key);
    }
}

/// Removes both entries of a flow, by its forward entry; the tuple is free again. The other half may be of another flow by now, if
/// this one's was displaced.
#[inline(always)]
pub(crate) fn forget<A: Family>(key: &FlowKey<A>, flow: &Flow<A>) {
    let paired = key.paired(flow);
    if maps::replied(&paired).is_some_and(|reverse| rule::is_half_of(&paired, reverse, key)) {
        maps::forget(Stage::Replied, &paired);
    }
    if maps::unreplied(&paired).is_some_and(|reverse| rule::is_half_of(&paired, reverse, key)) {
        maps::forget(Stage::Unreplied, &paired);
    }
    maps::forget(Stage::Replied, key);
    maps::forget(Stage::Unreplied, key);
}

/// The pod behind `veth` may open one more flow now; counts it.
#[inline(always)]
pub(crate) fn may_open(veth: u32) -> bool {
    maps::usage(veth).is_none_or(|usage| usage.may_open(now()))
}
