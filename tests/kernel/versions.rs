//! An agent that finds what one of another version left.

use crate::attached::{exchange, modes};
use anyhow::{Context as _, Result, ensure};
use clovisor_common::abi::{ABI_VERSION, Reason};
use clovisor_datapath::kernel::plan::AttachOrigin;
use harness::datapath_site::{DatapathSite, POD, SOURCE, Steered, TOS, Translation};
use std::path::PathBuf;

/// Makes the pins be those of another version, with a map of another name.
fn aged(wire: &DatapathSite) -> Result<PathBuf> {
    let root = wire.bpffs().join("clovisor");
    let (own, other) = (root.join(format!("v{ABI_VERSION}")), root.join("v1"));
    std::fs::rename(&own, &other).context("rename the pins")?;
    std::fs::rename(other.join("PODS"), other.join("VETHS")).context("rename a map")?;
    Ok(other)
}

#[test]
fn programs_of_another_version_are_replaced_in_place_once_their_agent_is_gone() -> Result<()> {
    for &mode in modes()? {
        let wire = DatapathSite::build()?;
        let running = wire.steer(mode, Translation::Nat)?;
        let other = aged(&wire)?;
        let attachments =
            std::fs::read_dir(other.join("links"))?.chain(std::fs::read_dir(other.join("filters"))?);
        ensure!(attachments.count() >= 5, "{mode:?}: not attached before");
        // Not while its agent is there.
        let refused = wire.steer(mode, Translation::Nat).err().context("a second agent started")?;
        ensure!(format!("{refused:#}").contains("another agent holds"), "{refused:#}");
        ensure!(exchange(&wire, 0, TOS)? == SOURCE[0] && other.exists(), "{mode:?}: it was disturbed");
        drop(running);
        let Steered { programs, tables, .. } = wire.steer(mode, Translation::Nat)?;
        let all = programs.attached();
        ensure!(
            all.len() == 5 && all.values().all(|a| a.origin == AttachOrigin::Replaced),
            "{mode:?}: {all:?}"
        );
        ensure!(!other.exists(), "{mode:?}: {} is still there", other.display());
        for family in [0, 1] {
            ensure!(exchange(&wire, family, TOS)? == SOURCE[family], "{mode:?}: not steered");
            ensure!(exchange(&wire, family, 0)? == POD[family], "{mode:?}: steered without a class");
        }
        // By the new maps, once: what another program had counted would be missing here.
        let opened = tables.counters()?.get(&Reason::FlowOpened).map_or(0, |counter| counter.packets);
        ensure!(opened == 4, "{mode:?}: {opened} flows opened, not a connection and a datagram each");
    }
    Ok(())
}
