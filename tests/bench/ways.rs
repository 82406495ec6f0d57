//! The ways from a pod to the far end that are compared.

use crate::loads::{self, Load};
use anyhow::{Context as _, Result, ensure};
use aya::maps::Array;
use aya::programs::{SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use clovisor_datapath::kernel::plan::AttachMode;
use harness::programs::object;
use harness::wire::{GATEWAY, POD, SOURCE, Steered, TOS, Translation, Wire};
use nix::net::if_::if_nametoindex;
use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// The kernel's routing, nothing else.
    Plain,
    /// A program that only redirects, both ways: as fast as it can be.
    Bare,
    /// Clovisor, the pod's address stays.
    Steered,
    /// Clovisor through the link's address.
    SteeredNat,
    /// Clovisor by mark: the stack forwards and translates.
    ByMark,
    /// Routing and masquerade.
    Masquerade,
    /// What one would build: mark by DSCP, kept by conntrack, a rule for the mark, masquerade.
    Marked,
}

impl Way {
    pub(crate) const ALL: [Self; 7] = [
        Self::Plain,
        Self::Bare,
        Self::Steered,
        Self::SteeredNat,
        Self::ByMark,
        Self::Masquerade,
        Self::Marked,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain routing",
            Self::Bare => "bare redirect",
            Self::Steered => "steered",
            Self::SteeredNat => "steered, NAT",
            Self::ByMark => "steered, mode Mark",
            Self::Masquerade => "routing + masquerade",
            Self::Marked => "rule + fwmark + conntrack + masquerade",
        }
    }

    /// The source that the far end must see.
    const fn source(self) -> IpAddr {
        match self {
            Self::Plain | Self::Bare | Self::Steered => POD[0],
            Self::SteeredNat | Self::ByMark | Self::Marked => SOURCE[0],
            Self::Masquerade => harness::wire::PLAIN_SOURCE[0],
        }
    }
}

/// What keeps a way up.
#[derive(Debug)]
enum Held {
    Nothing,
    Bare { _programs: Ebpf },
    Steered(Box<Steered>),
}

/// Every way with namespaces of its own.
#[derive(Debug)]
pub(crate) struct Ways(BTreeMap<Way, (Wire, Held)>);

impl Ways {
    /// Builds them all and checks that each takes the way that it says.
    pub(crate) fn build() -> Result<Self> {
        let mut ways = BTreeMap::new();
        for way in Way::ALL {
            let wire = Wire::build()?;
            let held = up(way, &wire).with_context(|| way.name())?;
            let seen = loads::source(&wire, TOS).with_context(|| way.name())?;
            ensure!(seen == way.source(), "{}: the far end sees {seen}", way.name());
            ways.insert(way, (wire, held));
        }
        Ok(Self(ways))
    }

    /// One burst: how much of the load went this way a second.
    pub(crate) fn run(&mut self, way: Way, load: Load) -> Result<f64> {
        let (wire, held) = self.0.get_mut(&way).context("an unknown way")?;
        let rate = loads::run(wire, load).with_context(|| format!("{}, {}", way.name(), load.name()))?;
        if let Held::Steered(steered) = held {
            // As the agent does.
            let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
            let now_ns = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
            steered.flows.sweep(now_ns, &|_| true)?;
        }
        Ok(rate)
    }
}

fn up(way: Way, wire: &Wire) -> Result<Held> {
    match way {
        Way::Plain => {}
        Way::Bare => return Ok(Held::Bare { _programs: bare(wire)? }),
        Way::Steered => return steered(wire, Translation::None),
        Way::SteeredNat => return steered(wire, Translation::Nat),
        Way::ByMark => return steered(wire, Translation::Stack),
        Way::Masquerade => wire.edge.nft(
            "table ip bench {\nchain post { type nat hook postrouting priority srcnat; policy accept;\n\
             oifname \"w0\" masquerade\n}\n}\n",
        )?,
        Way::Marked => {
            wire.edge.nft(&format!(
                "table ip bench {{\n\
                 chain pre {{ type filter hook prerouting priority mangle; policy accept;\niifname \"v0\" meta mark set ct mark\n\
                 iifname \"v0\" ct state new ip dscp {} meta mark set 1 ct mark set 1\n}}\n\
                 chain post {{ type nat hook postrouting priority srcnat; policy accept;\n\
                 oifname \"w1\" masquerade\n}}\n}}\n",
                TOS >> 2
            ))?;
            wire.edge.ip(&format!(
                "rule add fwmark 1 table 100\nroute add default via {} table 100\n",
                GATEWAY[0]
            ))?;
        }
    }
    Ok(Held::Nothing)
}

fn steered(wire: &Wire, translation: Translation) -> Result<Held> {
    Ok(Held::Steered(Box::new(wire.steer(AttachMode::Auto, translation)?)))
}

fn bare(wire: &Wire) -> Result<Ebpf> {
    wire.edge.within(|| {
        let mut ebpf = EbpfLoader::new().load(&std::fs::read(object("baseline")?)?)?;
        let IpAddr::V4(gateway) = GATEWAY[0] else { anyhow::bail!("no gateway") };
        let way = [if_nametoindex("w1")?, u32::from_ne_bytes(gateway.octets()), if_nametoindex("v0")?];
        let map = ebpf.map_mut("WAY").context("the object has no map WAY")?;
        Array::<_, [u32; 3]>::try_from(map)?.set(0, way, 0)?;
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
