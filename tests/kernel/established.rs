//! Pinned flows when links and slots change.

use anyhow::{Result, ensure};
use clovisor_common::abi::{
    Addr, Flow4, FlowKey, FlowState, LINK_UP, Link, Pod, Reason, SLOT_FOLLOW, Slot, dscp_of_class,
};

use crate::frames::{ACKED, MAC_A, MAC_B, SEQ, Shape, data, seen, syn};
use crate::machine::{
    CLASS, DROP, LINK, Machine, PASS, PEER4, PEER6, POD4, POD6, REAL4, REDIRECT, SOURCE4, VETH, ZONE, link,
    mapped, peer,
};

pub(crate) const OTHER: u8 = 9;

/// An established flow on `LINK`, and a second link of the same kind.
pub(crate) fn established(v6: bool, flags: u32) -> Result<Machine> {
    let mut machine = Machine::ready()?;
    machine.link(LINK, Link { flags, ..link() })?;
    machine.link(OTHER, Link { flags, ifindex: 12, source4: [192, 0, 2, 99], ..link() })?;
    for shape in [syn(v6), data(v6, 0)] {
        ensure!(machine.run("pod_in", &shape.frame()?)?.verdict == REDIRECT, "the flow was not opened");
    }
    Ok(machine)
}

pub(crate) fn links(machine: &Machine, v6: bool) -> Result<Vec<u8>> {
    Ok(if v6 {
        machine.flows::<[u8; 16]>("FLOW6")?.iter().map(|(_, flow)| flow.state.link).collect()
    } else {
        machine.flows::<[u8; 4]>("FLOW4")?.iter().map(|(_, flow)| flow.state.link).collect()
    })
}

fn down(machine: &mut Machine, flags: u32) -> Result<()> {
    machine.link(LINK, Link { flags: flags & !LINK_UP, ..link() })
}

fn slot(machine: &mut Machine, flags: u8) -> Result<()> {
    machine.slot(Slot { flags, ..Slot::of(OTHER) })
}

#[test]
fn a_nat_flow_whose_link_dies_is_reset() -> Result<()> {
    for v6 in [false, true] {
        let mut machine = established(v6, link().flags)?;
        down(&mut machine, link().flags)?;
        slot(&mut machine, SLOT_FOLLOW)?;
        for payload in [0, 1, 1000] {
            let ran = machine.run("pod_in", &data(v6, payload).frame()?)?;
            ensure!(ran.verdict == REDIRECT, "verdict {}", ran.verdict);
            let rst = seen(&ran.frame)?;
            ensure!(rst.tcp.rst && !rst.tcp.ack && rst.payload.is_empty(), "{rst:?}");
            ensure!(rst.tcp.sequence_number == ACKED, "{rst:?}");
            ensure!((rst.tcp.source_port, rst.macs) == (443, (MAC_B, MAC_A)), "{rst:?}");
            let (from, to) =
                if v6 { (PEER6.to_vec(), POD6.to_vec()) } else { (PEER4.to_vec(), POD4.to_vec()) };
            ensure!((rst.from, rst.to) == (from, to), "between other addresses");
        }
        ensure!(machine.counted(Reason::FlowReset)? == 3, "not counted");
        let own = Shape { flags: "R", ..data(v6, 0) };
        ensure!(machine.run("pod_in", &own.frame()?)?.verdict == DROP, "a RST was answered");
        ensure!(machine.counted(Reason::LinkDown)? == 1, "not counted");
    }
    Ok(())
}

#[test]
fn a_segment_without_ack_is_reset_by_its_sequence_number() -> Result<()> {
    let mut machine = established(false, link().flags)?;
    down(&mut machine, link().flags)?;
    slot(&mut machine, 0)?;
    let fin = Shape { flags: "F", ..data(false, 10) };
    let rst = seen(&machine.run("pod_in", &fin.frame()?)?.frame)?;
    ensure!(rst.tcp.rst && rst.tcp.ack && rst.tcp.sequence_number == 0, "{rst:?}");
    ensure!(rst.tcp.acknowledgment_number == SEQ + 10 + 1, "{rst:?}");
    Ok(())
}

#[test]
fn a_flow_without_nat_moves_when_its_link_dies() -> Result<()> {
    for v6 in [false, true] {
        let mut machine = established(v6, LINK_UP)?;
        down(&mut machine, LINK_UP)?;
        slot(&mut machine, 0)?;
        for _ in 0..2 {
            ensure!(machine.run("pod_in", &data(v6, 9).frame()?)?.verdict == REDIRECT, "not moved");
        }
        ensure!(links(&machine, v6)? == [OTHER, OTHER], "entries of another link");
        let wanted = [Reason::FlowOpened, Reason::Steered, Reason::FlowMoved, Reason::Steered];
        machine.expect_counted(&wanted)?;
    }
    Ok(())
}

#[test]
fn a_flow_stays_on_a_link_that_is_up_unless_it_may_follow() -> Result<()> {
    for (link_flags, slot_flags, moves) in
        [(LINK_UP, 0, false), (LINK_UP, SLOT_FOLLOW, true), (link().flags, SLOT_FOLLOW, false)]
    {
        let mut machine = established(false, link_flags)?;
        slot(&mut machine, slot_flags)?;
        ensure!(machine.run("pod_in", &data(false, 9).frame()?)?.verdict == REDIRECT, "not sent");
        let on = if moves { OTHER } else { LINK };
        ensure!(links(&machine, false)? == [on, on], "link flags {link_flags}, slot flags {slot_flags}");
    }
    Ok(())
}

/// The first packet after the move may be the one that is too large for the new link: it tells of both.
#[test]
fn a_move_is_counted_whatever_becomes_of_the_packet() -> Result<()> {
    for v6 in [false, true] {
        let mut machine = established(v6, LINK_UP)?;
        machine.link(OTHER, Link { flags: LINK_UP, ifindex: 12, mtu: 1280, ..link() })?;
        down(&mut machine, LINK_UP)?;
        slot(&mut machine, 0)?;
        for payload in [1400, 9] {
            ensure!(machine.run("pod_in", &data(v6, payload).frame()?)?.verdict == REDIRECT, "{payload}");
        }
        let wanted =
            [Reason::FlowOpened, Reason::Steered, Reason::FlowMoved, Reason::MtuExceeded, Reason::Steered];
        machine.expect_counted(&wanted)?;
        ensure!(links(&machine, v6)? == [OTHER, OTHER], "not moved");
    }
    Ok(())
}

#[test]
fn a_flow_whose_peer_differs_on_the_other_link_cannot_move() -> Result<()> {
    let mut machine = established(false, LINK_UP)?;
    let (key, value) = peer(mapped(PEER4), mapped(REAL4), OTHER);
    machine.put("PEERS", key, value)?;
    down(&mut machine, LINK_UP)?;
    slot(&mut machine, 0)?;
    machine.run("pod_in", &data(false, 9).frame()?)?;
    ensure!(machine.counted(Reason::FlowReset)? == 1, "not reset");
    Ok(())
}

#[test]
fn a_syn_without_answer_is_pinned_anew_when_its_link_dies() -> Result<()> {
    let mut machine = Machine::ready()?;
    machine.link(OTHER, Link { ifindex: 12, source4: [192, 0, 2, 99], ..link() })?;
    machine.run("pod_in", &syn(false).frame()?)?;
    down(&mut machine, link().flags)?;
    slot(&mut machine, 0)?;
    let ran = machine.run("pod_in", &syn(false).frame()?)?;
    ensure!(seen(&ran.frame)?.from == [192, 0, 2, 99], "not on the other link");
    machine.expect_counted(&[Reason::FlowOpened, Reason::FlowOpened])?;
    ensure!(links(&machine, false)? == [OTHER, OTHER], "old entries left");
    Ok(())
}

#[test]
fn the_pin_outlives_class_and_slot_of_later_packets() -> Result<()> {
    let mut machine = established(false, link().flags)?;
    machine.put("PODS", VETH, Pod { zone: ZONE, traffic: 0, proxy_uid: 1337 })?;
    slot(&mut machine, 0)?;
    for dscp in [0, 46, dscp_of_class(CLASS + 1)] {
        let ran = machine.run("pod_in", &Shape { dscp, ..data(false, 1) }.frame()?)?;
        let after = seen(&ran.frame)?;
        ensure!((after.from.as_slice(), after.dscp) == (&SOURCE4[..], 0), "{after:?}");
    }
    ensure!(machine.counted(Reason::Steered)? == 4, "not steered");
    Ok(())
}

#[test]
fn a_new_connection_on_an_old_tuple_is_decided_anew() -> Result<()> {
    // Same class on the slot's new link; another class that nobody has; no class.
    let rows = [
        (dscp_of_class(CLASS), REDIRECT, vec![OTHER, OTHER]),
        (dscp_of_class(9), PASS, vec![]),
        (0, PASS, vec![]),
    ];
    for (dscp, verdict, on) in rows {
        let mut machine = established(false, link().flags)?;
        slot(&mut machine, 0)?;
        let ran = machine.run("pod_in", &Shape { dscp, ..syn(false) }.frame()?)?;
        ensure!(ran.verdict == verdict, "DSCP {dscp}: verdict {}", ran.verdict);
        ensure!(links(&machine, false)? == on, "DSCP {dscp}: {:?}", links(&machine, false)?);
    }
    Ok(())
}

#[test]
fn another_pod_cannot_use_a_flow() -> Result<()> {
    let mut machine = established(false, link().flags)?;
    // The same tuple, by another device.
    for (key, flow) in machine.flows::<[u8; 4]>("FLOW4")?.into_iter().filter(|(key, _)| key.scope == VETH) {
        machine.remove::<_, Flow4>("UNREPLIED4", key)?;
        machine.put(
            "UNREPLIED4",
            FlowKey { scope: 99, ..key },
            Flow4 { state: FlowState { veth: 99, ..flow.state }, ..flow },
        )?;
    }
    machine.put("ADDRS", mapped(POD4), Addr { veth: 99, zone: ZONE, pad: 0 })?;
    for shape in [data(false, 1), syn(false)] {
        ensure!(machine.run("pod_in", &shape.frame()?)?.verdict == PASS, "steered");
    }
    ensure!(machine.counted(Reason::ForgedSource)? == 2, "not counted");
    Ok(())
}
