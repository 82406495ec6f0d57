//! Links in mode `Mark`: the program marks, the stack forwards.

use anyhow::{Result, ensure};
use clovisor_common::abi::{
    FLOW_MARK, FLOW_NAT, Flow4, FlowState, LINK_MARK, LINK_NAT, LINK_UP, Link, Reason, Slot,
};

use crate::datagrams::{UDP, datagram};
use crate::frames::{Seen, Shape, data, seen, syn};
use crate::machine::{
    LINK, MTU, Machine, PASS, PEER4, PEER6, POD4, POD6, PORT_BE, REDIRECT, SOURCE4, SOURCE6, VETH, link,
};
use crate::traffic::govern;

const MARK: u32 = 0x0400_0000;
const MASK: u32 = 0x7f00_0000;
/// Bits of others.
const FOREIGN: u32 = 0x8000_c0de;

fn ready(nat: u32) -> Result<Machine> {
    let mut machine = Machine::ready()?;
    machine.link(LINK, Link { port_min: 0, port_max: 0, ..by_mark(nat) })?;
    Ok(machine)
}

/// A link whose mode was another before.
fn by_mark(nat: u32) -> Link {
    Link { flags: LINK_UP | LINK_MARK | nat, mark: MARK, mark_mask: MASK, ..link() }
}

/// What the far end answers: to the pod's own address, or to that of the link.
fn answer(v6: bool, nat: u32, flags: &'static str) -> Shape {
    let from = if v6 { PEER6.to_vec() } else { PEER4.to_vec() };
    let to = match (v6, nat) {
        (false, 0) => POD4.to_vec(),
        (false, _) => SOURCE4.to_vec(),
        (true, 0) => POD6.to_vec(),
        (true, _) => SOURCE6.to_vec(),
    };
    let own = syn(v6);
    let (sport, dport) = (u16::from_be(PORT_BE), own.sport);
    Shape { from: Some(from), to: Some(to), sport, dport, flags, dscp: 0, mss: None, ..own }
}

#[test]
fn a_marked_packet_keeps_all_but_its_class() -> Result<()> {
    for v6 in [false, true] {
        for nat in [0, LINK_NAT] {
            let mut machine = ready(nat)?;
            machine.slot(Slot { wire_dscp: 46, ..Slot::of(LINK) })?;
            for (shape, mss) in [(syn(v6), Some(1440)), (data(v6, 600), None)] {
                let shape = Shape { mss, ..shape };
                let (ran, mark) = machine.run_marked("pod_in", &shape.frame()?, FOREIGN)?;
                ensure!(ran.verdict == PASS, "verdict {}", ran.verdict);
                ensure!(mark == FOREIGN & !MASK | MARK, "mark {mark:#x}");
                let whole = Seen { dscp: 46, ..seen(&shape.frame()?)? };
                ensure!(seen(&ran.frame)? == whole, "another change than that of the class");
            }
            machine.expect_counted(&[Reason::FlowOpened, Reason::Steered])?;
            let (tx, _) = machine.carried()?;
            ensure!(tx.packets == 2, "{tx:?}");
            let table = if v6 { "FLOW6" } else { "FLOW4" };
            let flags: Vec<u16> = if v6 {
                machine.flows::<[u8; 16]>(table)?.iter().map(|(_, flow)| flow.state.flags).collect()
            } else {
                machine.flows::<[u8; 4]>(table)?.iter().map(|(_, flow)| flow.state.flags).collect()
            };
            let wanted = FLOW_MARK | if nat == 0 { 0 } else { FLOW_NAT };
            ensure!(flags.len() == 2 && flags.iter().all(|f| f & !2 == wanted), "{flags:?}");
        }
    }
    Ok(())
}

/// Its answers do not pass here where the stack translates: the acknowledgment tells of them.
#[test]
fn a_flow_has_its_lasting_place_when_the_pod_acknowledges() -> Result<()> {
    for nat in [0, LINK_NAT] {
        let machine = ready(nat)?;
        machine.run("pod_in", &syn(false).frame()?)?;
        ensure!(machine.entries::<[u8; 4]>("FLOW4")?.is_empty(), "answered before an answer");
        machine.run("pod_in", &data(false, 0).frame()?)?;
        ensure!(machine.entries::<[u8; 4]>("FLOW4")?.len() == 2, "no lasting place");
        ensure!(machine.entries::<[u8; 4]>("UNREPLIED4")?.is_empty(), "still unreplied");
    }
    Ok(())
}

#[test]
fn answers_are_the_stacks_and_counted_where_they_are_known() -> Result<()> {
    for v6 in [false, true] {
        for (nat, counted) in [(0, 1), (LINK_NAT, 0)] {
            let machine = ready(nat)?;
            machine.run("pod_in", &syn(v6).frame()?)?;
            let frame = answer(v6, nat, "SA").frame()?;
            let ran = machine.run("wan_in", &frame)?;
            ensure!(ran.verdict == PASS && ran.frame == frame, "touched: verdict {}", ran.verdict);
            ensure!(machine.counted(Reason::Returned)? == counted, "v6 {v6}, NAT {nat}");
        }
    }
    Ok(())
}

/// The stack cuts, answers and counts ttl itself.
#[test]
fn large_and_old_packets_are_the_stacks() -> Result<()> {
    let machine = ready(LINK_NAT)?;
    machine.run("pod_in", &syn(false).frame()?)?;
    for shape in [data(false, MTU as usize), Shape { ttl: 1, ..data(false, 9) }] {
        let (ran, mark) = machine.run_marked("pod_in", &shape.frame()?, 0)?;
        ensure!((ran.verdict, mark) == (PASS, MARK), "verdict {}, mark {mark:#x}", ran.verdict);
    }
    machine.expect_counted(&[Reason::FlowOpened, Reason::Steered, Reason::Steered])
}

/// The leak guard sees packets of the pod's own address leave by their link.
#[test]
fn what_leaves_by_its_link_passes_and_what_leaves_by_another_is_stopped() -> Result<()> {
    let mut machine = ready(0)?;
    let frame = syn(false).frame()?;
    machine.run("pod_in", &frame)?;
    ensure!(machine.run("wan_out", &frame)?.verdict == PASS, "stopped on its own link");
    machine.put("LINK_OF", VETH, u32::from(LINK) + 1)?;
    ensure!(machine.run("wan_out", &frame)?.verdict == crate::machine::DROP, "leaked");
    machine.expect_counted(&[Reason::FlowOpened, Reason::LeakStopped])
}

/// Its mark and its rule are gone with the mode: unmarked it would take the default route.
#[test]
fn a_flow_of_a_link_that_is_by_mark_no_more_is_reset() -> Result<()> {
    let mut machine = ready(LINK_NAT)?;
    machine.run("pod_in", &syn(false).frame()?)?;
    machine.link(LINK, link())?;
    let ran = machine.run("pod_in", &data(false, 9).frame()?)?;
    ensure!(ran.verdict == REDIRECT && seen(&ran.frame)?.tcp.rst, "verdict {}", ran.verdict);
    machine.expect_counted(&[Reason::FlowOpened, Reason::FlowReset])
}

/// A flow of the stack does not go over to a link past the stack: its answers would come another way than they went.
#[test]
fn a_flow_moves_between_links_of_one_mode_only() -> Result<()> {
    for (other, moved) in [(LINK_UP | LINK_MARK, true), (LINK_UP, false)] {
        let mut machine = ready(0)?;
        let second = Link { flags: other, mark: 2 * MARK, mark_mask: MASK, ifindex: 12, ..link() };
        machine.link(LINK + 1, second)?;
        machine.run("pod_in", &syn(false).frame()?)?;
        machine.link(LINK, Link { flags: LINK_MARK, mark: MARK, mark_mask: MASK, ..link() })?;
        machine.slot(Slot::of(LINK + 1))?;
        let (ran, mark) = machine.run_marked("pod_in", &data(false, 9).frame()?, 0)?;
        if moved {
            ensure!((ran.verdict, mark) == (PASS, 2 * MARK), "verdict {}", ran.verdict);
            machine.expect_counted(&[Reason::FlowOpened, Reason::FlowMoved])?;
        } else {
            ensure!(ran.verdict == REDIRECT && seen(&ran.frame)?.tcp.rst, "verdict {}", ran.verdict);
            machine.expect_counted(&[Reason::FlowOpened, Reason::FlowReset])?;
        }
    }
    Ok(())
}

/// A packet for another address than the pods' belongs to a flow only where the programs translated before the mode changed.
#[test]
fn flows_of_the_mode_before_have_their_answers_and_strangers_none() -> Result<()> {
    for v6 in [false, true] {
        for (ports, verdict) in [(link().port_min, REDIRECT), (0, PASS)] {
            let mut machine = Machine::ready()?;
            machine.run("pod_in", &syn(v6).frame()?)?;
            ensure!(
                machine.run("wan_in", &answer(v6, LINK_NAT, "SA").frame()?)?.verdict == REDIRECT,
                "before"
            );
            machine.link(LINK, Link { port_min: ports, port_max: ports, ..by_mark(LINK_NAT) })?;
            let ran = machine.run("wan_in", &answer(v6, LINK_NAT, "A").frame()?)?;
            ensure!(ran.verdict == verdict, "v6 {v6}, ports {ports}: {}", ran.verdict);
        }
    }
    Ok(())
}

/// What the stack forwards fits the link too.
#[test]
fn the_mss_is_lowered_both_ways() -> Result<()> {
    for (v6, wanted) in [(false, 1360), (true, 1340)] {
        let mut machine = ready(0)?;
        machine.link(
            LINK,
            Link { flags: LINK_UP | LINK_MARK, mtu: 1400, mark: MARK, mark_mask: MASK, ..link() },
        )?;
        let (ran, mark) = machine.run_marked("pod_in", &syn(v6).frame()?, 0)?;
        ensure!((ran.verdict, mark) == (PASS, MARK), "v6 {v6}: {}", ran.verdict);
        ensure!(seen(&ran.frame)?.mss() == Some(wanted), "v6 {v6}, out");
        let reply = Shape { mss: Some(1460), ..answer(v6, 0, "SA") };
        let ran = machine.run("wan_in", &reply.frame()?)?;
        ensure!(ran.verdict == PASS && seen(&ran.frame)?.mss() == Some(wanted), "v6 {v6}, back");
    }
    Ok(())
}

/// Answers to datagrams pass nowhere here: who goes on for a second has them. A flood, as fast as it is, has not.
#[test]
fn datagrams_have_their_lasting_place_when_the_pod_goes_on() -> Result<()> {
    let mut machine = ready(LINK_NAT)?;
    govern(&mut machine)?;
    let frame = datagram(UDP, false).frame()?;
    let send = |machine: &Machine, times: usize| -> Result<()> {
        (0..times).try_for_each(|_| {
            let verdict = machine.run("pod_in", &frame)?.verdict;
            ensure!(verdict == PASS, "verdict {verdict}");
            Ok(())
        })
    };
    send(&machine, 100)?;
    let unreplied = machine.entries::<[u8; 4]>("UNREPLIED4")?;
    ensure!(unreplied.len() == 2 && machine.entries::<[u8; 4]>("FLOW4")?.is_empty(), "{unreplied:?}");
    // As if a second had gone by.
    for (key, flow) in unreplied {
        let state = FlowState { created_ns: flow.state.created_ns - 1_000_000_000, ..flow.state };
        machine.put("UNREPLIED4", key, Flow4 { state, ..flow })?;
    }
    send(&machine, 16)?;
    ensure!(machine.entries::<[u8; 4]>("FLOW4")?.len() == 2, "no lasting place");
    ensure!(machine.entries::<[u8; 4]>("UNREPLIED4")?.is_empty(), "still unreplied");
    Ok(())
}
