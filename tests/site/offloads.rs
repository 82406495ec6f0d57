//! Every way through the kernel half with every setting of checksum and segmentation offloads: the bytes arrive, and no
//! stack counts a wrong checksum.

use anyhow::{Context as _, Result, bail, ensure};
use clovisor_datapath::host::raw::RawSockets;
use clovisor_datapath::kernel::plan::AttachMode;
use harness::datapath_site::{DatapathSite, FAR, POD, SOURCE, TOS, Translation};
use harness::netns::{Netns, run};
use harness::sockets::{datagrams, stream};
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

/// Bytes of a stream each way.
const STREAM: usize = 3_000_000;

/// A setting, and the devices whose offloads are off.
const SETTINGS: [(&str, &[(Place, &str)]); 4] = [
    ("all on", &[]),
    ("the pod's off", &[(Place::Pod, "eth0")]),
    ("the uplinks' off", &[(Place::Edge, "w1"), (Place::Far, "c1"), (Place::Far, "c0")]),
    (
        "all off",
        &[
            (Place::Pod, "eth0"),
            (Place::Edge, "v0"),
            (Place::Edge, "w0"),
            (Place::Edge, "w1"),
            (Place::Far, "c0"),
            (Place::Far, "c1"),
        ],
    ),
];

#[derive(Clone, Copy, Debug)]
enum Place {
    Pod,
    Edge,
    Far,
}

fn place(site: &DatapathSite, place: Place) -> &Netns {
    match place {
        Place::Pod => &site.pod,
        Place::Edge => &site.edge,
        Place::Far => &site.far,
    }
}

/// Every counter of wrong checksums in the namespace, with its name.
fn wrong_checksums(netns: &Netns) -> Result<Vec<(String, u64)>> {
    let (v4, v6) = netns
        .within(|| {
            ["snmp", "snmp6"].map(|name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")))
        })
        .map(|[v4, v6]| (v4.unwrap_or_default(), v6.unwrap_or_default()))?;
    let mut found = Vec::new();
    let lines: Vec<_> = v4.lines().collect();
    for (names, values) in lines.chunks_exact(2).filter_map(|pair| Some((pair.first()?, pair.get(1)?))) {
        for (name, value) in
            names.split(' ').zip(values.split(' ')).filter(|(name, _)| name.contains("CsumErrors"))
        {
            found.push((format!("{} {name}", names.split(' ').next().unwrap_or_default()), value.parse()?));
        }
    }
    for line in v6.lines().filter(|line| line.contains("CsumErrors")) {
        let (name, value) = line.split_once(char::is_whitespace).context("no value")?;
        found.push((name.to_owned(), value.trim().parse()?));
    }
    ensure!(found.len() >= 5, "only {found:?} in this kernel");
    Ok(found)
}

/// 4 settings x (NAT, none, mark) x IPv4, IPv6 x TCP, UDP: 48 ways.
#[test]
fn every_byte_arrives_with_every_offload() -> Result<()> {
    for translation in [Translation::Nat, Translation::None, Translation::Mark] {
        let source = if translation == Translation::None { POD } else { SOURCE };
        for (setting, devices) in SETTINGS {
            let site = DatapathSite::build()?;
            for (at, device) in devices {
                let words =
                    ["-K", device, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off"];
                run(place(&site, *at).command("ethtool").args(words), None)?;
            }
            let attached = site.steer(AttachMode::Auto, translation)?;
            for family in [0, 1] {
                let way = || format!("{translation:?}, {setting}, family {family}");
                let by_tcp = stream(&site, family, TOS, STREAM).with_context(way)?;
                let by_udp = datagrams(&site, family, TOS, 20, 1400).with_context(way)?;
                ensure!([by_tcp, by_udp] == [source[family]; 2], "{}: {by_tcp}, {by_udp}", way());
            }
            for netns in [&site.pod, &site.edge, &site.far] {
                let wrong = wrong_checksums(netns)?;
                ensure!(wrong.iter().all(|(_, n)| *n == 0), "{translation:?}, {setting}: {wrong:?}");
            }
            drop(attached);
        }
    }
    Ok(())
}

/// The control: the counters count. A datagram whose checksum is wrong, from a pod, by the default route.
#[test]
fn a_wrong_checksum_is_counted() -> Result<()> {
    let site = DatapathSite::build()?;
    let (IpAddr::V4(from), IpAddr::V4(to)) = (POD[0], FAR[0]) else { bail!("no IPv4") };
    let head = [0x45, 0, 0, 29, 0, 0, 0x40, 0, 64, 17, 0, 0];
    let datagram = [0x27, 0x10, 0x27, 0x10, 0, 9, 0xde, 0xad, b'x'];
    let packet = [&head[..], &from.octets(), &to.octets(), &datagram].concat();
    let far = site.far.within(|| UdpSocket::bind((to, 10_000)))??;
    far.set_read_timeout(Some(Duration::from_millis(300)))?;
    site.pod.within(|| RawSockets::default().send(to.into(), &packet))??;
    ensure!(far.recv(&mut [0; 8]).is_err(), "it was taken");
    let wrong = wrong_checksums(&site.far)?;
    ensure!(wrong.iter().any(|(_, n)| *n == 1), "{wrong:?}");
    Ok(())
}

/// Full packets of a stream under way meet a link that takes only smaller ones.
#[test]
fn a_stream_goes_on_when_it_moves_to_a_narrower_link() -> Result<()> {
    for family in [0, 1] {
        let site = DatapathSite::build()?;
        let mut steered = site.steer(AttachMode::Auto, Translation::None)?;
        let connection = harness::sockets::connect(&site, family, TOS)?;
        connection.echo(10 * STREAM, || {
            for (netns, device) in [(&site.edge, "w0"), (&site.far, "c0")] {
                netns.ip(&format!("link set {device} mtu 1400\n"))?;
            }
            site.move_to(&mut steered, 0, 1400)
        })?;
        let moved = steered.tables.counters()?;
        let count = |reason| moved.get(&reason).map_or(0, |counter| counter.packets);
        use clovisor_common::abi::Reason;
        ensure!(count(Reason::FlowMoved) == 1, "not moved: {moved:?}");
        ensure!(count(Reason::MtuExceeded) > 0, "no packet was too large: {moved:?}");
        ensure!(count(Reason::LeakStopped) == 0, "{moved:?}");
    }
    Ok(())
}
