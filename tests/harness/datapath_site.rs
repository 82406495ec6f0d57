//! The kernel half alone: a pod, an edge with two uplinks, and a far end, without agent and proxy.
//!
//! The edge routes to the far end by `w0`; the pod's class goes by `w1`, through NAT. So a packet's source tells its
//! way: the link's address when it was steered, the pod's own when it was not.

use crate::netns::{Netns, run};
pub use addresses::{BEYOND, DEFAULT_SOURCE, FAR, GATEWAY, LINKS, NARROW, POD, SOURCE, TOS};
use addresses::{MARK, addressed};
use anyhow::{Context, Result};
use clovisor_common::abi::LINK_L3;
use clovisor_datapath::kernel::diff::diff;
use clovisor_datapath::kernel::flows::Flows;
use clovisor_datapath::kernel::load::{Programs, load};
use clovisor_datapath::kernel::plan::{AttachMode, AttachPoint, Hook};
use clovisor_datapath::kernel::state::NamedDevice;
use clovisor_datapath::kernel::tables::MapTables;
pub use image::Translation;
use image::{flags, image};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::net::if_::if_nametoindex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
pub use uplink::Uplink;

/// Addresses, and numbers of the class and its links.
mod addresses;

/// The map contents.
mod image;

/// The steered link's device.
mod uplink;

/// Start of the namespaces' names; the process id follows.
const PREFIX: &str = "site-";

/// The programs, attached, and their maps. May be dropped: the pins steer on.
#[derive(Debug)]
pub struct Steered {
    pub programs: Programs,
    pub tables: MapTables,
    pub flows: Flows,
}

/// The namespaces and the BPF file system of one test.
#[derive(Debug)]
pub struct DatapathSite {
    pub pod: Netns,
    pub edge: Netns,
    pub far: Netns,
    pub beyond: Netns,
    uplink: Uplink,
    bpffs: tempfile::TempDir,
}

impl DatapathSite {
    /// Builds the namespaces; routes and forwarding work, nothing is steered.
    pub fn build() -> Result<Self> {
        Self::with_uplink(Uplink::Veth)
    }

    /// Builds them with a steered link of this kind.
    pub fn with_uplink(uplink: Uplink) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_abandoned();
        let name = format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let bpffs = tempfile::tempdir()?;
        mount(Some("bpf"), bpffs.path(), Some("bpf"), MsFlags::empty(), None::<&str>)
            .context("cannot mount a BPF file system; run as root")?;
        let netns = |place: &str| Netns::create(&format!("{name}-{place}"));
        let [pod, edge, far, beyond] = ["pod", "edge", "far", "beyond"].map(netns);
        let site = Self { pod: pod?, edge: edge?, far: far?, beyond: beyond?, uplink, bpffs };
        site.connect(&name)?;
        Ok(site)
    }

    fn connect(&self, name: &str) -> Result<()> {
        self.edge.ip(&format!(
            "link add v0 type veth peer name eth0 netns {name}-pod\n\
             link add w0 type veth peer name c0 netns {name}-far\n"
        ))?;
        self.uplink.connect(&self.edge, &self.far)?;
        self.far.ip(&format!(
            "link add b0 mtu {NARROW} type veth peer name eth0 mtu {NARROW} netns {name}-beyond\n"
        ))?;
        for router in [&self.edge, &self.far] {
            router.sysctl(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])?;
        }
        self.edge.ip(&addressed(&[("v0", 1, 1), ("w0", 10, 1), ("w1", 11, 1)]))?;
        self.pod.ip(&addressed(&[("eth0", 1, 2)]))?;
        self.far.ip(&addressed(&[("c0", 10, 2), ("c1", 11, 2), ("lo", 99, 1), ("b0", 98, 1)]))?;
        self.beyond.ip(&addressed(&[("eth0", 98, 2)]))?;
        self.beyond.ip("route add default via 10.9.98.1\nroute add default via fd09:62::1\n")?;
        self.route()?;
        self.pod.ip("route add default via 10.9.1.1\nroute add default via fd09:1::1\n")?;
        self.far.ip("route add 10.9.1.0/24 via 10.9.10.1\nroute add fd09:1::/64 via fd09:a::1\n")
    }

    /// The edge routes to the far end, by the plain link.
    pub fn route(&self) -> Result<()> {
        self.edge.ip("route add 10.9.96.0/22 via 10.9.10.2\nroute add fd09:60::/28 via fd09:a::2\n")
    }

    /// Takes that away again.
    pub fn forget_routes(&self) -> Result<()> {
        self.edge.ip("route del 10.9.96.0/22 via 10.9.10.2\nroute del fd09:60::/28 via fd09:a::2\n")
    }

    /// Loads the programs, or takes over those that an earlier call left pinned, and attaches them to all three
    /// devices with the maps filled.
    pub fn steer(&self, mode: AttachMode, translation: Translation) -> Result<Steered> {
        self.edge.within(|| {
            let (mut programs, mut tables, flows) = load(self.bpffs.path(), mode, 7, self.bpffs.path())?;
            let devices = ["v0", "w0", "w1"].map(|name| Ok((if_nametoindex(name)?, name.to_owned())));
            let names = devices.into_iter().collect::<Result<BTreeMap<u32, String>>>()?;
            let index = |wanted: &str| {
                names.iter().find(|(_, name)| *name == wanted).map(|(index, _)| *index).unwrap_or_default()
            };
            if translation == Translation::Mark {
                self.forward_marked()?;
            }
            let image = image(index("v0"), index("w0"), index("w1"), self.uplink, translation);
            for op in diff(&tables.read()?, &image) {
                tables.apply(&op)?;
            }
            let mut places = BTreeSet::from([AttachPoint { hook: Hook::PodIn, ifindex: index("v0") }]);
            for hook in [Hook::WanIn, Hook::WanOut] {
                places.extend(["w0", "w1"].map(|name| AttachPoint { hook, ifindex: index(name) }));
            }
            let named = names.into_iter().map(|(index, name)| (index, NamedDevice { name, epoch: 0 }));
            programs.converge(&places, &named.collect())?;
            Ok(Steered { programs, tables, flows })
        })?
    }

    /// What the agent and a CNI plugin set up for a link in mode `Mark`.
    fn forward_marked(&self) -> Result<()> {
        self.edge.sysctl(&[("net/ipv4/conf/all/rp_filter", "2"), ("net/ipv4/conf/w1/rp_filter", "2")])?;
        let rule = format!("rule add pref 1000 fwmark {MARK}/{MARK} table 100\n");
        for (family, gateway) in ["-4", "-6"].into_iter().zip(GATEWAY) {
            let mut command = self.edge.command("ip");
            let script = format!("{rule}route add default via {gateway} table 100\n");
            run(command.args([family, "-batch", "-"]), Some(&script))?;
        }
        self.edge.nft(
            "table inet marked {\nchain post { type nat hook postrouting priority 100;\noifname \"w1\" masquerade\n}\n}\n",
        )
    }

    /// The agent's one write when another link is next: flows without translation follow.
    pub fn move_to(&self, steered: &mut Steered, link: u8, mtu: u16) -> Result<()> {
        let mut image = steered.tables.read()?;
        image.links.entry(link).and_modify(|link| link.mtu = mtu);
        image.slots.values_mut().for_each(|slot| (slot.link4, slot.link6) = (link, link));
        diff(&steered.tables.read()?, &image).iter().try_for_each(|op| Ok(steered.tables.apply(op)?))
    }

    /// The agent's writes when the translation of both links changes; flows that are open keep theirs.
    pub fn translate(&self, steered: &mut Steered, translation: Translation) -> Result<()> {
        let mut image = steered.tables.read()?;
        for link in image.links.values_mut() {
            link.flags = link.flags & LINK_L3 | flags(translation);
        }
        diff(&steered.tables.read()?, &image).iter().try_for_each(|op| Ok(steered.tables.apply(op)?))
    }

    /// The far end answers pods by the steered link from now on, not by the one that it routed by.
    pub fn answer_by_the_link(&self) -> Result<()> {
        self.far.ip("route replace 10.9.1.0/24 via 10.9.11.1\nroute replace fd09:1::/64 via fd09:b::1\n")
    }

    /// Folder of the pins.
    #[must_use]
    pub fn bpffs(&self) -> &Path {
        self.bpffs.path()
    }
}

impl Drop for DatapathSite {
    fn drop(&mut self) {
        let all = [&self.pod, &self.edge, &self.far, &self.beyond];
        let lines: String = all.map(|netns| format!("netns del {}\n", netns.name())).concat();
        let _gone = run(Command::new("ip").args(["-force", "-batch", "-"]), Some(&lines));
        let _gone = umount2(self.bpffs.path(), MntFlags::MNT_DETACH);
    }
}

/// Namespaces of processes that are gone.
fn remove_abandoned() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _gone = run(Command::new("ip").args(["netns", "del", &name]), None);
        }
    }
}
