//! Uplinks of kinds that this machine's kernel may lack. `cargo xtask test kernels` runs these in kernels that have them,
//! where a device that cannot be made is a failure; elsewhere they are skipped by name.

use anyhow::{Context as _, Result, ensure};
use clovisor_common::abi::Reason;
use clovisor_datapath::kernel::plan::AttachOrigin;
use harness::capture::{Capture, Pairs, without_ethernet};
use harness::datapath_site::{DatapathSite, FAR, LINKS, POD, SOURCE, Steered, TOS, Translation, Uplink};
use harness::eventually::eventually;
use harness::sockets::{PATIENCE, connect, datagrams, stream};
use std::net::IpAddr;

use crate::attached::modes;
use crate::features::{report, version};
use crate::observed::as_the_agent_fills_it;
use crate::paths::{connected, learned, narrow, pieces};

/// Bytes of a stream each way.
const STREAM: usize = 300_000;
/// The device that routing takes, and the steered link's.
const DEVICES: [&str; 2] = ["w0", "w1"];

/// A stream and datagrams there and back; the source that the far end saw of both, and what the edge's devices saw.
fn exchange(wire: &DatapathSite, family: usize) -> Result<(IpAddr, Pairs)> {
    let capture = Capture::start(&wire.edge)?;
    let by_tcp = stream(wire, family, TOS, STREAM)?;
    let by_udp = datagrams(wire, family, TOS, 5, 1000)?;
    ensure!(by_tcp == by_udp, "TCP came from {by_tcp}, UDP from {by_udp}");
    Ok((by_tcp, capture.end()?))
}

/// Packets of this family's far end went to and fro as `source` on the device, and none of another source.
fn passed(seen: &Pairs, device: &str, family: usize, source: IpAddr) -> Result<()> {
    let far = FAR[family];
    let pairs: Vec<_> = of_far_end(seen, device, family);
    ensure!(pairs.len() == 2, "on {device}, not to and fro as {source}: {pairs:?}");
    ensure!([(source, far), (far, source)].iter().all(|pair| pairs.contains(pair)), "on {device}: {pairs:?}");
    Ok(())
}

fn of_far_end(seen: &Pairs, device: &str, family: usize) -> Vec<(IpAddr, IpAddr)> {
    let far = FAR[family];
    let pairs = seen.get(device).into_iter().flatten().copied();
    pairs.filter(|(from, to)| [from, to].contains(&&far)).collect()
}

fn nothing_passed(seen: &Pairs, device: &str, family: usize) -> Result<()> {
    let pairs = of_far_end(seen, device, family);
    ensure!(pairs.is_empty(), "on {device}: {pairs:?}");
    Ok(())
}

/// All that a link of this kind must do, in the kernel's preferred way to attach.
fn proven(name: &str, uplink: Uplink) -> Result<()> {
    let told = |proven| if uplink == Uplink::Veth { Ok(()) } else { report(name, proven) };
    told(false)?;
    let wire = DatapathSite::with_uplink(uplink).with_context(|| format!("no {name} device"))?;
    unsteered(&wire).context("before")?;
    let mode = *modes()?.last().context("no way to attach")?;
    let mut steered = wire.steer(mode, Translation::Nat)?;
    let attached = steered.programs.attached();
    ensure!(attached.values().all(|a| a.mode == mode && a.origin == AttachOrigin::Fresh), "{attached:?}");
    for family in [0, 1] {
        by_the_link(&wire, uplink, family, SOURCE[family]).context("with NAT")?;
        learned(&wire, &wire.far, FAR[family], 1500).context("a full packet")?;
        pieces(&wire, family).context("in pieces")?;
        narrow(&wire, family).context("a path that narrows beyond the link")?;
    }
    for family in [0, 1] {
        let exchanged = || datagrams(&wire, family, TOS, 5, 1000).map(drop);
        let (all, bare) = without_ethernet(&wire.pod, exchanged)?;
        ensure!(all >= 10 && bare == 0, "{bare} of {all} packets at the pod have no Ethernet header");
    }
    if uplink.l3() {
        wire.forget_routes()?;
        for family in [0, 1] {
            by_the_link(&wire, uplink, family, SOURCE[family]).context("to where no route leads")?;
        }
        wire.route()?;
    }
    wire.translate(&mut steered, Translation::None)?;
    for family in [0, 1] {
        answered_by_another_kind(&wire, family).context("answers by the other link")?;
    }
    wire.answer_by_the_link()?;
    for family in [0, 1] {
        by_the_link(&wire, uplink, family, POD[family]).context("without NAT")?;
        moved(&wire, &mut steered, uplink, family).context("a stream that moves")?;
    }
    as_the_agent_fills_it(&wire, &steered, uplink).context("as the agent sees the device")?;
    let counters = steered.tables.counters()?;
    for reason in [Reason::LeakStopped, Reason::HelperFailed, Reason::LinkDown, Reason::Unsupported] {
        ensure!(counters.get(&reason).is_none_or(|counter| counter.packets == 0), "{counters:?}");
    }
    told(true)
}

/// The control: the same traffic by the default route, with the pod's address.
fn unsteered(wire: &DatapathSite) -> Result<()> {
    for family in [0, 1] {
        let (source, seen) = exchange(wire, family)?;
        ensure!(source == POD[family], "came from {source}");
        passed(&seen, DEVICES[0], family, source)?;
        nothing_passed(&seen, DEVICES[1], family)?;
    }
    Ok(())
}

fn by_the_link(wire: &DatapathSite, uplink: Uplink, family: usize, wanted: IpAddr) -> Result<()> {
    let (source, seen) = exchange(wire, family)?;
    ensure!(source == wanted, "came from {source}, not {wanted}");
    passed(&seen, DEVICES[1], family, source)?;
    nothing_passed(&seen, DEVICES[0], family)?;
    if uplink.l3() {
        nothing_passed(&seen, "u1", family).context("outside the tunnel")?;
    }
    Ok(())
}

/// The far end routes to the pod by the other link, whose packets have an Ethernet header.
fn answered_by_another_kind(wire: &DatapathSite, family: usize) -> Result<()> {
    let (source, seen) = exchange(wire, family)?;
    ensure!(source == POD[family], "came from {source}");
    let ways = DEVICES.map(|device| of_far_end(&seen, device, family));
    let (there, back) = ((POD[family], FAR[family]), (FAR[family], POD[family]));
    ensure!(ways == [vec![back], vec![there]], "{DEVICES:?}: {ways:?}");
    Ok(())
}

/// A stream goes on when it moves from a link with an Ethernet header and 1500 bytes to this kind, and back.
fn moved(wire: &DatapathSite, steered: &mut Steered, uplink: Uplink, family: usize) -> Result<()> {
    let ([plain, link], mtu) = (LINKS, Uplink::Veth.mtu());
    wire.move_to(steered, plain, mtu)?;
    let mut connection = connect(wire, family, TOS)?;
    for (to, mtu, device) in [(plain, mtu, "w0"), (link, uplink.mtu(), "w1"), (plain, mtu, "w0")] {
        wire.move_to(steered, to, mtu)?;
        let capture = Capture::start(&wire.edge)?;
        connection.round(STREAM).with_context(|| format!("by {device}"))?;
        let (seen, there) = (capture.end()?, (POD[family], FAR[family]));
        let ways = DEVICES.map(|device| of_far_end(&seen, device, family).contains(&there));
        ensure!(ways == DEVICES.map(|one| one == device), "not by {device} alone: {seen:?}");
    }
    wire.move_to(steered, link, uplink.mtu())
}

#[test]
#[ignore = "needs a kernel with VLAN devices; `cargo xtask test kernels` runs it"]
fn a_vlan_carries_what_is_steered_to_it_and_nothing_else() -> Result<()> {
    proven("VLAN", Uplink::Vlan)
}

#[test]
#[ignore = "needs a kernel with VLAN devices; `cargo xtask test kernels` runs it"]
fn a_vlan_on_the_device_of_another_link_carries_all_of_its_own() -> Result<()> {
    stacked(Uplink::VlanOnOther)
}

#[test]
fn a_macvlan_on_the_device_of_another_link_carries_all_of_its_own() -> Result<()> {
    stacked(Uplink::MacvlanOnOther)
}

/// Packets pass the other link's device too, where they are no leaks, and the other's answers are not this one's.
fn stacked(uplink: Uplink) -> Result<()> {
    let wire = DatapathSite::with_uplink(uplink)?;
    let mut steered = wire.steer(*modes()?.last().context("no way to attach")?, Translation::Nat)?;
    for family in [0, 1] {
        let (source, seen) = exchange(&wire, family)?;
        ensure!(source == SOURCE[family], "came from {source}");
        passed(&seen, DEVICES[1], family, source)?;
    }
    wire.translate(&mut steered, Translation::None)?;
    wire.answer_by_the_link()?;
    for family in [0, 1] {
        let (source, seen) = exchange(&wire, family)?;
        ensure!(source == POD[family], "came from {source}");
        passed(&seen, DEVICES[1], family, source)?;
    }
    let stopped = steered.tables.counters()?.get(&Reason::LeakStopped).map_or(0, |counter| counter.packets);
    ensure!(stopped == 0, "{stopped} packets were stopped");
    let rx = |link: u8| -> Result<u64> {
        Ok(steered.tables.link_counters()?.get(&link).map_or(0, |counters| counters.rx.packets))
    };
    let (below, own) = (rx(LINKS[0])?, rx(LINKS[1])?);
    ensure!(own > 0 && below == 0, "{below} answers were taken by the device below, {own} by its own");
    Ok(())
}

#[test]
#[ignore = "needs a kernel with WireGuard; `cargo xtask test kernels` runs it"]
fn wireguard_carries_what_is_steered_to_it_and_nothing_else() -> Result<()> {
    proven("WireGuard", Uplink::WireGuard)
}

#[test]
#[ignore = "needs a kernel with GRE; `cargo xtask test kernels` runs it"]
fn an_ip_tunnel_carries_what_is_steered_to_it_and_nothing_else() -> Result<()> {
    // Before that the outer header stands for the link layer of what comes out of a tunnel, and programs see it first.
    if version()? < (5, 14) {
        return unanswered();
    }
    proven("GRE", Uplink::Gre)
}

/// A limit of old kernels: packets leave by the tunnel, and their answers are not recognised. Whoever lifts it learns so
/// here.
fn unanswered() -> Result<()> {
    report("GRE", false)?;
    let wire = DatapathSite::with_uplink(Uplink::Gre)?;
    let steered = wire.steer(*modes()?.last().context("no way to attach")?, Translation::Nat)?;
    for family in [0, 1] {
        let (pod, far) = connected(&wire, &wire.far, FAR[family])?;
        let capture = Capture::start(&wire.edge)?;
        pod.send(b"?")?;
        let (_, from) = far.recv_from(&mut [0])?;
        ensure!(from.ip() == SOURCE[family], "came from {from}");
        far.connect(from)?;
        // The edge's own stack has it, and nobody there who wants it.
        eventually("the stack's refusal", PATIENCE, || far.send(b"!").err().context("none"))?;
        passed(&capture.end()?, DEVICES[1], family, from.ip())?;
    }
    let returned = steered.tables.counters()?.get(&Reason::Returned).map_or(0, |counter| counter.packets);
    ensure!(returned == 0, "{returned} answers are recognised now: the limit is gone");
    Ok(())
}

/// The same on the device that every kernel has: what is wrong here is wrong with the test.
#[test]
fn a_veth_carries_what_is_steered_to_it_and_nothing_else() -> Result<()> {
    proven("veth", Uplink::Veth)
}
