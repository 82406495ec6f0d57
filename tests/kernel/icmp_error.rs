//! ICMP errors about packets of flows, and what they quote.

use anyhow::{Context as _, Result, bail, ensure};
use clovisor_common::abi::{LINK_NAT, LINK_UP, Link, NO_LINK, Reason, Slot};
use etherparse::{Icmpv4Type, Icmpv6Type, NetHeaders, PacketBuilder, PacketHeaders, TransportHeader, icmpv4};

use crate::frames::{MAC_A, MAC_B, Shape, seen, syn};
use crate::machine::{
    DROP, LINK, Machine, PASS, PEER4, PEER6, POD4, POD6, REAL4, REAL6, REDIRECT, SOURCE4, SOURCE6, link,
    mapped, peer,
};

const ETHERNET: usize = 14;
const ROUTER4: [u8; 4] = [192, 0, 2, 200];
const ROUTER6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];

/// "Too big" from and to these addresses, about the packet of `frame`.
fn error(from: &[u8], to: &[u8], frame: &[u8]) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(MAC_A, MAC_B);
    let mut out = Vec::new();
    if let (Ok(from), Ok(to)) = (<[u8; 4]>::try_from(from), <[u8; 4]>::try_from(to)) {
        let too_big = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1300 };
        let quote = frame.get(ETHERNET..ETHERNET + 28).context("a short frame")?;
        builder
            .ipv4(from, to, 60)
            .icmpv4(Icmpv4Type::DestinationUnreachable(too_big))
            .write(&mut out, quote)?;
    } else {
        let quote = frame.get(ETHERNET..ETHERNET + 48).context("a short frame")?;
        builder
            .ipv6(from.try_into()?, to.try_into()?, 60)
            .icmpv6(Icmpv6Type::PacketTooBig { mtu: 1300 })
            .write(&mut out, quote)?;
    }
    Ok(out)
}

/// An error as it came.
#[derive(Debug)]
struct Told {
    from: Vec<u8>,
    to: Vec<u8>,
    ttl: u8,
    quote: Vec<u8>,
}

/// Reads an error; its checksums must be right.
fn told(frame: &[u8]) -> Result<Told> {
    let headers = PacketHeaders::from_ethernet_slice(frame)?;
    let quote = headers.payload.slice().to_vec();
    match (headers.net.context("no IP")?, headers.transport.context("no ICMP")?) {
        (NetHeaders::Ipv4(ip, _), TransportHeader::Icmpv4(icmp)) => {
            ensure!(ip.header_checksum == ip.calc_header_checksum(), "wrong IP checksum");
            ensure!(icmp.checksum == icmp.icmp_type.calc_checksum(&quote), "wrong ICMP checksum");
            Ok(Told { from: ip.source.to_vec(), to: ip.destination.to_vec(), ttl: ip.time_to_live, quote })
        }
        (NetHeaders::Ipv6(ip, _), TransportHeader::Icmpv6(icmp)) => {
            let right = icmp.icmp_type.calc_checksum(ip.source, ip.destination, &quote)?;
            ensure!(icmp.checksum == right, "wrong ICMP checksum");
            Ok(Told { from: ip.source.to_vec(), to: ip.destination.to_vec(), ttl: ip.hop_limit, quote })
        }
        other => bail!("no ICMP error: {other:?}"),
    }
}

/// A family's addresses.
struct Family {
    v6: bool,
    pod: Vec<u8>,
    dialled: Vec<u8>,
    real: Vec<u8>,
    source: Vec<u8>,
    router: Vec<u8>,
}

fn families() -> [Family; 2] {
    let v4 = Family {
        v6: false,
        pod: POD4.to_vec(),
        dialled: PEER4.to_vec(),
        real: REAL4.to_vec(),
        source: SOURCE4.to_vec(),
        router: ROUTER4.to_vec(),
    };
    let v6 = Family {
        v6: true,
        pod: POD6.to_vec(),
        dialled: PEER6.to_vec(),
        real: REAL6.to_vec(),
        source: SOURCE6.to_vec(),
        router: ROUTER6.to_vec(),
    };
    [v4, v6]
}

/// A flow to a peer with another real address: the machine and the SYN as it left.
fn opened(v6: bool, flags: u32) -> Result<(Machine, Vec<u8>)> {
    let mut machine = Machine::ready()?;
    machine.link(LINK, Link { flags, ..link() })?;
    let (key, value) = if v6 { peer(PEER6, REAL6, LINK) } else { peer(mapped(PEER4), mapped(REAL4), LINK) };
    machine.put("PEERS", key, value)?;
    let out = machine.run("pod_in", &syn(v6).frame()?)?;
    ensure!(out.verdict == REDIRECT, "not steered");
    Ok((machine, out.frame))
}

/// The head of a frame as it would be with these addresses and ports; the length is that of a quote.
fn head(frame: &[u8], from: &[u8], to: &[u8], ports: (u16, u16)) -> Result<Vec<u8>> {
    let v6 = from.len() == 16;
    let (at, header) = if v6 { (8, 40) } else { (12, 20) };
    let mut head = frame.get(ETHERNET..ETHERNET + header + 8).context("a short frame")?.to_vec();
    head.splice(at..at + 2 * from.len(), [from, to].concat());
    head.splice(header..header + 4, [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat());
    if !v6 {
        let checksum = etherparse::Ipv4HeaderSlice::from_slice(&head)?.to_header().calc_header_checksum();
        head.splice(10..12, checksum.to_be_bytes());
    }
    Ok(head)
}

#[test]
fn an_error_from_beyond_the_link_reaches_the_pod_as_about_its_own_packet() -> Result<()> {
    for family in families() {
        for flags in [LINK_UP | LINK_NAT, LINK_UP] {
            let (machine, left) = opened(family.v6, flags)?;
            let on_wire = seen(&left)?;
            for (speaker, heard) in [(&family.router, &family.router), (&family.real, &family.dialled)] {
                let ran = machine.run("wan_in", &error(speaker, &on_wire.from, &left)?)?;
                ensure!(ran.verdict == REDIRECT, "verdict {}", ran.verdict);
                let Told { from, to, ttl, quote } = told(&ran.frame)?;
                ensure!((&from, &to, ttl) == (heard, &family.pod, 60), "from {from:?} to {to:?}, {ttl} ttl");
                let ports = (on_wire.tcp.source_port, 443);
                ensure!(quote == head(&left, &family.pod, &family.dialled, ports)?, "it quotes {quote:02x?}");
            }
            machine.expect_counted(&[
                Reason::FlowOpened,
                Reason::ErrorTranslated,
                Reason::ErrorTranslated,
            ])?;
        }
    }
    Ok(())
}

#[test]
fn an_error_of_the_pod_reaches_the_far_end_as_about_what_that_sent() -> Result<()> {
    for family in families() {
        for flags in [LINK_UP | LINK_NAT, LINK_UP] {
            let (machine, left) = opened(family.v6, flags)?;
            let out = seen(&left)?;
            let (sport, dport) = (out.tcp.destination_port, out.tcp.source_port);
            let (from, to) = (Some(out.to.clone()), Some(out.from.clone()));
            let reply = Shape { from, to, sport, dport, flags: "SA", dscp: 0, ..syn(family.v6) }.frame()?;
            let came = machine.run("wan_in", &reply)?;
            ensure!(came.verdict == REDIRECT, "the answer: verdict {}", came.verdict);
            let ran = machine.run("pod_in", &error(&family.pod, &family.dialled, &came.frame)?)?;
            ensure!(ran.verdict == REDIRECT, "verdict {}", ran.verdict);
            let Told { from, to, ttl, quote } = told(&ran.frame)?;
            ensure!((&from, &to, ttl) == (&out.from, &out.to, 59), "from {from:?} to {to:?}, {ttl} ttl");
            ensure!(
                quote == head(&reply, &family.real, &out.from, (sport, dport))?,
                "it quotes {quote:02x?}"
            );
            ensure!(flags & LINK_NAT == 0 || from == family.source, "the pod's own address left");
            machine.expect_counted(&[Reason::FlowOpened, Reason::Returned, Reason::ErrorTranslated])?;
        }
    }
    Ok(())
}

/// Neither one that is down nor one that the flow's mapping does not have any more.
#[test]
fn an_error_of_the_pod_does_not_leave_by_a_link_that_the_flow_may_not_stay_on() -> Result<()> {
    for family in families() {
        for down in [false, true] {
            let (mut machine, left) = opened(family.v6, LINK_UP | LINK_NAT)?;
            let out = seen(&left)?;
            let (sport, dport) = (out.tcp.destination_port, out.tcp.source_port);
            let (from, to) = (Some(out.to), Some(out.from));
            let reply = Shape { from, to, sport, dport, flags: "SA", dscp: 0, ..syn(family.v6) }.frame()?;
            let came = machine.run("wan_in", &reply)?;
            if down {
                machine.link(LINK, Link { flags: LINK_NAT, ..link() })?;
            } else {
                machine.slot(Slot { forbidden: 1 << LINK, ..Slot::of(NO_LINK) })?;
            }
            let ran = machine.run("pod_in", &error(&family.pod, &family.dialled, &came.frame)?)?;
            ensure!(ran.verdict == DROP, "down {down}: verdict {}", ran.verdict);
            machine.expect_counted(&[Reason::FlowOpened, Reason::Returned, Reason::LinkDown])?;
        }
    }
    Ok(())
}

#[test]
fn errors_about_other_packets_or_for_others_pass_untouched() -> Result<()> {
    for family in families() {
        let (machine, left) = opened(family.v6, LINK_UP | LINK_NAT)?;
        let stranger = Shape { sport: 5, ..syn(family.v6) }.frame()?;
        let cases = [
            ("wan_in", error(&family.router, &family.source, &stranger)?),
            ("wan_in", error(&family.router, &family.real, &left)?),
            ("pod_in", error(&family.pod, &family.dialled, &stranger)?),
            ("pod_in", error(&family.pod, &family.dialled, &left)?),
        ];
        for (program, frame) in cases {
            let ran = machine.run(program, &frame)?;
            ensure!(ran.verdict == PASS && ran.frame == frame, "{program}: verdict {}", ran.verdict);
        }
        machine.expect_counted(&[Reason::FlowOpened])?;
    }
    Ok(())
}
