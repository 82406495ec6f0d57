//! Flows whose mapping does not have their link any more, though it is up.

use anyhow::{Result, ensure};
use clovisor_common::abi::{LINK_UP, Link, NO_LINK, Reason, SLOT_REFUSE, Slot};

use crate::datagrams::{ECHO, UDP, datagram};
use crate::established::{OTHER, established, links};
use crate::frames::{data, seen, syn};
use crate::machine::{LINK, Machine, REDIRECT, link};
use crate::traffic::everything;

/// The mapping's link is `to` now; those in `forbidden` are not its own.
fn only(machine: &mut Machine, to: u8, flags: u8, forbidden: &[u8]) -> Result<()> {
    let forbidden = forbidden.iter().fold(0, |bits, link| bits | 1 << link);
    machine.slot(Slot { flags, forbidden, ..Slot::of(to) })
}

#[test]
fn a_connection_that_cannot_move_is_reset() -> Result<()> {
    for v6 in [false, true] {
        // Also where no link is left: what it waited for would not be its own.
        for (to, flags) in [(OTHER, 0), (NO_LINK, 0), (NO_LINK, SLOT_REFUSE)] {
            let mut machine = established(v6, link().flags)?;
            only(&mut machine, to, flags, &[LINK])?;
            let rst = machine.run("pod_in", &data(v6, 9).frame()?)?;
            ensure!(rst.verdict == REDIRECT && seen(&rst.frame)?.tcp.rst, "{to}: {rst:?}");
            let wanted = [Reason::FlowOpened, Reason::Steered, Reason::FlowReset];
            machine.expect_counted(&wanted)?;
        }
    }
    Ok(())
}

#[test]
fn a_connection_without_nat_moves() -> Result<()> {
    for v6 in [false, true] {
        let mut machine = established(v6, LINK_UP)?;
        only(&mut machine, OTHER, 0, &[LINK])?;
        ensure!(machine.run("pod_in", &data(v6, 9).frame()?)?.verdict == REDIRECT, "not moved");
        ensure!(links(&machine, v6)? == [OTHER, OTHER], "entries of another link");
        machine.expect_counted(&[Reason::FlowOpened, Reason::Steered, Reason::FlowMoved])?;
    }
    Ok(())
}

/// The control: a link that the mapping has stays a flow's own, though another one is first now.
#[test]
fn a_connection_stays_on_a_link_that_the_mapping_has() -> Result<()> {
    for flags in [LINK_UP, link().flags] {
        let mut machine = established(false, flags)?;
        only(&mut machine, OTHER, 0, &[OTHER + 1])?;
        ensure!(machine.run("pod_in", &data(false, 9).frame()?)?.verdict == REDIRECT, "not sent");
        ensure!(links(&machine, false)? == [LINK, LINK], "moved");
        machine.expect_counted(&[Reason::FlowOpened, Reason::Steered, Reason::Steered])?;
    }
    Ok(())
}

#[test]
fn what_opens_a_flow_opens_it_on_the_new_link() -> Result<()> {
    for v6 in [false, true] {
        let mut machine = everything()?;
        machine.link(OTHER, Link { source4: [192, 0, 2, 99], source6: [9; 16], ..link() })?;
        for frame in [syn(v6).frame()?, datagram(UDP, v6).frame()?, datagram(ECHO, v6).frame()?] {
            only(&mut machine, LINK, 0, &[])?;
            ensure!(machine.run("pod_in", &frame)?.verdict == REDIRECT, "not opened");
            only(&mut machine, OTHER, 0, &[LINK])?;
            let ran = machine.run("pod_in", &frame)?;
            // Behind the Ethernet header, at the addresses.
            let (at, source) = if v6 { (22, vec![9; 16]) } else { (26, vec![192, 0, 2, 99]) };
            let from = ran.frame.get(at..at + source.len());
            ensure!(ran.verdict == REDIRECT && from == Some(&source[..]), "{ran:?}");
        }
        machine.expect_counted(&[Reason::FlowOpened; 6])?;
    }
    Ok(())
}
