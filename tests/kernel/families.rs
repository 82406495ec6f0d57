//! Links of which only one address family works, and slots that name another link for each.

use anyhow::{Result, ensure};
use clovisor_common::abi::{LINK_NAT, LINK_UP, LINK_UP4, LINK_UP6, Link, NO_LINK, Reason, SLOT_REFUSE, Slot};

use crate::established::{OTHER, established, links};
use crate::frames::{data, seen, syn};
use crate::machine::{DROP, LINK, Machine, PASS, REDIRECT, link};

/// Up for a family.
const fn up(v6: bool) -> u32 {
    if v6 { LINK_UP6 } else { LINK_UP4 }
}

/// `own` for a family, `others` for the other one.
fn slot(v6: bool, own: u8, others: u8) -> Slot {
    let (link4, link6) = if v6 { (others, own) } else { (own, others) };
    Slot { link4, link6, ..Slot::NONE }
}

/// New connections take the link of their own family, whatever that of the other one is.
#[test]
fn a_connection_opens_on_the_link_of_its_family() -> Result<()> {
    for v6 in [false, true] {
        let mut machine = Machine::ready()?;
        machine.link(OTHER, Link { ifindex: 12, ..link() })?;
        for (slot, refuse, wanted) in [
            (slot(v6, OTHER, LINK), 0, Reason::FlowOpened),
            (slot(v6, NO_LINK, LINK), 0, Reason::NoLinkDefault),
            (slot(v6, NO_LINK, LINK), SLOT_REFUSE, Reason::NoLinkRefused),
        ] {
            let before = machine.counted(wanted)?;
            machine.slot(Slot { flags: refuse, ..slot })?;
            let mut shape = syn(v6);
            shape.sport += u16::from(wanted as u8);
            let ran = machine.run("pod_in", &shape.frame()?)?;
            let verdict = match wanted {
                Reason::FlowOpened => REDIRECT,
                Reason::NoLinkDefault => PASS,
                _ => DROP,
            };
            ensure!(ran.verdict == verdict, "v6 {v6}, {slot:?}: {ran:?}");
            ensure!(machine.counted(wanted)? == before + 1, "v6 {v6}, {slot:?}: not {wanted:?}");
        }
        ensure!(links(&machine, v6)? == [OTHER, OTHER], "entries of another link");
    }
    Ok(())
}

/// A link takes nothing of a family that is down there, though its address is known.
#[test]
fn a_link_takes_only_the_families_that_are_up() -> Result<()> {
    for v6 in [false, true] {
        for (flags, wanted) in [(up(v6), Reason::FlowOpened), (up(!v6), Reason::NoLinkDefault)] {
            let mut machine = Machine::ready()?;
            machine.link(LINK, Link { flags: flags | LINK_NAT, ..link() })?;
            machine.run("pod_in", &syn(v6).frame()?)?;
            machine.expect_counted(&[wanted])?;
        }
    }
    Ok(())
}

/// When one family of a link dies, its connections are reset (or move, without translation), those of the other family go on
/// as if nothing had happened.
#[test]
fn only_the_dead_familys_connections_leave() -> Result<()> {
    for v6 in [false, true] {
        for (flags, left) in [(link().flags, Reason::FlowReset), (LINK_UP, Reason::FlowMoved)] {
            // Its own family is dead: the agent has written link and slot.
            let mut machine = established(v6, flags)?;
            machine.link(LINK, Link { flags: flags & !up(v6), ..link() })?;
            let held = machine.run("pod_in", &data(v6, 9).frame()?)?;
            ensure!(
                held.verdict == REDIRECT && machine.counted(Reason::FlowHeld)? == 1,
                "not held: {held:?}"
            );
            machine.slot(slot(v6, OTHER, LINK))?;
            let ran = machine.run("pod_in", &data(v6, 9).frame()?)?;
            ensure!(seen(&ran.frame)?.tcp.rst == (left == Reason::FlowReset), "v6 {v6}: {ran:?}");
            machine.expect_counted(&[Reason::FlowOpened, Reason::Steered, Reason::FlowHeld, left])?;

            // The other one is.
            let mut machine = established(v6, flags)?;
            machine.link(LINK, Link { flags: flags & !up(!v6), ..link() })?;
            ensure!(machine.run("pod_in", &data(v6, 9).frame()?)?.verdict == REDIRECT, "not sent");
            machine.slot(slot(v6, LINK, OTHER))?;
            ensure!(machine.run("pod_in", &data(v6, 18).frame()?)?.verdict == REDIRECT, "not sent");
            ensure!(links(&machine, v6)? == [LINK, LINK], "moved");
            machine.expect_counted(&[
                Reason::FlowOpened,
                Reason::Steered,
                Reason::Steered,
                Reason::Steered,
            ])?;
        }
    }
    Ok(())
}
