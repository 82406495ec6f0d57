//! MSS, MTU, ports and tables.

use anyhow::{Context as _, Result, ensure};
use clovisor_common::abi::{Link, PeerKey, Reason, SLOT_REFUSE, Slot};
use etherparse::{Icmpv4Type, Icmpv6Type, NetHeaders, PacketHeaders, TransportHeader, icmpv4, icmpv6};
use harness::programs::Variant;

use crate::frames::{MAC_A, MAC_B, Seen, Shape, data, seen, syn};
use crate::machine::{
    DROP, LINK, Machine, PASS, PEER4, PEER6, POD4, PORT_BE, REAL4, REDIRECT, SOURCE4, SOURCE6, SPORT, dest,
    link, mapped, peer,
};

#[test]
fn the_mss_of_a_syn_is_lowered_to_the_link() -> Result<()> {
    for (v6, mtu, offered, wanted) in [
        (false, 1500, 1460, 1460),
        (false, 1400, 1460, 1360),
        (false, 1400, 1200, 1200),
        (true, 1500, 1460, 1440),
        (true, 1280, 1440, 1220),
    ] {
        let mut machine = Machine::ready()?;
        machine.link(LINK, Link { mtu, ..link() })?;
        let ran = machine.run("pod_in", &Shape { mss: Some(offered), ..syn(v6) }.frame()?)?;
        ensure!(ran.verdict == REDIRECT, "verdict {}", ran.verdict);
        ensure!(seen(&ran.frame)?.mss() == Some(wanted), "v6 {v6}, MTU {mtu}, offered {offered}");
    }
    Ok(())
}

#[test]
fn a_packet_larger_than_the_link_is_answered() -> Result<()> {
    for v6 in [false, true] {
        let machine = Machine::ready()?;
        ensure!(machine.run("pod_in", &syn(v6).frame()?)?.verdict == REDIRECT, "the flow was not opened");
        let headers = if v6 { 60 } else { 40 };
        let fits = data(v6, 1500 - headers).frame()?;
        ensure!(machine.run("pod_in", &fits)?.verdict == REDIRECT, "v6 {v6}: the MTU itself does not fit");
        let frame = data(v6, 1501 - headers).frame()?;
        let ran = machine.run("pod_in", &frame)?;
        ensure!(ran.verdict == REDIRECT, "v6 {v6}: verdict {}", ran.verdict);
        ensure!(machine.counted(Reason::MtuExceeded)? == 1, "not counted");
        answer(&ran.frame, &frame, v6).with_context(|| format!("v6 {v6}"))?;
    }
    Ok(())
}

/// Fails unless `frame` tells the sender of `quoted` to use 1500 bytes.
fn answer(frame: &[u8], quoted: &[u8], v6: bool) -> Result<()> {
    let headers = PacketHeaders::from_ethernet_slice(frame)?;
    let link = headers.link.context("no Ethernet header")?.ethernet2().context("no Ethernet header")?;
    ensure!((link.source, link.destination) == (MAC_B, MAC_A), "{link:?}");
    let payload = headers.payload.slice();
    let (Some(NetHeaders::Ipv4(..)) | Some(NetHeaders::Ipv6(..))) = &headers.net else {
        anyhow::bail!("no IP header");
    };
    match (headers.net.context("no IP header")?, headers.transport.context("no ICMP header")?) {
        (NetHeaders::Ipv4(ip, _), TransportHeader::Icmpv4(icmp)) => {
            ensure!(!v6 && ip.header_checksum == ip.calc_header_checksum(), "wrong IP checksum");
            ensure!((ip.source, ip.destination) == (PEER4, POD4), "{ip:?}");
            let wanted = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1500 };
            ensure!(icmp.icmp_type == Icmpv4Type::DestinationUnreachable(wanted), "{icmp:?}");
            ensure!(icmp.checksum == icmp.icmp_type.calc_checksum(payload), "wrong ICMP checksum");
        }
        (NetHeaders::Ipv6(ip, _), TransportHeader::Icmpv6(icmp)) => {
            ensure!(v6 && icmp.icmp_type == Icmpv6Type::PacketTooBig { mtu: 1500 }, "{icmp:?}");
            let length = icmpv6::TYPE_PACKET_TOO_BIG;
            ensure!(length == 2 && ip.payload_length == 56, "{ip:?}");
            let checksum = icmp.icmp_type.calc_checksum(ip.source, ip.destination, payload)?;
            ensure!(icmp.checksum == checksum, "wrong ICMP checksum");
        }
        other => anyhow::bail!("not an ICMP error: {other:?}"),
    }
    let place = quoted.get(14..14 + payload.len()).context("quotes too much")?;
    ensure!(payload == place, "quotes something else");
    Ok(())
}

/// Two addresses that the pod dials and that are one real peer: the second flow needs another port.
fn two_names() -> Result<Machine> {
    let mut machine = Machine::ready()?;
    for last in 0..64 {
        let dialled = mapped([240, 0, 0, last]);
        let (key, value) = peer(dialled, mapped(REAL4), LINK);
        machine.put("PEERS", key, value)?;
        machine.put("DESTS", dest(dialled), u32::MAX)?;
    }
    Ok(machine)
}

fn to(last: u8) -> Result<Vec<u8>> {
    Shape { to: Some(vec![240, 0, 0, last]), ..syn(false) }.frame()
}

#[test]
fn source_ports_are_of_the_range_and_never_shared() -> Result<()> {
    let mut machine = two_names()?;
    machine.link(LINK, Link { port_min: 20_000, port_max: 20_063, ..link() })?;
    let mut ports = Vec::new();
    for last in 0..4 {
        let ran = machine.run("pod_in", &to(last)?)?;
        ensure!(ran.verdict == REDIRECT, "verdict {}", ran.verdict);
        ports.push(seen(&ran.frame)?.tcp.source_port);
    }
    ports.sort_unstable();
    ports.dedup();
    ensure!(ports.len() == 4 && ports.iter().all(|p| (20_000..=20_063).contains(p)), "{ports:?}");
    Ok(())
}

#[test]
fn ports_run_out() -> Result<()> {
    for (flags, verdict) in [(0, PASS), (SLOT_REFUSE, DROP)] {
        let mut machine = two_names()?;
        machine.link(LINK, Link { port_min: 20_000, port_max: 20_002, ..link() })?;
        machine.slot(Slot { flags, ..Slot::of(LINK) })?;
        for last in 0..3 {
            ensure!(machine.run("pod_in", &to(last)?)?.verdict == REDIRECT, "flow {last} refused");
        }
        let ran = machine.run("pod_in", &to(3)?)?;
        ensure!(ran.verdict == verdict, "verdict {}", ran.verdict);
        let unmarked = Seen { dscp: 0, ..seen(&to(3)?)? };
        ensure!(verdict == DROP || seen(&ran.frame)? == unmarked, "another change than that of the class");
        ensure!(machine.counted(Reason::PortsExhausted)? == 1, "not counted");
        ensure!(machine.flows::<[u8; 4]>("FLOW4")?.len() == 6, "entries left behind");
    }
    Ok(())
}

#[test]
fn a_peer_of_another_port_or_link_is_not_taken() -> Result<()> {
    let mut machine = Machine::ready()?;
    let (key, value) = peer(mapped(PEER4), mapped(REAL4), LINK);
    machine.put("PEERS", PeerKey { link: LINK + 1, ..key }, value)?;
    machine.put("PEERS", PeerKey { port_be: PORT_BE + 1, ..key }, value)?;
    let ran = machine.run("pod_in", &syn(false).frame()?)?;
    ensure!(seen(&ran.frame)?.to == PEER4, "rewritten to another link's peer");
    Ok(())
}

/// For want of memory the kernel may refuse to rewrite a packet: half a translation must not leave.
#[test]
fn what_cannot_be_rewritten_is_dropped() -> Result<()> {
    for v6 in [false, true] {
        let machine = Machine::by(Variant::FailRewrites)?;
        ensure!(machine.run("pod_in", &syn(v6).frame()?)?.verdict == DROP, "a first packet left");
        ensure!(machine.run("pod_in", &data(v6, 5).frame()?)?.verdict == DROP, "another packet left");
        let (from, to) = if v6 { (&PEER6[..], &SOURCE6[..]) } else { (&PEER4[..], &SOURCE4[..]) };
        let (sport, dport) = (u16::from_be(PORT_BE), SPORT);
        for flags in ["SA", "A"] {
            let answer =
                Shape { from: Some(from.into()), to: Some(to.into()), sport, dport, flags, ..data(v6, 0) };
            ensure!(machine.run("wan_in", &answer.frame()?)?.verdict == DROP, "an answer came");
        }
        machine.expect_counted(&[Reason::HelperFailed; 4])?;
    }
    Ok(())
}
