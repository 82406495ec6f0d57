//! What comes back by a link, and what must not leave by one.

use anyhow::{Context as _, Result, ensure};
use clovisor_common::abi::{LINK_UP, Link, Reason};

use crate::frames::{Seen, Shape, data, seen, syn};
use crate::machine::{
    DROP, LINK, Machine, PASS, PEER4, PEER6, POD4, POD6, REAL4, REAL6, REDIRECT, SOURCE4, SOURCE6, SPORT,
    VETH, link, mapped, peer,
};

/// A flow through NAT to a peer with another real address, and the SYN-ACK that answers it.
pub(crate) fn answered(v6: bool, flags: u32) -> Result<(Machine, Shape)> {
    let mut machine = Machine::ready()?;
    machine.link(LINK, Link { flags, ..link() })?;
    let (key, value) = if v6 { peer(PEER6, REAL6, LINK) } else { peer(mapped(PEER4), mapped(REAL4), LINK) };
    machine.put("PEERS", key, value)?;
    let out = machine.run("pod_in", &syn(v6).frame()?)?;
    ensure!(out.verdict == REDIRECT, "not steered");
    let out = seen(&out.frame)?;
    let reply = Shape {
        from: Some(out.to),
        to: Some(out.from),
        sport: out.tcp.destination_port,
        dport: out.tcp.source_port,
        dscp: 10,
        ttl: 50,
        flags: "SA",
        ..syn(v6)
    };
    Ok((machine, reply))
}

fn returned(machine: &Machine, reply: &Shape) -> Result<Seen> {
    let ran = machine.run("wan_in", &reply.frame()?)?;
    ensure!(ran.verdict == REDIRECT, "verdict {}", ran.verdict);
    seen(&ran.frame)
}

#[test]
fn an_answer_reaches_the_pod_as_from_what_it_dialled() -> Result<()> {
    for (v6, flags) in [(false, link().flags), (false, LINK_UP), (true, link().flags), (true, LINK_UP)] {
        let (machine, reply) = answered(v6, flags)?;
        for payload in [0, 33, 900] {
            let reply = Shape { payload, ..reply.clone() };
            let before = seen(&reply.frame()?)?;
            let after = returned(&machine, &reply)?;
            let (from, to) =
                if v6 { (PEER6.to_vec(), POD6.to_vec()) } else { (PEER4.to_vec(), POD4.to_vec()) };
            let mut wanted = Seen { from, to, ..before };
            (wanted.tcp.source_port, wanted.tcp.destination_port) = (443, SPORT);
            wanted.tcp.checksum = after.tcp.checksum;
            wanted.tcp.options = after.tcp.options.clone();
            ensure!(after == wanted, "{after:?} instead of {wanted:?}");
        }
        ensure!(machine.counted(Reason::Returned)? == 3, "not counted");
        ensure!(machine.carried()?.1.packets == 3, "not counted on the link");
    }
    Ok(())
}

#[test]
fn the_mss_of_the_answer_is_lowered_too() -> Result<()> {
    for (v6, wanted) in [(false, 1360), (true, 1340)] {
        let (mut machine, reply) = answered(v6, link().flags)?;
        machine.link(LINK, Link { mtu: 1400, ..link() })?;
        ensure!(returned(&machine, &reply)?.mss() == Some(wanted), "v6 {v6}");
    }
    Ok(())
}

#[test]
fn a_nat_flow_is_answered_by_its_link_only_others_by_any() -> Result<()> {
    for (flags, verdict) in [(link().flags, PASS), (LINK_UP, REDIRECT)] {
        let (mut machine, reply) = answered(false, flags)?;
        machine.link(LINK + 1, link())?;
        machine.put("LINK_OF", VETH, u32::from(LINK + 1))?;
        ensure!(machine.run("wan_in", &reply.frame()?)?.verdict == verdict, "link flags {flags}");
    }
    Ok(())
}

#[test]
fn strangers_pass_untouched() -> Result<()> {
    for v6 in [false, true] {
        let (mut machine, reply) = answered(v6, link().flags)?;
        let source = if v6 { SOURCE6.to_vec() } else { SOURCE4.to_vec() };
        let stranger = Shape { to: Some(source), dport: 22, ..reply.clone() }.frame()?;
        let ran = machine.run("wan_in", &stranger)?;
        ensure!(ran.verdict == PASS && ran.frame == stranger, "taken");
        machine.remove::<u32, u32>("LINK_OF", VETH)?;
        ensure!(machine.run("wan_in", &reply.frame()?)?.verdict == PASS, "taken on no link");
    }
    Ok(())
}

#[test]
fn a_packet_of_a_flow_does_not_leave_by_another_link() -> Result<()> {
    for v6 in [false, true] {
        let mut machine = Machine::ready()?;
        machine.link(LINK, Link { flags: LINK_UP, ..link() })?;
        machine.run("pod_in", &syn(v6).frame()?)?;
        let frame = data(v6, 5).frame()?;
        ensure!(machine.run("wan_out", &frame)?.verdict == PASS, "stopped on its own link");
        machine.put("LINK_OF", VETH, u32::from(LINK + 1))?;
        ensure!(machine.run("wan_out", &frame)?.verdict == DROP, "leaked");
        ensure!(machine.counted(Reason::LeakStopped)? == 1, "not counted");
        let other = Shape { sport: 5, ..data(v6, 5) }.frame()?;
        ensure!(machine.run("wan_out", &other)?.verdict == PASS, "a stranger was stopped");
    }
    Ok(())
}

#[test]
fn a_packet_that_should_be_translated_does_not_leave_as_it_is() -> Result<()> {
    let machine = Machine::ready()?;
    let out = machine.run("pod_in", &syn(false).frame()?)?;
    ensure!(machine.run("wan_out", &out.frame)?.verdict == PASS, "its own packets are stopped");
    let verdict = machine.run("wan_out", &data(false, 5).frame()?).context("wan_out")?.verdict;
    ensure!(verdict == DROP, "leaked without translation");
    Ok(())
}

/// A macvlan's, or of somebody else on the same wire.
#[test]
fn what_is_for_another_device_is_left_to_it() -> Result<()> {
    for v6 in [false, true] {
        let (machine, reply) = answered(v6, LINK_UP)?;
        let ran = machine.run_raw("wan_in", &reply.frame()?)?;
        ensure!(ran.verdict == PASS && ran.frame == reply.frame()?, "touched: verdict {}", ran.verdict);
        // The control: the same for the device itself.
        ensure!(machine.run("wan_in", &reply.frame()?)?.verdict == REDIRECT, "not steered");
    }
    Ok(())
}
