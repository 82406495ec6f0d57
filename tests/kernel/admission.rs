//! Who may open a flow, and what becomes of the packets of those who may not.

use anyhow::{Context as _, Result, ensure};
use clovisor_common::abi::{Addr, ClassKey, DestKey, Link, Pod, Reason, SLOT_REFUSE, dscp_of_class};

use crate::frames::{Shape, syn};
use crate::machine::{
    CLASS, DROP, LINK, Machine, PASS, PEER4, PEER6, POD4, POD6, REDIRECT, VETH, ZONE, dest, link, mapped,
};

/// One way to differ from the flow that is granted.
struct Row {
    name: &'static str,
    change: fn(&mut Machine, &mut Shape) -> Result<()>,
    verdict: i32,
    reason: Option<Reason>,
}

const ROWS: &[Row] = &[
    Row { name: "granted", change: |_, _| Ok(()), verdict: REDIRECT, reason: Some(Reason::FlowOpened) },
    Row {
        name: "data of the proxy without a flow",
        change: |_, shape| {
            (shape.flags, shape.mss, shape.payload) = ("A", None, 100);
            Ok(())
        },
        verdict: PASS,
        reason: Some(Reason::MidStream),
    },
    Row {
        name: "data of the proxy without a flow, refuse",
        change: |machine, shape| {
            (shape.flags, shape.mss, shape.payload) = ("A", None, 100);
            machine.no_link(SLOT_REFUSE)
        },
        verdict: DROP,
        reason: Some(Reason::MidStream),
    },
    Row {
        name: "no class",
        change: |_, shape| {
            shape.dscp = 46;
            Ok(())
        },
        verdict: PASS,
        reason: None,
    },
    Row {
        name: "not a mapped pod",
        change: |machine, _| machine.remove::<u32, Pod>("PODS", VETH),
        verdict: PASS,
        reason: None,
    },
    Row {
        name: "the application's socket",
        change: |machine, _| machine.put("PODS", VETH, Pod { zone: ZONE, traffic: 0, proxy_uid: 1337 }),
        verdict: PASS,
        reason: Some(Reason::UntrustedSocket),
    },
    Row {
        name: "an address of nobody",
        change: |_, shape| {
            shape.from = Some(if shape.v6 { PEER6.to_vec() } else { PEER4.to_vec() });
            Ok(())
        },
        verdict: PASS,
        reason: Some(Reason::ForgedSource),
    },
    Row {
        name: "an address of another pod",
        change: |machine, _| {
            machine.put("ADDRS", mapped(POD4), Addr { veth: 99, zone: ZONE, pad: 0 })?;
            machine.put("ADDRS", POD6, Addr { veth: 99, zone: ZONE, pad: 0 })
        },
        verdict: PASS,
        reason: Some(Reason::ForgedSource),
    },
    Row {
        name: "a class of another namespace",
        change: |machine, _| {
            machine.remove::<ClassKey, u32>("CLASSES", ClassKey { zone: ZONE, class: CLASS, pad: 0 })?;
            machine.put("CLASSES", ClassKey { zone: ZONE + 1, class: CLASS, pad: 0 }, 1_u32)
        },
        verdict: PASS,
        reason: Some(Reason::UnknownClass),
    },
    Row {
        name: "a class that nobody has",
        change: |_, shape| {
            shape.dscp = dscp_of_class(CLASS + 1);
            Ok(())
        },
        verdict: PASS,
        reason: Some(Reason::UnknownClass),
    },
    Row {
        name: "another port",
        change: |_, shape| {
            shape.dport = 444;
            Ok(())
        },
        verdict: PASS,
        reason: Some(Reason::ForeignDestination),
    },
    Row {
        name: "a destination of other classes",
        change: |machine, _| {
            machine.put("DESTS", dest(mapped(PEER4)), !(1_u32 << (CLASS - 1)))?;
            machine.put("DESTS", dest(PEER6), !(1_u32 << (CLASS - 1)))
        },
        verdict: PASS,
        reason: Some(Reason::ForeignDestination),
    },
    Row {
        name: "a class that may go anywhere, elsewhere",
        change: |machine, shape| {
            shape.dport = 444;
            machine.put("DESTS", DestKey::anywhere(ZONE), 1_u32 << (CLASS - 1))
        },
        verdict: REDIRECT,
        reason: Some(Reason::FlowOpened),
    },
    Row {
        name: "another class that may go anywhere, elsewhere",
        change: |machine, shape| {
            shape.dport = 444;
            machine.put("DESTS", DestKey::anywhere(ZONE), !(1_u32 << (CLASS - 1)))
        },
        verdict: PASS,
        reason: Some(Reason::ForeignDestination),
    },
    Row {
        name: "no link, default",
        change: |machine, _| machine.no_link(0),
        verdict: PASS,
        reason: Some(Reason::NoLinkDefault),
    },
    Row {
        name: "no link, refuse",
        change: |machine, _| machine.no_link(SLOT_REFUSE),
        verdict: DROP,
        reason: Some(Reason::NoLinkRefused),
    },
    Row {
        name: "link down",
        change: |machine, _| machine.link(LINK, Link { flags: 0, ..link() }),
        verdict: PASS,
        reason: Some(Reason::NoLinkDefault),
    },
    Row {
        name: "NAT without an address of the family",
        change: |machine, _| machine.link(LINK, Link { source4: [0; 4], source6: [0; 16], ..link() }),
        verdict: PASS,
        reason: Some(Reason::NoLinkDefault),
    },
    Row {
        name: "hop limit used up",
        change: |_, shape| {
            shape.ttl = 1;
            Ok(())
        },
        verdict: DROP,
        reason: Some(Reason::TtlExceeded),
    },
];

#[test]
fn only_the_proxy_with_its_class_to_its_destination_opens_a_flow() -> Result<()> {
    for row in ROWS {
        for v6 in [false, true] {
            check(row, v6).with_context(|| format!("{} (v6: {v6})", row.name))?;
        }
    }
    Ok(())
}

fn check(row: &Row, v6: bool) -> Result<()> {
    let (mut machine, mut shape) = (Machine::ready()?, syn(v6));
    (row.change)(&mut machine, &mut shape)?;
    let frame = shape.frame()?;
    let ran = machine.run("pod_in", &frame)?;
    ensure!(ran.verdict == row.verdict, "verdict {}", ran.verdict);
    if row.reason.is_some_and(Reason::unmarks) {
        shape.dscp = 0;
    }
    ensure!(row.verdict != PASS || ran.frame == shape.frame()?, "another change than that of the class");
    machine.expect_counted(row.reason.as_slice())?;
    let entries = machine.flows::<[u8; 4]>("FLOW4")?.len() + machine.flows::<[u8; 16]>("FLOW6")?.len();
    let pinned = if row.verdict == REDIRECT || row.reason == Some(Reason::TtlExceeded) { 2 } else { 0 };
    ensure!(entries == pinned, "{entries} entries");
    Ok(())
}

#[test]
fn what_is_not_parsed_is_left_to_the_stack_and_counted_when_it_carries_a_class() -> Result<()> {
    let v4 = syn(false).frame()?;
    let v6 = syn(true).frame()?;
    let edits: [(&str, &[u8], usize, u8); 4] = [
        ("another protocol", &v4, 14 + 9, 47),
        ("a fragment without its first", &v4, 14 + 7, 5),
        ("a length without room", &v4, 14, 0x44),
        ("routing header", &v6, 14 + 6, 43),
    ];
    for (name, frame, at, byte) in edits {
        let machine = Machine::ready()?;
        let mut frame = frame.to_vec();
        *frame.get_mut(at).context("outside the frame")? = byte;
        let ran = machine.run("pod_in", &frame)?;
        ensure!(ran.verdict == PASS && ran.frame == frame, "{name}: verdict {}", ran.verdict);
        machine.expect_counted(&[Reason::Unsupported]).context(name)?;
    }
    Ok(())
}

#[test]
fn other_protocols_and_cut_packets_pass() -> Result<()> {
    let arp = [&[0xff; 12][..], &[8, 6], &[0; 28]].concat();
    let cut = syn(false).frame()?.get(..40).context("short frame")?.to_vec();
    let machine = Machine::ready()?;
    for frame in [arp, cut] {
        for program in ["pod_in", "pod_out", "wan_in", "wan_out"] {
            ensure!(machine.run(program, &frame)?.verdict == PASS, "{program} took {frame:02x?}");
        }
    }
    Ok(())
}
