//! The last look before the wire.

use clovisor_common::abi::Reason;

use crate::maps;
use crate::packet::{DROP, PASS, Packet, verdict};
use crate::steer::Family;

/// A packet that leaves by an uplink: stopped when it belongs to a flow that is bound elsewhere, or that should
/// have been translated.
#[inline(never)]
pub(crate) fn guard<A: Family>(packet: &mut Packet, l3: usize, index: u8) -> i32 {
    let Ok(segment) = A::parse(packet, l3) else {
        return PASS;
    };
    let Some(owner) = maps::addr(&segment.saddr.mapped()) else {
        return PASS;
    };
    let Some(flow) = maps::flow(&segment.key(owner.zone)) else {
        return PASS;
    };
    let moved = flow.state.link != index;
    if moved || flow.addr_delta != 0 || flow.port_delta != 0 {
        return verdict(packet, Reason::LeakStopped, DROP);
    }
    PASS
}
