//! Datagrams that answer somebody who dialled the pod: the map `EXCHANGES`.

use anyhow::{Context as _, Result, ensure};
use aya::maps::{HashMap, MapData};
use clovisor_common::abi::{
    EXCHANGE_NS, Exchange, ExchangeKey, LINK_MARK, LOCAL, Link, NO_LINK, Reason, Slot,
};

use crate::datagrams::{Datagram, ECHO, Kind, UDP, datagram};
use crate::machine::{LINK, Machine, PASS, PEER4, PEER6, REDIRECT, SPORT, link, mapped};
use crate::traffic::everything;

/// What the pod of [`UDP`] gets from its peer.
const INWARD: Kind = Kind::Udp { sport: 5060, dport: SPORT };

fn inward(v6: bool) -> Datagram {
    let Datagram { from, to, .. } = datagram(INWARD, v6);
    Datagram { from: to, to: from, ..datagram(INWARD, v6) }
}

/// The stack gives it to the pod.
fn arrives(machine: &Machine, v6: bool) -> Result<()> {
    let frame = inward(v6).frame()?;
    let ran = machine.run("pod_out", &frame)?;
    ensure!(ran.verdict == PASS && ran.frame == frame, "v6 {v6}: {ran:?}");
    Ok(())
}

/// The pod sends it; its verdict, and nothing changed where it passes.
fn sends(machine: &Machine, kind: Kind, v6: bool) -> Result<i32> {
    let frame = datagram(kind, v6).frame()?;
    let ran = machine.run("pod_in", &frame)?;
    ensure!(ran.verdict != PASS || ran.frame == frame, "v6 {v6}: changed");
    Ok(ran.verdict)
}

fn exchanges(machine: &Machine) -> Result<Vec<(ExchangeKey, Exchange)>> {
    let map: HashMap<&MapData, ExchangeKey, Exchange> = machine.map("EXCHANGES")?.try_into()?;
    Ok(map.iter().collect::<Result<_, _>>()?)
}

/// Its answers pass untouched, however many; the same pod's own datagrams to the same server are steered. The control: the same
/// answers without a question.
#[test]
fn answers_of_the_pod_take_no_link() -> Result<()> {
    for v6 in [false, true] {
        let machine = everything()?;
        arrives(&machine, v6)?;
        ensure!(sends(&machine, UDP, v6)? == PASS && sends(&machine, UDP, v6)? == PASS, "v6 {v6}: taken");
        machine.expect_counted(&[Reason::Answer, Reason::Answer])?;
        for own in [Kind::Udp { sport: SPORT + 1, dport: 5060 }, Kind::Udp { sport: SPORT, dport: 5061 }] {
            ensure!(sends(&machine, own, v6)? == REDIRECT, "v6 {v6}: {own:?} not taken");
        }
        let control = everything()?;
        ensure!(sends(&control, UDP, v6)? == REDIRECT, "v6 {v6}: the control is not taken");
    }
    Ok(())
}

/// A mapping that refuses drops none either, and a link that is down changes nothing.
#[test]
fn answers_pass_whatever_the_slot_says() -> Result<()> {
    for v6 in [false, true] {
        for slot in
            [Slot::of(NO_LINK), Slot { flags: clovisor_common::abi::SLOT_REFUSE, ..Slot::of(NO_LINK) }]
        {
            let mut machine = everything()?;
            machine.slot(slot)?;
            arrives(&machine, v6)?;
            ensure!(sends(&machine, UDP, v6)? == PASS, "v6 {v6}: {slot:?}");
            machine.slot(Slot::of(LINK))?;
            ensure!(sends(&machine, UDP, v6)? == PASS, "v6 {v6}: taken when the link came");
            machine.expect_counted(&[Reason::Answer, Reason::Answer])?;
        }
    }
    Ok(())
}

/// What the pod began without a link is its own, though the stack brings the answers: it takes the link that comes.
#[test]
fn an_exchange_that_the_pod_began_is_no_answer() -> Result<()> {
    for v6 in [false, true] {
        let mut machine = everything()?;
        machine.slot(Slot::of(NO_LINK))?;
        ensure!(sends(&machine, UDP, v6)? == PASS, "v6 {v6}: taken");
        arrives(&machine, v6)?;
        machine.slot(Slot::of(LINK))?;
        ensure!(sends(&machine, UDP, v6)? == REDIRECT, "v6 {v6}: not taken");
        machine.expect_counted(&[Reason::NoLinkDefault, Reason::FlowOpened])?;
    }
    Ok(())
}

/// In mode `Mark` the stack brings the answers to what the pod sent: they begin nothing, also when the flow is forgotten.
#[test]
fn an_answer_to_the_pod_begins_nothing() -> Result<()> {
    for v6 in [false, true] {
        let mut machine = everything()?;
        machine.link(LINK, Link { flags: link().flags | LINK_MARK, mark: 16, mark_mask: 0xf0, ..link() })?;
        ensure!(sends(&machine, UDP, v6)? == PASS, "v6 {v6}: not by mark");
        arrives(&machine, v6)?;
        let forgotten =
            if v6 { forget::<[u8; 16]>(&mut machine, "6")? } else { forget::<[u8; 4]>(&mut machine, "4")? };
        ensure!(forgotten == 2, "{forgotten} entries");
        arrives(&machine, v6)?;
        ensure!(sends(&machine, UDP, v6)? == PASS, "v6 {v6}: not by mark");
        machine.expect_counted(&[Reason::FlowOpened, Reason::FlowOpened])?;
    }
    Ok(())
}

/// Removes the flows of a family; how many entries.
fn forget<A: Copy + 'static>(machine: &mut Machine, family: &str) -> Result<usize>
where
    clovisor_common::abi::FlowKey<A>: aya::Pod,
    clovisor_common::abi::Flow<A>: aya::Pod,
{
    let mut forgotten = 0;
    for map in ["FLOW", "UNREPLIED"].map(|map| format!("{map}{family}")) {
        for (key, _) in machine.entries::<A>(&map)? {
            machine.remove::<_, clovisor_common::abi::Flow<A>>(&map, key)?;
            forgotten += 1;
        }
    }
    Ok(forgotten)
}

/// Either direction keeps an exchange; after its silence the pod may begin one itself.
#[test]
fn an_exchange_ends_with_silence() -> Result<()> {
    for v6 in [false, true] {
        for (age, verdict) in [(EXCHANGE_NS / 2, PASS), (EXCHANGE_NS, REDIRECT)] {
            let mut machine = everything()?;
            arrives(&machine, v6)?;
            let (key, began) = exchanges(&machine)?.pop().context("no exchange")?;
            // A guest has not run as long as that.
            let Some(last_seen_ns) = began.last_seen_ns.checked_sub(age) else { continue };
            machine.put("EXCHANGES", key, Exchange { last_seen_ns, ..began })?;
            ensure!(sends(&machine, UDP, v6)? == verdict, "v6 {v6}, after {age} ns");
            let seen = exchanges(&machine)?.pop().context("no exchange")?.1.last_seen_ns;
            ensure!((seen > last_seen_ns) == (verdict == PASS), "v6 {v6}, after {age} ns: seen at {seen}");
        }
    }
    Ok(())
}

/// Noted is only what may be taken: datagrams of a governed and not local peer.
#[test]
fn what_no_mapping_takes_is_not_noted() -> Result<()> {
    for v6 in [false, true] {
        let plain = Machine::ready()?;
        arrives(&plain, v6)?;
        ensure!(exchanges(&plain)?.is_empty(), "v6 {v6}: of a pod without a mapping of traffic");
        let mut machine = everything()?;
        machine.local(128, if v6 { PEER6 } else { mapped(PEER4) }, LOCAL)?;
        arrives(&machine, v6)?;
        ensure!(sends(&machine, UDP, v6)? == PASS, "v6 {v6}: local and taken");
        ensure!(exchanges(&machine)?.is_empty(), "v6 {v6}: of a local peer");
        let pinged = everything()?;
        let ping = Datagram { kind: ECHO, ..inward(v6) };
        ensure!(pinged.run("pod_out", &ping.frame()?)?.verdict == PASS, "v6 {v6}: a ping");
        ensure!(sends(&pinged, Kind::Reply { id: SPORT }, v6)? == PASS, "v6 {v6}: a ping's answer is taken");
        ensure!(exchanges(&pinged)?.is_empty(), "v6 {v6}: of a ping");
    }
    Ok(())
}
