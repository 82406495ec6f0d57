//! Classes by destination: for pods without a proxy, and for what is no TCP.

use anyhow::{Context as _, Result, ensure};
use clovisor_common::abi::{
    Addr, ClassKey, LINK_UP, Link, NO_LINK, Pod, PortRule, Reason, SLOT_REFUSE, Slot, Traffic, TrafficKey,
    dscp_of_class,
};

use crate::datagrams::{APPLICATION, Datagram, ECHO, Kind, UDP, datagram, seen};
use crate::frames::{self, Shape, syn};
use crate::machine::{
    CLASS, DROP, LINK, Machine, PASS, PEER4, PEER6, POD4, POD6, REDIRECT, SOURCE4, SOURCE6, SPORT, VETH,
    ZONE, link, mapped,
};

/// The pod belongs to somebody who is not the test's user.
const APP: u32 = 1337;

fn rules(rules: &[(u16, u16, u8)]) -> Traffic {
    let mut traffic = Traffic::default();
    for (place, (min, max, class)) in traffic.rules.iter_mut().zip(rules) {
        *place = PortRule { min: *min, max: *max, class: *class, pad: 0 };
    }
    traffic
}

/// A pod whose own packets of every protocol to the peers' networks have the class.
pub(crate) fn everything() -> Result<Machine> {
    let mut machine = Machine::ready()?;
    govern(&mut machine)?;
    Ok(machine)
}

/// See [`everything`].
pub(crate) fn govern(machine: &mut Machine) -> Result<()> {
    let pod = Pod { zone: ZONE, traffic: 1 << (CLASS - 1), proxy_uid: APP };
    machine.put("PODS", VETH, pod)?;
    for proto in [1, 6, 17, 58] {
        for (addr, bits) in [(mapped(PEER4), 96 + 24), (PEER6, 64)] {
            machine.traffic(bits, key(proto, addr), rules(&[(0, u16::MAX, CLASS)]))?;
        }
    }
    Ok(())
}

fn key(proto: u8, addr: [u8; 16]) -> TrafficKey {
    TrafficKey { zone: ZONE, proto, pad: 0, addr }
}

#[test]
fn datagrams_and_echoes_go_and_come_back() -> Result<()> {
    for v6 in [false, true] {
        for (kind, nat) in [(UDP, true), (UDP, false), (ECHO, true), (ECHO, false)] {
            let mut machine = everything()?;
            if !nat {
                machine.link(LINK, Link { flags: LINK_UP, ..link() })?;
            }
            let sent = datagram(kind, v6);
            there_and_back(&machine, &sent, nat).with_context(|| format!("v6 {v6}, NAT {nat}, {kind:?}"))?;
            // A second one is of the same flow.
            let again = machine.run("pod_in", &sent.frame()?)?;
            ensure!(again.verdict == REDIRECT && machine.counted(Reason::Steered)? == 1, "{again:?}");
        }
    }
    Ok(())
}

fn there_and_back(machine: &Machine, sent: &Datagram, nat: bool) -> Result<()> {
    let out = machine.run("pod_in", &sent.frame()?)?;
    ensure!(out.verdict == REDIRECT, "verdict {}", out.verdict);
    let v6 = sent.from.len() == 16;
    let source = if v6 { SOURCE6.to_vec() } else { SOURCE4.to_vec() };
    let from = if nat { source } else { sent.from.clone() };
    // The application's own DSCP stays.
    let expected = Datagram { from: from.clone(), ttl: sent.ttl - 1, ..sent.clone() };
    ensure!(seen(&out.frame)? == expected, "{:?}, not {expected:?}", seen(&out.frame)?);
    let kind = match sent.kind {
        Kind::Udp { sport, dport } => Kind::Udp { sport: dport, dport: sport },
        Kind::Request { id } | Kind::Reply { id } => Kind::Reply { id },
    };
    let answer = Datagram { kind, from: sent.to.clone(), to: from, dscp: 0, ttl: 60, payload: 8 };
    let back = machine.run("wan_in", &answer.frame()?)?;
    ensure!(back.verdict == REDIRECT, "answer: verdict {}", back.verdict);
    let expected = Datagram { to: sent.from.clone(), ..answer };
    ensure!(seen(&back.frame)? == expected, "answer: {:?}, not {expected:?}", seen(&back.frame)?);
    machine.expect_counted(&[Reason::FlowOpened, Reason::Returned])
}

#[test]
fn under_nat_the_identifier_is_of_the_range() -> Result<()> {
    for v6 in [false, true] {
        let mut machine = everything()?;
        machine.link(LINK, Link { port_min: 20_000, port_max: 20_063, ..link() })?;
        let ran = machine.run("pod_in", &datagram(ECHO, v6).frame()?)?;
        let Kind::Request { id } = seen(&ran.frame)?.kind else { anyhow::bail!("no request") };
        ensure!((20_000..=20_063).contains(&id), "{id}");
        let to = if v6 { SOURCE6.to_vec() } else { SOURCE4.to_vec() };
        let from = if v6 { PEER6.to_vec() } else { PEER4.to_vec() };
        let reply = Datagram { kind: Kind::Reply { id }, from, to, ..datagram(ECHO, v6) };
        let back = machine.run("wan_in", &reply.frame()?)?;
        ensure!(seen(&back.frame)?.kind == Kind::Reply { id: SPORT }, "{:?}", seen(&back.frame)?);
    }
    Ok(())
}

#[test]
fn no_checksum_stays_none() -> Result<()> {
    let machine = everything()?;
    let mut frame = datagram(UDP, false).frame()?;
    frame.get_mut(40..42).context("too short")?.fill(0);
    let ran = machine.run("pod_in", &frame)?;
    ensure!(ran.verdict == REDIRECT && ran.frame.get(40..42) == Some(&[0, 0]), "{:02x?}", ran.frame);
    ensure!(seen(&ran.frame)?.from == SOURCE4, "not translated");
    Ok(())
}

/// The longest prefix decides, then the first rule whose ports hold and whose class is the pod's.
#[test]
fn prefix_ports_and_pod_decide() -> Result<()> {
    const OTHER: u8 = CLASS + 1;
    let both = 1 << (CLASS - 1) | 1 << (OTHER - 1);
    let mine = 1 << (CLASS - 1);
    let near = Kind::Udp { sport: SPORT, dport: 53 };
    let tcp_only = Kind::Udp { sport: SPORT, dport: 80 };
    // The other class has no link and refuses: its verdict is unlike that of the first.
    for (name, kind, classes, verdict, reason) in [
        ("longer prefix", near, both, DROP, Some(Reason::NoLinkRefused)),
        ("its class is not the pod's", near, mine, REDIRECT, Some(Reason::FlowOpened)),
        ("shorter prefix", UDP, both, REDIRECT, Some(Reason::FlowOpened)),
        ("no port", tcp_only, both, PASS, None),
        ("no class at all", near, 0, PASS, None),
        ("another protocol", ECHO, both, PASS, None),
    ] {
        for v6 in [false, true] {
            let mut machine = Machine::ready()?;
            machine.put("PODS", VETH, Pod { zone: ZONE, traffic: classes, proxy_uid: APP })?;
            machine.put("CLASSES", ClassKey { zone: ZONE, class: OTHER, pad: 0 }, 41_u32)?;
            machine.slot_at(41, Slot { flags: SLOT_REFUSE, ..Slot::of(NO_LINK) })?;
            let (addr, wide) = if v6 { (PEER6, 32) } else { (mapped(PEER4), 96 + 8) };
            let far = [(5000, 6000, CLASS), (53, 53, CLASS)];
            machine.traffic(wide, key(17, addr), rules(&far))?;
            machine.traffic(128, key(17, addr), rules(&[&[(53, 53, OTHER)][..], &far].concat()))?;
            let ran = machine.run("pod_in", &datagram(kind, v6).frame()?)?;
            ensure!(ran.verdict == verdict, "{name}, v6 {v6}: verdict {}", ran.verdict);
            machine.expect_counted(reason.as_slice()).with_context(|| format!("{name}, v6 {v6}"))?;
        }
    }
    Ok(())
}

#[test]
fn what_the_pod_did_not_open_passes() -> Result<()> {
    for v6 in [false, true] {
        let refuse = Slot { flags: SLOT_REFUSE, ..Slot::of(LINK) };
        let mut machine = everything()?;
        machine.slot(refuse)?;
        // Somebody pinged the pod, and somebody connected to it: answers go back by the way they came.
        let reply = datagram(Kind::Reply { id: 7 }, v6).frame()?;
        let answer = Shape { flags: "SA", dscp: APPLICATION, ..syn(v6) }.frame()?;
        for frame in [reply, answer] {
            let ran = machine.run("pod_in", &frame)?;
            ensure!(ran.verdict == PASS && ran.frame == frame, "verdict {}", ran.verdict);
        }
        machine.expect_counted(&[Reason::MidStream, Reason::MidStream])?;
    }
    Ok(())
}

#[test]
fn an_application_is_steered_with_the_dscp_that_it_likes() -> Result<()> {
    for v6 in [false, true] {
        // Also one that looks like a class: no proxy has set it.
        for dscp in [0, APPLICATION, dscp_of_class(9)] {
            let mut machine = everything()?;
            let ran = machine.run("pod_in", &Shape { dscp, ..syn(v6) }.frame()?)?;
            ensure!(ran.verdict == REDIRECT, "DSCP {dscp}: verdict {}", ran.verdict);
            ensure!(frames::seen(&ran.frame)?.dscp == dscp, "DSCP {dscp} changed");
            let again = Shape { dscp, flags: "A", mss: None, ..syn(v6) }.frame()?;
            ensure!(machine.run("pod_in", &again)?.verdict == REDIRECT, "DSCP {dscp}: not its flow");
            machine.expect_counted(&[Reason::FlowOpened, Reason::Steered])?;
            machine.slot(Slot { wire_dscp: 10, ..Slot::of(LINK) })?;
            let ran = machine.run("pod_in", &again)?;
            ensure!(frames::seen(&ran.frame)?.dscp == 10, "the mapping's own DSCP is not on the wire");
        }
    }
    Ok(())
}

#[test]
fn a_datagram_with_a_class_mark_does_not_open_its_flow_again() -> Result<()> {
    let machine = everything()?;
    let frame = Datagram { dscp: dscp_of_class(9), ..datagram(UDP, false) }.frame()?;
    for reason in [Reason::FlowOpened, Reason::Steered] {
        ensure!(
            machine.run("pod_in", &frame)?.verdict == REDIRECT && machine.counted(reason)? == 1,
            "{reason:?}"
        );
    }
    Ok(())
}

#[test]
fn a_forged_source_is_no_pods() -> Result<()> {
    for v6 in [false, true] {
        let mut machine = everything()?;
        let addr = if v6 { POD6 } else { mapped(POD4) };
        machine.put("ADDRS", addr, Addr { veth: 99, zone: ZONE, pad: 0 })?;
        let frame = datagram(UDP, v6).frame()?;
        let ran = machine.run("pod_in", &frame)?;
        ensure!(ran.verdict == PASS && ran.frame == frame, "verdict {}", ran.verdict);
        machine.expect_counted(&[Reason::ForgedSource])?;
    }
    Ok(())
}

/// A datagram needs no RST: the next one opens the flow anew, where its slot points now.
#[test]
fn a_flow_of_datagrams_leaves_a_dead_link() -> Result<()> {
    for (v6, kind) in [(false, UDP), (true, UDP), (false, ECHO), (true, ECHO)] {
        let mut machine = everything()?;
        let frame = datagram(kind, v6).frame()?;
        ensure!(machine.run("pod_in", &frame)?.verdict == REDIRECT, "not opened");
        machine.link(LINK, Link { flags: link().flags & !LINK_UP, ..link() })?;
        let other = Link { source4: [192, 0, 2, 99], source6: [9; 16], ..link() };
        machine.link(LINK + 1, other)?;
        machine.slot(Slot::of(LINK + 1))?;
        let ran = machine.run("pod_in", &frame)?;
        ensure!(ran.verdict == REDIRECT, "verdict {}", ran.verdict);
        let source = if v6 { other.source6.to_vec() } else { other.source4.to_vec() };
        ensure!(seen(&ran.frame)?.from == source, "{:?}", seen(&ran.frame)?);
        machine.expect_counted(&[Reason::FlowOpened, Reason::FlowOpened])?;
        let entries = machine.flows::<[u8; 4]>("FLOW4")?.len() + machine.flows::<[u8; 16]>("FLOW6")?.len();
        ensure!(entries == 2, "{entries} entries");
    }
    Ok(())
}

#[test]
fn a_datagram_that_is_too_big_is_answered_and_an_untranslated_one_stopped() -> Result<()> {
    for v6 in [false, true] {
        let machine = everything()?;
        let small = datagram(UDP, v6);
        ensure!(machine.run("pod_in", &small.frame()?)?.verdict == REDIRECT, "not opened");
        let stopped = machine.run("wan_out", &small.frame()?)?;
        ensure!(stopped.verdict == DROP, "verdict {}", stopped.verdict);
        let big = Datagram { payload: 1490, ..small };
        let ran = machine.run("pod_in", &big.frame()?)?;
        ensure!(ran.verdict == REDIRECT && ran.frame.len() < 120, "{ran:?}");
        machine.expect_counted(&[Reason::FlowOpened, Reason::LeakStopped, Reason::MtuExceeded])?;
    }
    Ok(())
}
