//! Connections that end: their last packets, their source port, their pod's quota.

use anyhow::{Context as _, Result, ensure};
use clovisor_common::abi::{
    FLOW_ENDED, Flow4, Flow4Key, LINK_UP, Link, POD_QUOTA, PodUsage, REVERSE, Reason,
};

use crate::frames::{Shape, data, seen, syn};
use crate::machine::{LINK, Machine, PASS, REDIRECT, VETH, link};
use crate::unreplied::{answered, places, reply};

/// With this many source ports.
fn with_ports(count: u16) -> Result<Machine> {
    let mut machine = Machine::with_flows(256)?;
    machine.link(LINK, Link { port_min: 20_000, port_max: 20_000 + count - 1, ..link() })?;
    Ok(machine)
}

/// The far end and then the pod close, and the far end acknowledges; each packet must be delivered.
fn close(machine: &Machine, sport: u16, left: &[u8], v6: bool) -> Result<()> {
    let out = |flags| Shape { sport, flags, ..data(v6, 0) };
    ensure!(machine.run("wan_in", &reply(left, "FA", v6)?)?.verdict == REDIRECT, "FIN of the far end");
    ensure!(machine.run("pod_in", &out("FA").frame()?)?.verdict == REDIRECT, "FIN of the pod");
    ensure!(machine.run("wan_in", &reply(left, "A", v6)?)?.verdict == REDIRECT, "ACK of the far end");
    Ok(())
}

fn port(frame: &[u8]) -> Result<u16> {
    Ok(seen(frame)?.tcp.source_port)
}

#[test]
fn an_ended_connection_leaves_the_replied_flows_and_its_last_packets_pass() -> Result<()> {
    for (v6, flags) in [(false, link().flags), (true, link().flags), (false, LINK_UP), (true, LINK_UP)] {
        let mut machine = with_ports(100)?;
        machine.link(LINK, Link { flags, ..link() })?;
        let left = answered(&machine, 1001, v6)?;
        close(&machine, 1001, &left, v6)?;
        ensure!(places(&machine, v6)? == (2, 0), "{flags}: {:?}", places(&machine, v6)?);
        // What was lost on the way comes again.
        let again = machine.run("pod_in", &Shape { sport: 1001, flags: "FA", ..data(v6, 3) }.frame()?)?;
        ensure!(again.verdict == REDIRECT && port(&again.frame)? == port(&left)?, "{again:?}");
        ensure!(machine.run("wan_in", &reply(&left, "FA", v6)?)?.verdict == REDIRECT, "FIN again");
        ensure!(places(&machine, v6)? == (2, 0), "{flags}: {:?}", places(&machine, v6)?);
        ensure!(machine.counted(Reason::MidStream)? == 0, "by the default route");
    }
    Ok(())
}

#[test]
fn a_reset_of_the_pod_ends_a_connection_and_one_from_outside_does_not() -> Result<()> {
    for v6 in [false, true] {
        let machine = with_ports(100)?;
        let left = answered(&machine, 1001, v6)?;
        ensure!(machine.run("wan_in", &reply(&left, "R", v6)?)?.verdict == REDIRECT, "not delivered");
        ensure!(places(&machine, v6)? == (0, 2), "ended from outside: {:?}", places(&machine, v6)?);
        let reset = Shape { sport: 1001, flags: "R", ..data(v6, 0) };
        ensure!(machine.run("pod_in", &reset.frame()?)?.verdict == REDIRECT, "not sent");
        ensure!(places(&machine, v6)? == (2, 0), "{:?}", places(&machine, v6)?);
    }
    Ok(())
}

#[test]
fn ended_connections_leave_the_quota_of_their_pod() -> Result<()> {
    let mut machine = with_ports(1000)?;
    machine.put("POD_USAGE", VETH, PodUsage { replied: POD_QUOTA - 1, ..PodUsage::default() })?;
    for sport in 1001..1051 {
        let left = answered(&machine, sport, false)?;
        close(&machine, sport, &left, false)?;
    }
    ensure!(machine.counted(Reason::PodQuota)? == 0, "ended connections count");
    answered(&machine, 2001, false)?;
    answered(&machine, 2002, false)?;
    ensure!(machine.counted(Reason::PodQuota)? == 1, "connections that go on do not count");
    Ok(())
}

#[test]
fn a_tuple_has_the_same_port_each_time() -> Result<()> {
    for v6 in [false, true] {
        let machine = with_ports(1000)?;
        let first = answered(&machine, 1001, v6)?;
        close(&machine, 1001, &first, v6)?;
        for _ in 0..5 {
            let again = answered(&machine, 1001, v6)?;
            ensure!(port(&again)? == port(&first)?, "{} after {}", port(&again)?, port(&first)?);
            // A pod that does not accept the answer: old duplicate, no socket.
            let reset = Shape { sport: 1001, flags: "R", ..data(v6, 0) };
            ensure!(machine.run("pod_in", &reset.frame()?)?.verdict == REDIRECT, "RST");
        }
        ensure!(port(&answered(&machine, 1002, v6)?)? != port(&first)?, "shared");
    }
    Ok(())
}

#[test]
fn the_port_of_an_ended_connection_stays_reserved_until_there_is_no_other() -> Result<()> {
    let machine = with_ports(8)?;
    let mut taken = Vec::new();
    for sport in 1001..1009 {
        let left = answered(&machine, sport, false)?;
        close(&machine, sport, &left, false)?;
        taken.push(port(&left)?);
    }
    let mut all = taken.clone();
    all.sort_unstable();
    all.dedup();
    ensure!(all.len() == 8, "a reserved port was given away: {taken:?}");
    // Other tuples of the same places, of which every port has ended.
    let next = answered(&machine, 1009, false)?;
    ensure!(machine.counted(Reason::PortsExhausted)? == 0, "refused for the sake of ended connections");
    // The one whose port it took is gone whole: its late packets do not leave with a port of another connection.
    let at = taken.iter().position(|port_| Some(*port_) == port(&next).ok()).context("a port of its own")?;
    let sport = 1001 + u16::try_from(at)?;
    let late = machine.run("pod_in", &Shape { sport, flags: "FA", ..data(false, 0) }.frame()?)?;
    ensure!(late.verdict == PASS && port(&late.frame)? == sport, "{late:?}");
    let goes_on = machine.run("pod_in", &Shape { sport: 1009, ..data(false, 5) }.frame()?)?;
    ensure!(goes_on.verdict == REDIRECT && port(&goes_on.frame)? == port(&next)?, "{goes_on:?}");
    Ok(())
}

/// Where the own place of a tuple was taken, the far end remembers the tuple by another port.
#[test]
fn a_tuple_keeps_the_port_that_it_had_for_want_of_its_own() -> Result<()> {
    let machine = with_ports(64)?;
    // 64 ports apart they share a place.
    answered(&machine, 1001, false)?;
    let first = answered(&machine, 1065, false)?;
    for _ in 0..8 {
        close(&machine, 1065, &first, false)?;
        let again = answered(&machine, 1065, false)?;
        ensure!(port(&again)? == port(&first)?, "{} after {}", port(&again)?, port(&first)?);
    }
    Ok(())
}

#[test]
fn live_connections_are_never_displaced_by_new_ones() -> Result<()> {
    let machine = with_ports(4)?;
    for sport in 1001..1005 {
        answered(&machine, sport, false)?;
    }
    let ran = machine.run("pod_in", &Shape { sport: 1005, ..syn(false) }.frame()?)?;
    ensure!(ran.verdict == PASS && machine.counted(Reason::PortsExhausted)? == 1, "{ran:?}");
    Ok(())
}

/// The LRU displaces single entries: when the reverse entry went first, its port may be another connection's by the time its tuple is
/// opened again.
#[test]
fn reopening_leaves_the_port_of_another_connection_alone() -> Result<()> {
    let mut machine = with_ports(1)?;
    let left = answered(&machine, 1001, false)?;
    close(&machine, 1001, &left, false)?;
    let entries = machine.entries::<[u8; 4]>("UNREPLIED4")?;
    ensure!(entries.iter().all(|(_, flow)| flow.state.flags & FLOW_ENDED != 0), "{entries:?}");
    let reverse = entries.iter().find(|(key, _)| key.scope & REVERSE != 0).context("no reverse entry")?.0;
    machine.remove::<Flow4Key, Flow4>("UNREPLIED4", reverse)?;
    answered(&machine, 1002, false)?;
    let again = machine.run("pod_in", &Shape { sport: 1001, ..syn(false) }.frame()?)?;
    ensure!(again.verdict == PASS && machine.counted(Reason::PortsExhausted)? == 1, "{again:?}");
    let other = Shape { sport: 1002, ..data(false, 5) };
    ensure!(machine.run("pod_in", &other.frame()?)?.verdict == REDIRECT, "the other connection is gone");
    ensure!(machine.run("wan_in", &reply(&left, "A", false)?)?.verdict == REDIRECT, "its way back is gone");
    Ok(())
}
