//! What else is on a node: rules that drop, reverse path filters, programs of others, pods that come and go.

use anyhow::{Context as _, Result, ensure};
use aya::maps::Array;
use aya::programs::links::LinkOrder;
use aya::programs::tc::{NlOptions, TcAttachOptions, qdisc_add_clsact};
use aya::programs::{SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use clovisor_datapath::kernel::plan::AttachMode;
use harness::datapath_site::{DatapathSite, POD, SOURCE, TOS, Translation};
use harness::programs::object;
use harness::sockets::{datagrams, stream};

type Settings = &'static [(&'static str, &'static str)];

/// Rules and settings of the edge under which the stack loses what returns on another way than it thinks.
const HOSTILE: [(&str, &str, Settings); 5] = [
    ("no reverse path filter", "", &[("net/ipv4/conf/all/rp_filter", "0")]),
    ("strict", "", &[("net/ipv4/conf/all/rp_filter", "1"), ("net/ipv4/conf/w1/rp_filter", "1")]),
    ("loose", "", &[("net/ipv4/conf/all/rp_filter", "2")]),
    (
        "unknown connections are dropped",
        "table inet n {\nchain f { type filter hook forward priority 0;\nct state invalid drop\n}\n}\n",
        &[],
    ),
    (
        "forwarding is dropped",
        "table inet n {\nchain f { type filter hook forward priority 0; policy drop;\n}\n}\n",
        &[],
    ),
];

fn steered_is_served(site: &DatapathSite, translation: Translation) -> Result<()> {
    let source = if translation == Translation::Nat { SOURCE } else { POD };
    for family in [0, 1] {
        let by_tcp = stream(site, family, TOS, 100_000)?;
        let by_udp = datagrams(site, family, TOS, 3, 500)?;
        ensure!([by_tcp, by_udp] == [source[family]; 2], "came from {by_tcp}, {by_udp}");
    }
    Ok(())
}

/// Both directions pass by the stack, so that none of it matters. The control: without programs dropped is dropped.
#[test]
fn rules_and_filters_of_the_stack_do_not_matter() -> Result<()> {
    for (name, rules, settings) in HOSTILE {
        for translation in [Translation::Nat, Translation::None] {
            let site = DatapathSite::build()?;
            site.edge.sysctl(settings)?;
            if !rules.is_empty() {
                site.edge.nft(rules)?;
            }
            if name == "forwarding is dropped" {
                let plain = datagrams_soon(&site);
                ensure!(plain.is_err(), "the rule drops nothing");
            }
            let attached = site.steer(AttachMode::Auto, translation)?;
            steered_is_served(&site, translation).with_context(|| format!("{name}, {translation:?}"))?;
            drop(attached);
        }
    }
    Ok(())
}

/// One datagram that nobody waits long for.
fn datagrams_soon(site: &DatapathSite) -> Result<()> {
    let far = site.far.within(|| std::net::UdpSocket::bind((harness::datapath_site::FAR[0], 7001)))??;
    far.set_read_timeout(Some(std::time::Duration::from_millis(300)))?;
    let pod = site.pod.within(|| std::net::UdpSocket::bind("0.0.0.0:0"))??;
    pod.send_to(b"x", (harness::datapath_site::FAR[0], 7001))?;
    far.recv(&mut [0; 8])?;
    Ok(())
}

/// How a neighbour's programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Neighbour {
    TcxFirst,
    TcxLast,
    Clsact,
}

/// Three programs that count and pass, on the pod's veth and both ways of the uplink.
fn attach(site: &DatapathSite, neighbour: Neighbour) -> Result<Ebpf> {
    let hooks = [
        ("count_pod", "v0", TcAttachType::Ingress),
        ("count_in", "w1", TcAttachType::Ingress),
        ("count_out", "w1", TcAttachType::Egress),
    ];
    site.edge.within(|| {
        let mut ebpf = EbpfLoader::new().load(&std::fs::read(object("baseline")?)?)?;
        for (name, device, hook) in hooks {
            let program: &mut SchedClassifier =
                ebpf.program_mut(name).context("no such program")?.try_into()?;
            program.load()?;
            let options = match neighbour {
                Neighbour::TcxFirst => TcAttachOptions::TcxOrder(LinkOrder::first()),
                Neighbour::TcxLast => TcAttachOptions::TcxOrder(LinkOrder::last()),
                Neighbour::Clsact => {
                    // Another program may have made the qdisc.
                    let _exists = qdisc_add_clsact(device);
                    TcAttachOptions::Netlink(NlOptions { priority: 50, ..NlOptions::default() })
                }
            };
            program
                .attach_with_options(device, hook, options)
                .with_context(|| format!("{name} on {device}"))?;
        }
        Ok(ebpf)
    })?
}

fn seen(ebpf: &Ebpf) -> Result<[u64; 3]> {
    let map: Array<_, u64> = ebpf.map("SEEN").context("no map SEEN")?.try_into()?;
    Ok([map.get(&0, 0)?, map.get(&1, 0)?, map.get(&2, 0)?])
}

/// Whoever came first, whichever way each is attached: steered packets are steered, and neighbours see what comes to them:
/// in front of ours all of it, behind ours what we leave to the stack, and always what leaves by the uplink.
#[test]
fn programs_of_others_go_on_working() -> Result<()> {
    for ours in [AttachMode::Tcx, AttachMode::Clsact] {
        for neighbour in [Neighbour::TcxFirst, Neighbour::TcxLast, Neighbour::Clsact] {
            for they_first in [true, false] {
                let case = format!("{ours:?}, {neighbour:?}, they first {they_first}");
                let site = DatapathSite::build()?;
                let early = if they_first { Some(attach(&site, neighbour)?) } else { None };
                let steered = site.steer(ours, Translation::Nat)?;
                let theirs = early.map_or_else(|| attach(&site, neighbour), Ok).context(case.clone())?;
                steered_is_served(&site, Translation::Nat).with_context(|| case.clone())?;
                let [pod, back, out] = seen(&theirs)?;
                ensure!(out > 20, "{case}: {out} packets seen leave by the uplink");
                let in_front = neighbour == Neighbour::TcxFirst
                    && (!they_first || ours == AttachMode::Clsact)
                    || ours == AttachMode::Clsact && neighbour == Neighbour::TcxLast;
                ensure!((pod > 20, back > 20) == (in_front, in_front), "{case}: saw {pod}, {back}");
                let plain = stream(&site, 0, 0, 100_000).with_context(|| case.clone())?;
                ensure!(plain == POD[0], "{case}: {plain} without a class");
                let [more, ..] = seen(&theirs)?;
                ensure!(more > pod + 10, "{case}: {} packets that are not steered", more - pod);
                drop(steered);
            }
        }
    }
    Ok(())
}
