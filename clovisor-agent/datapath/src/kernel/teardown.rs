//! Packets to sockets of pods whose connections cannot stay on their link, because the link is down or the mapping does not
//! have it any more.
//!
//! A connection that cannot move gets a RST, so that its application reconnects now and not when it next sends. A connection
//! that moves gets ICMP "network unreachable" about its oldest unacknowledged byte: each undoes one back-off of the
//! retransmission timer (RFC 6069), so that the connection continues on the new link at once. Both are the replies of the kernel
//! half to a packet of the pod, built from a segment that the pod could have sent.

use super::flows::FlowEntry;
use super::image::{Image, wide};
use clovisor_common::abi::{Flow, Slot};
use clovisor_common::packet::{ACK, Address, ETHERNET, RST, TCP};
use clovisor_common::reply::{Frame, IcmpError, Reply};
use clovisor_common::rule::{Disposition, disposition, movable, stays};
use std::net::{IpAddr, SocketAddr};

/// ICMP errors to send; each undoes one back-off of the timer. Four cover a link that was silent for three seconds.
const DUPLICATES: usize = 4;

/// IP packets for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    pub pod: IpAddr,
    pub packet: Vec<u8>,
    pub times: usize,
    /// The connection ends with it.
    pub resets: bool,
}

/// The packets for a flow by the maps of `image`; none if the flow stays on its link or is held.
#[must_use]
pub fn teardown(flow: &FlowEntry, image: &Image) -> Option<Injection> {
    injection(flow, image, false)
}

/// The reset of a connection that cannot go on, whatever its link could do; none if it is no answered connection.
#[must_use]
pub(super) fn reset(flow: &FlowEntry, image: &Image) -> Option<Injection> {
    injection(flow, image, true)
}

fn injection(flow: &FlowEntry, image: &Image, ends: bool) -> Option<Injection> {
    match (flow.source, flow.destination) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            let packet = segment4(flow, from.ip().octets(), to.ip().octets());
            about::<[u8; 4]>(flow, image, &packet, ends)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            let packet = segment6(flow, from.ip().octets(), to.ip().octets());
            about::<[u8; 16]>(flow, image, &packet, ends)
        }
        _ => None,
    }
}

/// `ends`: the connection is reset in any case.
fn about<A: Reply>(flow: &FlowEntry, image: &Image, packet: &[u8], ends: bool) -> Option<Injection> {
    let (state, back) = (&flow.forward, flow.reverse.as_ref()?);
    let answered =
        (state.tcp_flags & back.tcp_flags & ACK) != 0 && (state.tcp_flags | back.tcp_flags) & RST == 0;
    let link = image.links.get(&state.link);
    let slot = image.slots.get(&u32::from(state.slot)).copied().unwrap_or(Slot::NONE);
    if flow.proto != TCP || !answered || !ends && stays::<A>(link, state, slot) {
        return None;
    }
    let segment = A::parse(packet, ETHERNET).ok()?;
    let mut frame: Frame = [0; 112];
    let movable = movable(image, &segment.key(state.veth), &entry(flow), slot);
    let decided = if ends { Disposition::Reset } else { disposition::<A>(state, link, slot, movable) };
    let (length, times, resets) = match decided {
        Disposition::Reset => (A::reset(packet, &segment, 0, &mut frame)?, 1, true),
        Disposition::Move(_) => {
            (A::icmp_error(packet, &segment, IcmpError::Unreachable, &mut frame)?, DUPLICATES, false)
        }
        Disposition::Stay | Disposition::Hold => return None,
    };
    let packet = frame.get(ETHERNET..length)?.to_vec();
    Some(Injection { pod: flow.source.ip(), packet, times, resets })
}

/// The forward entry, without its checksum deltas.
fn entry<A: Address>(flow: &FlowEntry) -> Flow<A> {
    let (from, to) = (flow.translated_source, flow.translated_destination);
    Flow {
        saddr: A::unmapped(wide(from.ip())),
        daddr: A::unmapped(wide(to.ip())),
        sport_be: from.port().to_be(),
        dport_be: to.port().to_be(),
        addr_delta: 0,
        port_delta: 0,
        state: flow.forward,
    }
}

/// A segment of the pod that acknowledges all it received, from its first unacknowledged byte on.
fn tcp(flow: &FlowEntry) -> [u8; 20] {
    let mut header = [0; 20];
    let unacknowledged = flow.reverse.as_ref().map_or(0, |back| back.ack_be);
    header[..2].copy_from_slice(&flow.source.port().to_be_bytes());
    header[2..4].copy_from_slice(&flow.destination.port().to_be_bytes());
    header[4..8].copy_from_slice(&unacknowledged.to_ne_bytes());
    header[8..12].copy_from_slice(&flow.forward.ack_be.to_ne_bytes());
    header[12..14].copy_from_slice(&[0x50, ACK]);
    header
}

fn segment4(flow: &FlowEntry, from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let ip = [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0];
    [&[0; ETHERNET][..], &ip, &from, &to, &tcp(flow)].concat()
}

fn segment6(flow: &FlowEntry, from: [u8; 16], to: [u8; 16]) -> Vec<u8> {
    let ip = [0x60, 0, 0, 0, 0, 20, TCP, 64];
    [&[0; ETHERNET][..], &ip, &from, &to, &tcp(flow)].concat()
}

#[cfg(test)]
pub(super) mod tests;
