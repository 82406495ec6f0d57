//! The leak guard: the last check before the wire.

use clovisor_common::abi::Reason;
use clovisor_common::packet::Fragment;

use crate::packet::{DROP, PASS, Packet, verdict_at};
use crate::rewrite::Family;
use crate::{fragment, maps};

/// A packet that leaves by an uplink; dropped when its flow is pinned to another link, or should have been translated.
#[inline(never)]
pub(crate) fn leak_guard<A: Family>(packet: &mut Packet, l3: usize, index: u8) -> i32 {
    // Most packets here have a source address of this node and are not read further.
    let Some(owner) = A::source_of(packet, l3).and_then(|saddr| maps::addr(&saddr.mapped())) else {
        return PASS;
    };
    let Ok(mut segment) = A::parse(packet, l3) else {
        return PASS;
    };
    if segment.fragment == Fragment::Later && !fragment::complete(&mut segment, owner.veth) {
        return PASS;
    }
    let Some(flow) = maps::flow(&segment.key(owner.veth)) else {
        return PASS;
    };
    let moved = flow.state.link != index;
    if moved || flow.addr_delta != 0 || flow.port_delta != 0 {
        return verdict_at(packet, l3, Reason::LeakStopped, DROP);
    }
    PASS
}
