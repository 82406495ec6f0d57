//! Flows that have nowhere to go for now: neither lost nor moved.

use anyhow::{Context as _, Result, ensure};
use clovisor_common::abi::{LINK_UP, Link, NO_LINK, Reason, SLOT_FOLLOW, SLOT_REFUSE, Slot};
use etherparse::{Icmpv4Type, Icmpv6Type, PacketHeaders, TransportHeader, icmpv4, icmpv6};

use crate::frames::{data, syn};
use crate::machine::{DROP, LINK, Machine, REDIRECT, link};

fn opened(v6: bool, flags: u32) -> Result<Machine> {
    let mut machine = Machine::ready()?;
    machine.link(LINK, Link { flags, ..link() })?;
    for shape in [syn(v6), data(v6, 0)] {
        ensure!(machine.run("pod_in", &shape.frame()?)?.verdict == REDIRECT, "the flow was not opened");
    }
    machine.link(LINK, Link { flags: flags & !LINK_UP, ..link() })?;
    Ok(machine)
}

/// The pod is told that the network is unreachable, about its own packet.
fn is_unreachable(frame: &[u8], quoted: &[u8], v6: bool) -> Result<()> {
    let headers = PacketHeaders::from_ethernet_slice(frame)?;
    let payload = headers.payload.slice();
    let as_said = match headers.transport.context("no ICMP")? {
        TransportHeader::Icmpv4(icmp) => {
            ensure!(icmp.checksum == icmp.icmp_type.calc_checksum(payload), "wrong ICMP checksum");
            let net = icmpv4::DestUnreachableHeader::Network;
            !v6 && icmp.icmp_type == Icmpv4Type::DestinationUnreachable(net)
        }
        TransportHeader::Icmpv6(icmp) => {
            let none = icmpv6::DestUnreachableCode::NoRoute;
            v6 && icmp.icmp_type == Icmpv6Type::DestinationUnreachable(none)
        }
        other => anyhow::bail!("not an ICMP error: {other:?}"),
    };
    ensure!(as_said, "another error");
    ensure!(quoted.get(14..14 + payload.len()) == Some(payload), "quotes something else");
    Ok(())
}

/// Until the agent has said which link is next, and while a mapping that refuses has none.
#[test]
fn a_flow_without_any_link_is_held() -> Result<()> {
    for v6 in [false, true] {
        for flags in [LINK_UP, link().flags] {
            for slot in [(LINK, 0), (LINK, SLOT_FOLLOW | SLOT_REFUSE), (NO_LINK, SLOT_REFUSE)] {
                let mut machine = opened(v6, flags)?;
                machine.slot(Slot { flags: slot.1, ..Slot::of(slot.0) })?;
                let frame = data(v6, 100).frame()?;
                let ran = machine.run("pod_in", &frame)?;
                ensure!(ran.verdict == REDIRECT, "v6 {v6}, {slot:?}: verdict {}", ran.verdict);
                is_unreachable(&ran.frame, &frame, v6).with_context(|| format!("v6 {v6}, {slot:?}"))?;
                machine.expect_counted(&[Reason::FlowOpened, Reason::Steered, Reason::FlowHeld])?;
                machine.link(LINK, Link { flags, ..link() })?;
                let again = machine.run("pod_in", &frame)?;
                ensure!(again.verdict == REDIRECT, "v6 {v6}, {slot:?}: not sent when the link is back");
                ensure!(machine.counted(Reason::Steered)? == 2, "v6 {v6}, {slot:?}: not as before");
            }
        }
    }
    Ok(())
}

/// The control: where the default route may be taken, the pod dials again at once.
#[test]
fn a_flow_that_may_take_the_default_route_is_reset() -> Result<()> {
    let mut machine = opened(false, link().flags)?;
    machine.no_link(0)?;
    let ran = machine.run("pod_in", &data(false, 100).frame()?)?;
    ensure!(ran.verdict == REDIRECT, "verdict {}", ran.verdict);
    ensure!(crate::frames::seen(&ran.frame)?.tcp.rst, "no RST");
    machine.expect_counted(&[Reason::FlowOpened, Reason::Steered, Reason::FlowReset])
}

/// A new connection asks the mapping, which refuses.
#[test]
fn a_connection_is_not_opened_without_a_link() -> Result<()> {
    let mut machine = opened(false, link().flags)?;
    machine.no_link(SLOT_REFUSE)?;
    ensure!(machine.run("pod_in", &syn(false).frame()?)?.verdict == DROP, "not refused");
    machine.expect_counted(&[Reason::FlowOpened, Reason::Steered, Reason::NoLinkRefused])
}
