//! Silent connections whose pods are asked for their sockets.

use anyhow::{Context as _, Result, ensure};
use clovisor_common::packet::RST;
use clovisor_datapath::host::raw::RawSockets;
use clovisor_datapath::kernel::flows::FlowEntry;
use clovisor_datapath::kernel::keepalive::probe;
use harness::datapath_site::{DatapathSite, Steered, TOS, Translation};
use harness::eventually::eventually;
use harness::sockets::{PATIENCE, connect};
use std::time::Duration;

use crate::attached::modes;

fn only(steered: &Steered, family: usize) -> Result<FlowEntry> {
    let (flows, _) = steered.flows.read()?;
    let mut own = flows.into_iter().filter(|flow| flow.source.is_ipv6() == (family == 1));
    own.next().context("no flow")
}

/// Asks for the connection as the agent does when it was silent for an hour, and not before.
fn ask(wire: &DatapathSite, steered: &mut Steered, flow: &FlowEntry) -> Result<()> {
    let back = flow.reverse.context("half a flow")?;
    let hour = flow.forward.last_seen_ns.max(back.last_seen_ns) + 3600 * 1_000_000_000;
    let mut silent = |now_ns| Ok::<_, anyhow::Error>(steered.flows.sweep(now_ns, &|_| true)?.silent);
    let early = silent(hour - 1)?;
    ensure!(early.is_empty(), "asked too early: {early:?}");
    let due = silent(hour)?;
    let asked = due.iter().find(|due| due.source == flow.source).and_then(probe).context("not asked")?;
    Ok(wire.edge.within(move || RawSockets::default().send(asked.pod, &asked.packet))??)
}

#[test]
fn a_socket_answers_and_goes_on_and_one_that_is_gone_ends_its_flow() -> Result<()> {
    let wire = DatapathSite::build()?;
    let mut steered = wire.steer(*modes()?.last().context("no way to attach")?, Translation::Nat)?;
    for family in [0, 1] {
        let mut connection = connect(&wire, family, TOS)?;
        connection.round(10_000)?;
        let before = only(&steered, family)?;
        ask(&wire, &mut steered, &before)?;
        let answered = eventually("the socket's answer", PATIENCE, || {
            let flow = only(&steered, family)?;
            ensure!(flow.forward.packets > before.forward.packets, "no packet");
            Ok(flow)
        })?;
        ensure!(answered.forward.tcp_flags & RST == 0, "a socket that is there was refused");
        connection.round(10_000).context("after the question")?;

        // Its RST finds no route: the socket is gone, and nobody knows.
        let default = ["default via 10.9.1.1", "default via fd09:1::1"][family];
        wire.pod.ip(&format!("route del {default}\n"))?;
        socket2::SockRef::from(&connection.pod).set_linger(Some(Duration::ZERO))?;
        drop(connection);
        wire.pod.ip(&format!("route add {default}\n"))?;
        let silent = only(&steered, family)?;
        ensure!(silent.forward.tcp_flags & RST == 0, "the control: the RST was seen");
        ask(&wire, &mut steered, &silent)?;
        eventually("the kernel's answer", PATIENCE, || {
            ensure!(only(&steered, family)?.forward.tcp_flags & RST != 0, "none");
            Ok(())
        })?;
    }
    Ok(())
}
