//! The kernel half alone: a pod, an edge with two uplinks, and a far end, without agent and proxy.
//!
//! The edge routes to the far end by `w0`; the pod's class goes by `w1`, through NAT. So a packet's source tells its
//! way: the link's address when it was steered, the pod's own when it was not.

use crate::netns::{Netns, run};
use addresses::{addressed, both};
use anyhow::{Context, Result};
use clovisor_common::abi::{
    Addr, ClassKey, DestKey, LINK_L3, LINK_MARK, LINK_NAT, LINK_UP, Link, Pod, SLOT_FOLLOW, Slot,
    dscp_of_class, slot_index,
};
use clovisor_datapath::kernel::diff::diff;
use clovisor_datapath::kernel::flows::Flows;
use clovisor_datapath::kernel::image::{Image, wide};
use clovisor_datapath::kernel::load::{Programs, load};
use clovisor_datapath::kernel::plan::AttachMode;
use clovisor_datapath::kernel::plan::{AttachPoint, Hook};
use clovisor_datapath::kernel::state::NamedDevice;
use clovisor_datapath::kernel::tables::MapTables;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::net::if_::if_nametoindex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
pub use uplink::Uplink;

/// Addresses of both families.
mod addresses;

mod uplink;

/// Address of the pod, of the steered link and of the far end.
pub const POD: [IpAddr; 2] = both(1, 2);
/// See [`POD`].
pub const SOURCE: [IpAddr; 2] = both(11, 1);
/// Of the link that routing takes.
pub const PLAIN_SOURCE: [IpAddr; 2] = both(10, 1);
/// See [`POD`].
pub const FAR: [IpAddr; 2] = both(99, 1);

/// Behind the far end, by a path of [`NARROW`] bytes.
pub const BEYOND: [IpAddr; 2] = both(98, 2);

/// MTU of the path to [`BEYOND`].
pub const NARROW: u32 = 1300;

/// Next hop of the link that routing takes.
const PLAIN_GATEWAY: [IpAddr; 2] = both(10, 2);

/// The link's next hop.
pub const GATEWAY: [IpAddr; 2] = both(11, 2);
const ZONE: u16 = 1;
const CLASS: u8 = 1;
const LINK: u8 = 1;

/// Numbers of both links: the one that routing takes, and the steered one.
pub const LINKS: [u8; 2] = [0, LINK];

/// Type of service byte that carries the class.
pub const TOS: u32 = (dscp_of_class(CLASS) as u32) << 2;

/// Of packets that the stack forwards.
const MARK: u32 = 0x0200_0000;

/// Namespaces begin so; the process's number follows.
const PREFIX: &str = "wire-";

/// How the class's link treats addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation {
    /// Through the link's own address.
    Nat,
    /// The pod's address leaves.
    None,
    /// By mark: the edge's stack forwards and translates.
    Stack,
}

/// The programs, attached, and their maps. May be dropped: the pins steer on.
#[derive(Debug)]
pub struct Steered {
    pub programs: Programs,
    pub tables: MapTables,
    pub flows: Flows,
}

/// The namespaces and the BPF file system of one test.
#[derive(Debug)]
pub struct Wire {
    pub pod: Netns,
    pub edge: Netns,
    pub far: Netns,
    pub beyond: Netns,
    uplink: Uplink,
    bpffs: tempfile::TempDir,
}

impl Wire {
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
        let wire = Self { pod: pod?, edge: edge?, far: far?, beyond: beyond?, uplink, bpffs };
        wire.connect(&name)?;
        Ok(wire)
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
            let (mut programs, mut tables, flows) = load(self.bpffs.path(), mode, self.bpffs.path())?;
            let devices = ["v0", "w0", "w1"].map(|name| Ok((if_nametoindex(name)?, name.to_owned())));
            let names = devices.into_iter().collect::<Result<BTreeMap<u32, String>>>()?;
            let index = |wanted: &str| {
                names.iter().find(|(_, name)| *name == wanted).map(|(index, _)| *index).unwrap_or_default()
            };
            if translation == Translation::Stack {
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
        image.slots.values_mut().for_each(|slot| slot.link = link);
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

impl Drop for Wire {
    fn drop(&mut self) {
        let all = [&self.pod, &self.edge, &self.far, &self.beyond];
        let lines: String = all.map(|netns| format!("netns del {}\n", netns.name())).concat();
        let _gone = run(Command::new("ip").args(["-force", "-batch", "-"]), Some(&lines));
        let _gone = umount2(self.bpffs.path(), MntFlags::MNT_DETACH);
    }
}

fn flags(translation: Translation) -> u32 {
    match translation {
        Translation::Nat => LINK_UP | LINK_NAT,
        Translation::None => LINK_UP,
        Translation::Stack => LINK_UP | LINK_NAT | LINK_MARK,
    }
}

fn image(veth: u32, plain: u32, steered: u32, uplink: Uplink, translation: Translation) -> Image {
    let slot = slot_index(ZONE, CLASS);
    let [IpAddr::V4(source4), IpAddr::V6(source6)] = SOURCE else { return Image::default() };
    let [IpAddr::V4(gateway4), IpAddr::V6(gateway6)] = GATEWAY else { return Image::default() };
    // Reached over its own next hop; the pod's address leaves as it does by `w1`.
    let [IpAddr::V4(plain4), IpAddr::V6(plain6)] = PLAIN_GATEWAY else { return Image::default() };
    let other = Link {
        ifindex: plain,
        mtu: Uplink::Veth.mtu(),
        wire_dscp: 0,
        pad: 0,
        mark: MARK,
        mark_mask: MARK,
        flags: flags(translation),
        port_min: 20_000,
        port_max: 59_999,
        gateway4: plain4.octets(),
        source4: source4.octets(),
        gateway6: plain6.octets(),
        source6: source6.octets(),
    };
    // Without a link layer there is no next hop; for IPv6 the agent names one all the same.
    let (bare, gateway4, gateway6) = match uplink.l3() {
        true => (LINK_L3, [0; 4], source6.octets()),
        false => (0, gateway4.octets(), gateway6.octets()),
    };
    let flags = other.flags | bare;
    let link = Link { ifindex: steered, mtu: uplink.mtu(), flags, gateway4, gateway6, ..other };
    let addr = Addr { veth, zone: ZONE, pad: 0 };
    Image {
        links: BTreeMap::from([(0, other), (LINK, link)]),
        link_of: BTreeMap::from([(plain, 0), (steered, u32::from(LINK))]),
        slots: BTreeMap::from([(slot, Slot { link: LINK, flags: SLOT_FOLLOW, ..Slot::NONE })]),
        classes: BTreeMap::from([(ClassKey { zone: ZONE, class: CLASS, pad: 0 }, slot)]),
        dests: BTreeMap::from([(DestKey::anywhere(ZONE), 1)]),
        addrs: POD.into_iter().map(|address| (wide(address), addr)).collect(),
        pods: BTreeMap::from([(veth, Pod { zone: ZONE, traffic: 0, proxy_uid: 0 })]),
        ..Image::default()
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
