//! The datapaths that the bench compares, each from a pod to the far end.

use crate::checks::Counts;
use crate::loads::{self, Load};
use anyhow::{Context as _, Result, ensure};
use aya::maps::Array;
use aya::programs::{SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use clovisor_datapath::kernel::plan::AttachMode;
use harness::datapath_site::{DatapathSite, GATEWAY, POD, SOURCE, Steered, TOS, Translation};
use harness::programs::object;
use nix::net::if_::if_nametoindex;
use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// How packets get from the pod to the far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Datapath {
    /// The kernel's routing, without any program.
    PlainRouting,
    /// Programs that only redirect, in both directions: the upper bound for any redirect.
    Baseline,
    /// Clovisor without NAT.
    Steered,
    /// Clovisor with source NAT to the link's address.
    SteeredNat,
    /// Clovisor in mode `Mark`: the network stack forwards and translates.
    SteeredMark,
    /// Routing with masquerade.
    Masquerade,
    /// Policy routing by hand: a mark set by DSCP and kept by conntrack, a rule for the mark, masquerade.
    Fwmark,
}

impl Datapath {
    pub(crate) const ALL: [Self; 7] = [
        Self::PlainRouting,
        Self::Baseline,
        Self::Steered,
        Self::SteeredNat,
        Self::SteeredMark,
        Self::Masquerade,
        Self::Fwmark,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::PlainRouting => "plain routing",
            Self::Baseline => "baseline redirect",
            Self::Steered => "steered",
            Self::SteeredNat => "steered, NAT",
            Self::SteeredMark => "steered, mode Mark",
            Self::Masquerade => "routing + masquerade",
            Self::Fwmark => "rule + fwmark + conntrack + masquerade",
        }
    }

    /// The source address that the far end must see.
    const fn source(self) -> IpAddr {
        match self {
            Self::PlainRouting | Self::Baseline | Self::Steered => POD[0],
            Self::SteeredNat | Self::SteeredMark | Self::Fwmark => SOURCE[0],
            Self::Masquerade => harness::datapath_site::DEFAULT_SOURCE[0],
        }
    }
}

/// Programs that stay attached while a datapath is in use.
#[derive(Debug)]
pub(crate) enum Attached {
    Nothing,
    Baseline { _programs: Ebpf },
    Steered(Box<Steered>),
}

impl Attached {
    pub(crate) const fn steered(&self) -> Option<&Steered> {
        match self {
            Self::Steered(steered) => Some(steered),
            Self::Nothing | Self::Baseline { .. } => None,
        }
    }

    pub(crate) const fn steered_mut(&mut self) -> Option<&mut Steered> {
        match self {
            Self::Steered(steered) => Some(steered),
            Self::Nothing | Self::Baseline { .. } => None,
        }
    }

    /// The agent sweeps flows that ended.
    pub(crate) fn sweep(&mut self) -> Result<()> {
        if let Some(steered) = self.steered_mut() {
            let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
            let now_ns = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
            steered.flows.sweep(now_ns, &|_| true)?;
        }
        Ok(())
    }
}

/// Every datapath, each with namespaces of its own.
#[derive(Debug)]
pub(crate) struct Datapaths(BTreeMap<Datapath, (DatapathSite, Attached)>);

impl Datapaths {
    /// Builds all of them, and checks by the source address that each one takes effect.
    pub(crate) fn build() -> Result<Self> {
        let mut datapaths = BTreeMap::new();
        for datapath in Datapath::ALL {
            let site = DatapathSite::build()?;
            let attached = set_up(datapath, &site).with_context(|| datapath.name())?;
            let seen = loads::source(&site, TOS).with_context(|| datapath.name())?;
            ensure!(seen == datapath.source(), "{}: the far end sees {seen}", datapath.name());
            datapaths.insert(datapath, (site, attached));
        }
        Ok(Self(datapaths))
    }

    /// One burst: the rate of the load on this datapath, per second.
    ///
    /// # Errors
    /// Packets of Clovisor's did not take the path that is measured, or a connection had to wait for a second SYN.
    pub(crate) fn run(&mut self, datapath: Datapath, load: Load) -> Result<f64> {
        let name = || format!("{}, {}", datapath.name(), load.name());
        let (site, attached) = self.0.get_mut(&datapath).context("an unknown datapath")?;
        let before = Counts::read(site, attached.steered())?;
        let rate = loads::run(site, load).with_context(name)?;
        if attached.steered().is_some() {
            Counts::read(site, attached.steered())?.unchanged_since(&before).with_context(name)?;
        }
        attached.sweep()?;
        Ok(rate)
    }
}

/// Builds what a datapath needs beside its namespaces.
pub(crate) fn set_up(datapath: Datapath, site: &DatapathSite) -> Result<Attached> {
    match datapath {
        Datapath::PlainRouting => {}
        Datapath::Baseline => return Ok(Attached::Baseline { _programs: baseline(site)? }),
        Datapath::Steered => return steered(site, Translation::None),
        Datapath::SteeredNat => return steered(site, Translation::Nat),
        Datapath::SteeredMark => return steered(site, Translation::Mark),
        Datapath::Masquerade => site.edge.nft(
            "table ip bench {\nchain post { type nat hook postrouting priority srcnat; policy accept;\n\
             oifname \"w0\" masquerade\n}\n}\n",
        )?,
        Datapath::Fwmark => {
            site.edge.nft(&format!(
                "table ip bench {{\n\
                 chain pre {{ type filter hook prerouting priority mangle; policy accept;\niifname \"v0\" meta mark set ct mark\n\
                 iifname \"v0\" ct state new ip dscp {} meta mark set 1 ct mark set 1\n}}\n\
                 chain post {{ type nat hook postrouting priority srcnat; policy accept;\n\
                 oifname \"w1\" masquerade\n}}\n}}\n",
                TOS >> 2
            ))?;
            site.edge.ip(&format!(
                "rule add fwmark 1 table 100\nroute add default via {} table 100\n",
                GATEWAY[0]
            ))?;
        }
    }
    Ok(Attached::Nothing)
}

fn steered(site: &DatapathSite, translation: Translation) -> Result<Attached> {
    Ok(Attached::Steered(Box::new(site.steer(AttachMode::Auto, translation)?)))
}

fn baseline(site: &DatapathSite) -> Result<Ebpf> {
    site.edge.within(|| {
        let mut ebpf = EbpfLoader::new().load(&std::fs::read(object("baseline")?)?)?;
        let IpAddr::V4(gateway) = GATEWAY[0] else { anyhow::bail!("no gateway") };
        let interfaces = [if_nametoindex("w1")?, u32::from_ne_bytes(gateway.octets()), if_nametoindex("v0")?];
        let map = ebpf.map_mut("WAY").context("the object has no map WAY")?;
        Array::<_, [u32; 3]>::try_from(map)?.set(0, interfaces, 0)?;
        for (name, devices) in [("bare_in", &["w0", "w1"][..]), ("bare_out", &["v0"])] {
            let program: &mut SchedClassifier =
                ebpf.program_mut(name).context("no such program")?.try_into()?;
            program.load()?;
            for device in devices {
                if aya::programs::tc::qdisc_add_clsact(device).is_ok() {
                    program.attach(device, TcAttachType::Ingress)?;
                }
            }
        }
        Ok(ebpf)
    })?
}
