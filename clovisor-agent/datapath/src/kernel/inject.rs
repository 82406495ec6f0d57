//! Packets that the agent sends to pods: resets and ICMP errors for connections that cannot stay, keep-alive probes.

use super::flows::{FlowEntry, Flows};
use super::image::Image;
use super::keepalive::probe;
use super::lost::LostSources;
use super::teardown::{Injection, reset, teardown};
use crate::host::raw::RawSockets;
use clovisor_common::packet::RST;
use std::io;
use std::net::IpAddr;

/// Informs the sockets of pods whose connections cannot stay on their link ([`teardown`]), and ends the flows whose source address
/// is in `lost_sources`: connections by a RST, others so that the pod's next packet opens a new flow. `stay`: no link is lost.
pub(super) fn tear_down(flows: &mut Flows, image: &Image, lost_sources: Option<&LostSources>, stay: bool) {
    let (mut sockets, mut resets, mut moves, mut lost, mut reopened) =
        (RawSockets::default(), 0_u32, 0_u32, 0_u32, 0_u32);
    let entries = match flows.read() {
        Ok((entries, _)) => entries,
        Err(error) => {
            tracing::warn!(%error, "idle connections of a lost link or address are not torn down: flows unreadable");
            return;
        }
    };
    for flow in entries {
        let lost_source = lost_sources.is_some_and(|lost| lost.has(&flow));
        let injection = match lost_source {
            true => reset(&flow, image),
            false => (!stay).then(|| teardown(&flow, image)).flatten(),
        };
        let Some(injection) = injection else {
            if lost_source && flow.forward.tcp_flags & RST == 0 {
                flows.remove(&flow);
                reopened += 1;
            }
            continue;
        };
        let mut send = |pod, packet: &[u8]| sockets.send(pod, packet);
        let delivered = match injection.resets {
            true => deliver_reset(&flow, injection, flows, image, &mut send),
            false => deliver(&injection, &mut send).map(|sent| sent.then_some(false)),
        };
        match delivered {
            Ok(Some(true)) => {
                resets += 1;
                if let Err(error) = flows.note_reset(&flow) {
                    tracing::debug!(%error, "an ended flow stays until it is idle for a day");
                }
            }
            Ok(Some(false)) => moves += 1,
            Ok(None) => lost += 1,
            Err(error) => {
                tracing::warn!(%error, "idle connections of a lost link or address are not torn down; CAP_NET_RAW is missing");
                return;
            }
        }
    }
    if resets + moves + lost + reopened > 0 {
        tracing::info!(resets, moves, lost, reopened, "flows of a lost link or address reset or moved");
    }
}

/// Probes the sockets of silent connections; see [`probe`]. Where that fails, flows stay until they were silent for a day.
pub(super) fn probe_silent(silent: &[FlowEntry]) {
    let mut sockets = RawSockets::default();
    for injection in silent.iter().filter_map(probe) {
        if let Err(error) = deliver(&injection, |pod, packet| sockets.send(pod, packet)) {
            tracing::warn!(%error, "silent connections are not probed; CAP_NET_RAW is missing");
            return;
        }
    }
}

/// Resets a connection. A socket takes a RST only at the byte that it expects next (RFC 5961, section 3.2), and may not have
/// acknowledged yet what it got last: it is probed first, and answers with what it expects. Returns true, or none where the pod
/// cannot be reached.
///
/// # Errors
/// As [`deliver`].
fn deliver_reset(
    flow: &FlowEntry,
    injection: Injection,
    flows: &Flows,
    image: &Image,
    mut send: impl FnMut(IpAddr, &[u8]) -> io::Result<()>,
) -> io::Result<Option<bool>> {
    if let Some(probe) = probe(flow) {
        deliver(&probe, &mut send)?;
    }
    // The answer may have ended the flow already.
    let injection = reset(&flows.again(flow), image).unwrap_or(injection);
    deliver(&injection, &mut send).map(|sent| sent.then_some(true))
}

/// Sends the packets of an injection; false where the pod cannot be reached.
///
/// # Errors
/// The agent may not send raw packets.
fn deliver(injection: &Injection, mut send: impl FnMut(IpAddr, &[u8]) -> io::Result<()>) -> io::Result<bool> {
    for _ in 0..injection.times {
        match send(injection.pod, &injection.packet) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            Err(error) => {
                tracing::debug!(pod = %injection.pod, %error, "packet not injected");
                return Ok(false);
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_is_gone_costs_its_own_notice_and_a_missing_right_all() {
        let told =
            Injection { pod: IpAddr::from([10, 0, 0, 1]), packet: Vec::new(), times: 4, resets: false };
        let mut sent = 0;
        let delivered = deliver(&told, |_, _| {
            sent += 1;
            Ok(())
        });
        assert!(matches!(delivered, Ok(true)) && sent == 4);
        for (kind, fatal) in
            [(io::ErrorKind::HostUnreachable, false), (io::ErrorKind::PermissionDenied, true)]
        {
            let delivered = deliver(&told, |_, _| Err(kind.into()));
            assert_eq!(delivered.is_err(), fatal, "{kind}");
            assert!(!matches!(delivered, Ok(true)), "{kind}");
        }
    }
}
