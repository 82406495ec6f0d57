//! What a steered packet looks like on its link, and its entries.

use anyhow::{Context as _, Result, ensure};
use clovisor_common::abi::{ANY_LINK, FLOW_NAT, FLOW_REVERSE, Flow, FlowKey, LINK_UP, Link, REVERSE, Slot};

use crate::frames::{MAC_A, Seen, Shape, data, seen, syn};
use crate::machine::{
    CLASS, LINK, Machine, PEER4, PEER6, POD4, POD6, REAL4, REAL6, REDIRECT, SLOT, SOURCE4, SOURCE6, SPORT,
    VETH, ZONE, link, mapped, peer,
};

fn plain() -> Link {
    Link { flags: LINK_UP, ..link() }
}

fn steered(machine: &Machine, frame: &[u8]) -> Result<Seen> {
    let ran = machine.run("pod_in", frame)?;
    ensure!(ran.verdict == REDIRECT, "verdict {}", ran.verdict);
    seen(&ran.frame)
}

#[test]
fn nat_and_peers_rewrite_addresses_and_ports_and_nothing_else() -> Result<()> {
    for (v6, nat, far) in (0..8).map(|bits| (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0)) {
        let name = format!("v6 {v6}, nat {nat}, peer {far}");
        let mut machine = Machine::ready()?;
        machine.link(LINK, if nat { link() } else { plain() })?;
        if far {
            let (key, value) =
                if v6 { peer(PEER6, REAL6, LINK) } else { peer(mapped(PEER4), mapped(REAL4), LINK) };
            machine.put("PEERS", key, value)?;
        }
        for shape in [Shape { mss: Some(1300), ..syn(v6) }, data(v6, 37), data(v6, 1200)] {
            let before = seen(&shape.frame()?)?;
            let after = steered(&machine, &shape.frame()?).with_context(|| name.clone())?;
            let mut wanted = before.clone();
            let (source, real) =
                if v6 { (SOURCE6.to_vec(), REAL6.to_vec()) } else { (SOURCE4.to_vec(), REAL4.to_vec()) };
            if nat {
                wanted.from = source;
            }
            if far {
                (wanted.to, wanted.tcp.destination_port) = (real, 8443);
            }
            (wanted.dscp, wanted.ttl, wanted.tcp.checksum) = (0, 63, after.tcp.checksum);
            ensure!(after == wanted, "{name}: {after:?} instead of {wanted:?}");
            ensure!(after.ecn == 2 && after.macs.0 == MAC_A, "{name}: ECN or MAC changed");
        }
    }
    Ok(())
}

#[test]
fn the_wire_dscp_replaces_the_class_on_every_packet() -> Result<()> {
    for v6 in [false, true] {
        let mut machine = Machine::ready()?;
        machine.slot(Slot { wire_dscp: 46, ..Slot::of(LINK) })?;
        let unmarked = Shape { dscp: 0, ecn: 1, ..data(v6, 10) };
        for shape in [syn(v6), unmarked] {
            let after = steered(&machine, &shape.frame()?)?;
            ensure!((after.dscp, after.ecn) == (46, shape.ecn), "v6 {v6}: {after:?}");
        }
    }
    Ok(())
}

/// What the mapping asks for goes before what the link has; either clears the class.
#[test]
fn the_wire_has_the_dscp_of_the_mapping_or_of_the_link() -> Result<()> {
    for v6 in [false, true] {
        for (slot, on_link, wanted) in [(0, 0, 0), (0, 34, 34), (46, 34, 46), (46, 0, 46)] {
            let mut machine = Machine::ready()?;
            machine.link(LINK, Link { wire_dscp: on_link, ..link() })?;
            machine.slot(Slot { wire_dscp: slot, ..Slot::of(LINK) })?;
            for shape in [syn(v6), data(v6, 9)] {
                let after = steered(&machine, &shape.frame()?)?;
                ensure!(
                    (after.dscp, after.ecn) == (wanted, shape.ecn),
                    "v6 {v6}, {slot}, {on_link}: {after:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn the_pair_of_entries_tells_the_flow() -> Result<()> {
    let machine = Machine::ready()?;
    let bytes = syn(false).frame()?.len() as u64 - 14;
    steered(&machine, &syn(false).frame()?)?;
    let forward_key = key(POD4, PEER4);
    let (forward, reverse) = pair(&machine, "FLOW4", forward_key)?;
    let state = forward.state;
    ensure!((forward.saddr, forward.daddr) == (SOURCE4, PEER4), "{forward:?}");
    ensure!(
        (state.veth, u32::from(state.slot), state.link, state.class) == (VETH, SLOT, LINK, CLASS),
        "{state:?}"
    );
    ensure!((state.packets, state.bytes, state.tcp_flags) == (1, bytes, 2), "{state:?}");
    ensure!(
        state.flags == FLOW_NAT && state.zone == ZONE && state.created_ns <= state.last_seen_ns,
        "{state:?}"
    );
    ensure!((reverse.saddr, reverse.daddr) == (PEER4, POD4), "{reverse:?}");
    ensure!(reverse.state.flags == FLOW_NAT | FLOW_REVERSE && reverse.state.packets == 0, "{reverse:?}");
    let (sent, received) = machine.carried()?;
    ensure!((sent.packets, sent.bytes, received.packets) == (1, bytes, 0), "{sent:?}");
    Ok(())
}

#[test]
fn without_nat_any_link_may_answer() -> Result<()> {
    let mut machine = Machine::ready()?;
    machine.link(LINK, plain())?;
    steered(&machine, &syn(true).frame()?)?;
    let forward_key = key(POD6, PEER6);
    let (forward, reverse) = pair(&machine, "FLOW6", forward_key)?;
    ensure!(forward_key.paired(&forward).scope == REVERSE | ANY_LINK, "bound to a link");
    ensure!((reverse.saddr, reverse.daddr) == (PEER6, POD6), "{reverse:?}");
    Ok(())
}

fn key<A>(saddr: A, daddr: A) -> FlowKey<A> {
    let (sport_be, dport_be) = (SPORT.to_be(), 443_u16.to_be());
    FlowKey { saddr, daddr, sport_be, dport_be, scope: VETH, proto: 6, pad: 0 }
}

/// The entry under `key` and the one that it names as its pair; there must be no other.
fn pair<A: Copy + PartialEq>(machine: &Machine, map: &str, key: FlowKey<A>) -> Result<(Flow<A>, Flow<A>)>
where
    FlowKey<A>: aya::Pod,
    Flow<A>: aya::Pod,
{
    let flows = machine.flows::<A>(map)?;
    let find = |key: FlowKey<A>| flows.iter().find(|(k, _)| *k == key).map(|(_, flow)| *flow);
    let forward = find(key).context("no forward entry")?;
    let reverse = find(key.paired(&forward)).context("no reverse entry")?;
    ensure!(flows.len() == 2, "{} entries", flows.len());
    ensure!(key.paired(&forward).paired(&reverse) == key, "the pair does not close");
    Ok((forward, reverse))
}
