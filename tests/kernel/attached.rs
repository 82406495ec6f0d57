//! The programs at work on devices.

use crate::features::has_tcx;
use anyhow::{Context as _, Result, ensure};
use clovisor_common::abi::Reason;
use clovisor_datapath::kernel::plan::AttachMode;
use clovisor_datapath::kernel::plan::AttachOrigin;
use harness::datapath_site::{DatapathSite, FAR, POD, SOURCE, Steered, TOS, Translation};
use harness::sockets::{datagrams, stream};
use std::net::IpAddr;

/// For slow machines: each of them shows the preferred mode of its kernel, as agents choose it.
const PREFERRED_ONLY: &str = "CLOVISOR_PREFERRED_ATTACH_MODE_ONLY";

/// The modes that this kernel has, the preferred one last.
pub(crate) fn modes() -> Result<&'static [AttachMode]> {
    let all = &[AttachMode::Clsact, AttachMode::Tcx];
    let had = if has_tcx()? { &all[..] } else { &all[..1] };
    Ok(if std::env::var_os(PREFERRED_ONLY).is_some() { &had[had.len() - 1..] } else { had })
}

#[test]
fn connections_and_datagrams_take_the_link_both_ways() -> Result<()> {
    for &mode in modes()? {
        let wire = DatapathSite::build()?;
        for family in [0, 1] {
            let seen = exchange(&wire, family, TOS).with_context(|| format!("{mode:?}, before"))?;
            ensure!(seen == POD[family], "{mode:?}: {seen} without programs");
        }
        let Steered { programs, tables, .. } = wire.steer(mode, Translation::Nat)?;
        ensure!(
            programs.attached().values().all(|a| a.mode == mode && a.origin == AttachOrigin::Fresh),
            "{mode:?}"
        );
        for family in [0, 1] {
            let seen = exchange(&wire, family, TOS).with_context(|| format!("{mode:?}, {}", FAR[family]))?;
            ensure!(seen == SOURCE[family], "{mode:?}: {seen} with the class");
            let seen = exchange(&wire, family, 0)?;
            ensure!(seen == POD[family], "{mode:?}: {seen} without a class");
        }
        let counters = tables.counters()?;
        let opened = counters.get(&Reason::FlowOpened).map_or(0, |counter| counter.packets);
        ensure!(opened == 4, "{mode:?}: {opened} flows opened, not a connection and a datagram each");
    }
    Ok(())
}

/// A stream and some datagrams there and back; the source that the far end saw of both.
pub(crate) fn exchange(wire: &DatapathSite, family: usize, tos: u32) -> Result<IpAddr> {
    let by_tcp = stream(wire, family, tos, 200_000)?;
    let by_udp = datagrams(wire, family, tos, 1, 5)?;
    ensure!(by_tcp == by_udp, "TCP came from {by_tcp}, UDP from {by_udp}");
    Ok(by_tcp)
}
