//! Flows without answer, floods of them, and what lasts.

use anyhow::{Result, ensure};
use clovisor_common::abi::{
    FLOW_REVERSE, LINK_UP, Link, OPEN_INTERVAL_SHIFT, POD_OPENS, POD_QUOTA, PodUsage, Reason, SLOT_REFUSE,
    Slot,
};

use crate::frames::{Shape, data, seen, syn};
use crate::machine::{DROP, LINK, Machine, REDIRECT, VETH, link};

/// Source ports of the link's range; many enough for every flow here.
fn roomy(flows: u32) -> Result<Machine> {
    let mut machine = Machine::with_flows(flows)?;
    machine.link(LINK, Link { port_min: 20_000, port_max: 59_999, ..link() })?;
    Ok(machine)
}

fn opening(sport: u16, v6: bool) -> Shape {
    Shape { sport, ..syn(v6) }
}

/// What the far end answers to the packet.
pub(crate) fn reply(out: &[u8], flags: &'static str, v6: bool) -> Result<Vec<u8>> {
    let out = seen(out)?;
    let (sport, dport) = (out.tcp.destination_port, out.tcp.source_port);
    Shape { from: Some(out.to), to: Some(out.from), sport, dport, flags, dscp: 0, ..syn(v6) }.frame()
}

/// Opens a flow and has it answered; fails unless both are delivered. Returns the packet that left.
pub(crate) fn answered(machine: &Machine, sport: u16, v6: bool) -> Result<Vec<u8>> {
    let out = machine.run("pod_in", &opening(sport, v6).frame()?)?;
    ensure!(out.verdict == REDIRECT, "{sport} was not opened: {}", out.verdict);
    let back = machine.run("wan_in", &reply(&out.frame, "SA", v6)?)?;
    ensure!(back.verdict == REDIRECT, "{sport}: the answer was not delivered: {}", back.verdict);
    Ok(out.frame)
}

/// Entries in the unreplied table and among the replied flows.
pub(crate) fn places(machine: &Machine, v6: bool) -> Result<(usize, usize)> {
    Ok(if v6 {
        (machine.entries::<[u8; 16]>("UNREPLIED6")?.len(), machine.entries::<[u8; 16]>("FLOW6")?.len())
    } else {
        (machine.entries::<[u8; 4]>("UNREPLIED4")?.len(), machine.entries::<[u8; 4]>("FLOW4")?.len())
    })
}

#[test]
fn the_first_answer_gives_a_flow_its_lasting_place() -> Result<()> {
    for (v6, flags) in [(false, link().flags), (true, link().flags), (false, LINK_UP), (true, LINK_UP)] {
        let mut machine = Machine::ready()?;
        machine.link(LINK, Link { flags, ..link() })?;
        let out = machine.run("pod_in", &syn(v6).frame()?)?;
        ensure!(places(&machine, v6)? == (2, 0), "before: {:?}", places(&machine, v6)?);
        for _ in 0..2 {
            ensure!(
                machine.run("wan_in", &reply(&out.frame, "SA", v6)?)?.verdict == REDIRECT,
                "not delivered"
            );
            ensure!(places(&machine, v6)? == (0, 2), "after: {:?}", places(&machine, v6)?);
        }
        let next = machine.run("pod_in", &data(v6, 9).frame()?)?;
        ensure!(next.verdict == REDIRECT && seen(&next.frame)?.from == seen(&out.frame)?.from, "{next:?}");
        let counts = [Reason::FlowOpened, Reason::Returned, Reason::Returned, Reason::Steered];
        machine.expect_counted(&counts)?;
    }
    Ok(())
}

#[test]
fn what_the_far_end_refuses_gets_no_lasting_place() -> Result<()> {
    let machine = Machine::ready()?;
    let out = machine.run("pod_in", &syn(false).frame()?)?;
    let back = machine.run("wan_in", &reply(&out.frame, "R", false)?)?;
    ensure!(back.verdict == REDIRECT && places(&machine, false)? == (2, 0), "{:?}", places(&machine, false)?);
    Ok(())
}

#[test]
fn a_flood_displaces_no_answered_flow() -> Result<()> {
    for v6 in [false, true] {
        let machine = roomy(64)?;
        let lasting: Vec<_> =
            (1001..1021).map(|sport| answered(&machine, sport, v6)).collect::<Result<_>>()?;
        // Ten times the table, with packets of one to four of each tuple.
        for n in 0..640 {
            for _ in 0..=n % 4 {
                let ran = machine.run("pod_in", &opening(2000 + n, v6).frame()?)?;
                ensure!(ran.verdict == REDIRECT, "{n}: verdict {}", ran.verdict);
            }
        }
        ensure!(places(&machine, v6)?.1 == 40, "{:?}", places(&machine, v6)?);
        for (sport, left) in (1001..).zip(&lasting) {
            let next = machine.run("pod_in", &Shape { sport, ..data(v6, 5) }.frame()?)?;
            ensure!(next.verdict == REDIRECT, "{sport}: verdict {}", next.verdict);
            let ports = |frame: &[u8]| anyhow::Ok(seen(frame)?.tcp.source_port);
            ensure!(ports(&next.frame)? == ports(left)?, "{sport} has another port");
        }
        answered(&machine, 999, v6)?;
        ensure!(machine.counted(Reason::FlowTableFull)? == 0, "counted");
    }
    Ok(())
}

#[test]
fn a_flow_whose_forward_entry_was_displaced_is_whole_again_with_its_answer() -> Result<()> {
    for v6 in [false, true] {
        let mut machine = roomy(64)?;
        let out = machine.run("pod_in", &syn(v6).frame()?)?;
        if v6 {
            let entries = machine.entries::<[u8; 16]>("UNREPLIED6")?;
            let forward = entries.iter().find(|(_, flow)| flow.state.flags & FLOW_REVERSE == 0);
            machine.remove::<_, clovisor_common::abi::Flow6>(
                "UNREPLIED6",
                forward.map(|(key, _)| *key).ok_or_else(none)?,
            )?;
        } else {
            let entries = machine.entries::<[u8; 4]>("UNREPLIED4")?;
            let forward = entries.iter().find(|(_, flow)| flow.state.flags & FLOW_REVERSE == 0);
            machine.remove::<_, clovisor_common::abi::Flow4>(
                "UNREPLIED4",
                forward.map(|(key, _)| *key).ok_or_else(none)?,
            )?;
        }
        ensure!(machine.run("wan_in", &reply(&out.frame, "SA", v6)?)?.verdict == REDIRECT, "not delivered");
        let next = machine.run("pod_in", &data(v6, 9).frame()?)?;
        ensure!(next.verdict == REDIRECT, "verdict {}", next.verdict);
        let (was, is) = (seen(&out.frame)?, seen(&next.frame)?);
        ensure!(was.from == is.from && was.tcp.source_port == is.tcp.source_port, "{is:?}");
        ensure!(places(&machine, v6)? == (0, 2), "{:?}", places(&machine, v6)?);
    }
    Ok(())
}

fn none() -> anyhow::Error {
    anyhow::anyhow!("no forward entry")
}

#[test]
fn a_full_table_leaves_new_flows_unreplied() -> Result<()> {
    for v6 in [false, true] {
        let machine = roomy(5)?;
        for sport in [1001, 1002] {
            answered(&machine, sport, v6)?;
        }
        // The fifth entry has room, its pair does not.
        answered(&machine, 1003, v6)?;
        ensure!(machine.counted(Reason::FlowTableFull)? == 1, "not counted");
        let (unreplied, lasting) = places(&machine, v6)?;
        ensure!((unreplied, lasting) == (2, 4), "{unreplied} unreplied, {lasting} entries of replied flows");
        for sport in [1001, 1003] {
            let next = machine.run("pod_in", &Shape { sport, ..data(v6, 5) }.frame()?)?;
            ensure!(next.verdict == REDIRECT, "{sport}: verdict {}", next.verdict);
        }
    }
    Ok(())
}

#[test]
fn a_pod_at_its_quota_continues_in_the_unreplied_table() -> Result<()> {
    let mut machine = roomy(64)?;
    machine.put("POD_USAGE", VETH, PodUsage { replied: POD_QUOTA, ..PodUsage::default() })?;
    answered(&machine, 1001, false)?;
    ensure!(places(&machine, false)? == (2, 0), "{:?}", places(&machine, false)?);
    machine.expect_counted(&[Reason::FlowOpened, Reason::PodQuota, Reason::Returned])
}

/// What a pod may not open is dropped, whatever its slot says: the sender tries again, and nothing takes another way meanwhile.
#[test]
fn a_pod_opens_so_many_flows_at_once_and_no_more() -> Result<()> {
    for flags in [0, SLOT_REFUSE] {
        let mut machine = roomy(64)?;
        machine.slot(Slot { flags, ..Slot::of(LINK) })?;
        let full_at = u64::MAX >> OPEN_INTERVAL_SHIFT;
        machine.put("POD_USAGE", VETH, PodUsage { full_at, ..PodUsage::default() })?;
        let refused = machine.run("pod_in", &opening(3000, false).frame()?)?;
        ensure!(refused.verdict == DROP, "{flags}: verdict {}", refused.verdict);
        machine.expect_counted(&[Reason::OpensLimited])?;
        machine.put("POD_USAGE", VETH, PodUsage::default())?;
        for sport in 3000..3000 + POD_OPENS as u16 {
            let ran = machine.run("pod_in", &opening(sport, false).frame()?)?;
            ensure!(ran.verdict == REDIRECT, "{flags}: {sport}: verdict {}", ran.verdict);
        }
        ensure!(machine.counted(Reason::OpensLimited)? == 1, "one proxy meets the limit");
    }
    Ok(())
}
