//! Local destinations: the map `LOCAL`.

use anyhow::{Context as _, Result, ensure};
use clovisor_common::abi::{DestKey, LOCAL, NOT_LOCAL, Reason, dscp_of_class};

use crate::datagrams::{ECHO, UDP, datagram};
use crate::frames::{Shape, syn};
use crate::machine::{CLASS, Machine, PASS, PEER4, PEER6, REDIRECT, ZONE, mapped};
use crate::traffic::everything;

/// Entries of `LOCAL` around the peers: bits beyond those of an IPv4 address in the map, and the value.
type Entries = &'static [(u32, u32)];

/// The longest prefix decides; the control is the same packet without an entry.
#[test]
fn no_mapping_of_traffic_takes_what_is_local() -> Result<()> {
    let cases: [(Entries, bool); 6] = [
        (&[], false),
        (&[(32, LOCAL)], true),
        (&[(8, LOCAL)], true),
        (&[(8, LOCAL), (24, NOT_LOCAL)], false),
        (&[(8, LOCAL), (16, NOT_LOCAL), (32, LOCAL)], true),
        (&[(0, NOT_LOCAL)], false),
    ];
    for v6 in [false, true] {
        for (entries, local) in cases {
            let mut machine = everything()?;
            for (bits, value) in entries {
                let (address, bits) = if v6 { (PEER6, bits * 4) } else { (mapped(PEER4), 96 + bits) };
                machine.local(bits, address, *value)?;
            }
            let frames = [
                datagram(UDP, v6).frame()?,
                datagram(ECHO, v6).frame()?,
                Shape { dscp: 0, ..syn(v6) }.frame()?,
            ];
            for (n, frame) in frames.into_iter().enumerate() {
                let ran = machine.run("pod_in", &frame)?;
                let verdict = if local { PASS } else { REDIRECT };
                ensure!(ran.verdict == verdict, "{entries:?}, v6 {v6}, frame {n}: verdict {}", ran.verdict);
                ensure!(!local || ran.frame == frame, "{entries:?}, v6 {v6}: changed");
            }
            let counted: &[_] = if local { &[] } else { &[Reason::FlowOpened; 3] };
            machine.expect_counted(counted).with_context(|| format!("{entries:?}, v6 {v6}"))?;
        }
    }
    Ok(())
}

/// A class of a sidecar, whose destinations only the control plane knows: not to local ones. A destination by name is what its
/// mapping says.
#[test]
fn a_class_that_may_go_anywhere_goes_to_nothing_local() -> Result<()> {
    for v6 in [false, true] {
        for (anywhere, verdict) in [(true, PASS), (false, REDIRECT)] {
            let mut machine = Machine::ready()?;
            let bits = 1_u32 << (CLASS - 1);
            if anywhere {
                machine.put("DESTS", DestKey::anywhere(ZONE), bits)?;
            }
            let shape = Shape { dscp: dscp_of_class(CLASS), ..syn(v6) };
            let shape = if anywhere { Shape { dport: 9999, ..shape } } else { shape };
            machine.local(128, if v6 { PEER6 } else { mapped(PEER4) }, LOCAL)?;
            let ran = machine.run("pod_in", &shape.frame()?)?;
            ensure!(ran.verdict == verdict, "anywhere {anywhere}, v6 {v6}: verdict {}", ran.verdict);
            let reason = if anywhere { Reason::ForeignDestination } else { Reason::FlowOpened };
            machine.expect_counted(&[reason])?;
        }
    }
    Ok(())
}
