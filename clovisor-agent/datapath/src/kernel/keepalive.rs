//! Probes of silent connections by a TCP keep-alive (RFC 5382, section 5). A socket answers with an ACK, which its application
//! does not notice and the far end takes for a duplicate. Without a socket the pod's kernel answers with a RST, which ends
//! the flow and the far end's connection. So the state of sockets is known without entering pods.

use super::flows::FlowEntry;
use super::teardown::Injection;
use etherparse::PacketBuilder;
use std::net::SocketAddr;

/// Of a packet for a pod.
const HOPS: u8 = 64;

/// The probe: a segment of the far end that repeats the byte before the next one that the pod expects. None for a flow
/// whose answers were not seen.
#[must_use]
pub fn probe(flow: &FlowEntry) -> Option<Injection> {
    let back = flow.reverse.as_ref()?;
    let (far, pod) = (flow.destination, flow.source);
    let builder = match (far, pod) {
        (SocketAddr::V4(far), SocketAddr::V4(pod)) => {
            PacketBuilder::ipv4(far.ip().octets(), pod.ip().octets(), HOPS)
        }
        (SocketAddr::V6(far), SocketAddr::V6(pod)) => {
            PacketBuilder::ipv6(far.ip().octets(), pod.ip().octets(), HOPS)
        }
        _ => return None,
    };
    let (sequence, acknowledged) =
        (u32::from_be(flow.forward.ack_be).wrapping_sub(1), u32::from_be(back.ack_be));
    // The segment is outside the receiver's window, which reads no more of it than its number.
    let builder = builder.tcp(far.port(), pod.port(), sequence, u16::MAX).ack(acknowledged);
    let mut packet = Vec::with_capacity(builder.size(0));
    builder.write(&mut packet, &[]).ok()?;
    Some(Injection { pod: pod.ip(), packet, times: 1, resets: false })
}

#[cfg(test)]
mod tests {
    use super::super::teardown::tests::flow;
    use super::*;
    use clovisor_common::abi::FLOW_NAT;

    #[test]
    fn a_question_comes_from_what_was_dialled() {
        for v6 in [false, true] {
            let flow = flow(v6, FLOW_NAT);
            let asked = probe(&flow).unwrap_or_else(|| panic!("no probe"));
            let seen = etherparse::PacketHeaders::from_ip_slice(&asked.packet);
            let seen = seen.unwrap_or_else(|error| panic!("{error}"));
            let Some(etherparse::TransportHeader::Tcp(tcp)) = seen.transport else { panic!("{seen:?}") };
            assert_eq!((tcp.source_port, tcp.destination_port), (443, 4000));
            assert_eq!((tcp.sequence_number, tcp.acknowledgment_number), (6999, 500));
            assert!(tcp.ack && !tcp.psh && !tcp.rst && seen.payload.slice().is_empty(), "{tcp:?}");
            assert_eq!(asked.pod, flow.source.ip());
        }
    }
}
