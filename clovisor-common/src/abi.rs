//! Layout of the kernel maps: the one contract between the eBPF programs and the agent.
//!
//! Addresses and ports are in network byte order as they stand in the packet (`[u8; N]`/`be` in the name);
//! every other number is in host byte order. Padding is explicit and zero: keys are hashed byte by byte.
//! IPv4 addresses in 16-byte fields are IPv4-mapped (`::ffff:a.b.c.d`).
//! Any change of a layout or of a map's meaning raises [`ABI_VERSION`].
#![allow(unsafe_code, reason = "layouts of maps are plain data")]

mod exchange;
mod flow;
mod reason;
mod traffic;

pub use exchange::{EXCHANGE_NS, Exchange, ExchangeKey};
pub use flow::{
    FLOW_AS_IS, FLOW_BY_TRAFFIC, FLOW_ENDED, FLOW_MARK, FLOW_NAT, FLOW_REVERSE, Flow, Flow4, Flow4Key, Flow6,
    Flow6Key, FlowKey, FlowState, FragmentKey, OPEN_INTERVAL_SHIFT, POD_OPENS, POD_QUOTA, PodUsage, Ports,
};
pub use reason::Reason;
pub use traffic::{LOCAL, MAX_LOCAL, NOT_LOCAL, PortRule, TRAFFIC_RULES, Traffic, TrafficKey};

/// Names the pin folder (`<bpffs>/clovisor/v6`): two versions never share a map.
pub const ABI_VERSION: u32 = 8;

/// Classes a namespace can have: DSCP 3, 7, 11 … 63 (RFC 2474 pool 2, local use).
pub const MAX_CLASSES: u8 = 16;

/// Entries of `LINKS`.
pub const MAX_LINKS: u32 = 64;

/// Entries of `SLOTS`: 16 classes of each zone, see [`slot_index`].
pub const MAX_SLOTS: u32 = 4096;

/// `Slot::link4` or `Slot::link6` of a slot none of whose links is usable for the family.
pub const NO_LINK: u8 = 0xff;

/// Bit of `scope` in the key of a reverse entry; the other bits are the link's number.
pub const REVERSE: u32 = 0x8000_0000;

/// Takes the place of the link's number in the reverse entry of a flow without NAT.
pub const ANY_LINK: u32 = 0x7fff_ffff;

/// Every map of the object, in the order of this page; each is pinned under its name.
pub const MAPS: [&str; 19] = [
    "FLOW4",
    "FLOW6",
    "UNREPLIED4",
    "UNREPLIED6",
    "POD_USAGE",
    "FRAGMENTS",
    "EXCHANGES",
    "CLASSES",
    "SLOTS",
    "LINKS",
    "LINK_OF",
    "PODS",
    "ADDRS",
    "DESTS",
    "TRAFFIC",
    "LOCAL",
    "PEERS",
    "STATS",
    "LINK_STATS",
];

/// The programs of the object: TC ingress and egress of a pod's veth, and of an uplink.
pub const PROGRAMS: [&str; 4] = ["pod_in", "pod_out", "wan_in", "wan_out"];

/// Entries of `STATS`: more than there are reasons, so that a new reason does not change the map.
pub const STATS_ENTRIES: u32 = 64;

/// The DSCP (0..=63) that carries class 1..=16.
#[must_use]
pub const fn dscp_of_class(class: u8) -> u8 {
    class * 4 - 1
}

/// The class that a DSCP (0..=63) carries, or 0 for none.
#[must_use]
pub const fn class_of_dscp(dscp: u8) -> u8 {
    if dscp & 3 == 3 { (dscp + 1) / 4 } else { 0 }
}

/// Zones a node can have: namespaces with a mapping.
pub const MAX_ZONES: u16 = (MAX_SLOTS / MAX_CLASSES as u32) as u16;

/// The slot of class 1..=16 of zone 1..=[`MAX_ZONES`].
#[must_use]
pub const fn slot_index(zone: u16, class: u8) -> SlotIndex {
    (zone as u32 - 1) * MAX_CLASSES as u32 + (class as u32 - 1)
}

/// Key of `CLASSES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassKey {
    pub zone: u16,
    pub class: u8,
    pub pad: u8,
}

/// Value of `CLASSES`: an index of `SLOTS`.
pub type SlotIndex = u32;

/// Value of `SLOTS`: the active links of one class of one namespace, one for each address family. Fail-over is one write
/// here. Two words, each read and written whole.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Index of `LINKS` for IPv4, or [`NO_LINK`].
    pub link4: u8,
    /// The same for IPv6.
    pub link6: u8,
    /// [`SLOT_REFUSE`], [`SLOT_FOLLOW`].
    pub flags: u8,
    /// DSCP 0..=63 that steered packets carry on the wire; 0: that of their link.
    pub wire_dscp: u8,
    pub pad: [u8; 4],
    /// Bit `n`: flows that are on link `n` may not stay there; the mapping does not have it, or not any more.
    pub forbidden: u64,
}

impl Slot {
    /// A slot that no mapping owns: existing flows stay on their link until they end.
    pub const NONE: Self =
        Self { link4: NO_LINK, link6: NO_LINK, flags: 0, wire_dscp: 0, pad: [0; 4], forbidden: 0 };

    /// A slot whose new flows of both families take this link.
    #[must_use]
    pub const fn of(link: u8) -> Self {
        Self { link4: link, link6: link, ..Self::NONE }
    }

    /// Flows on this link (index of `LINKS`) must leave it.
    #[must_use]
    pub const fn forbids(&self, link: u8) -> bool {
        self.forbidden >> (link & 63) & 1 != 0
    }
}

/// No usable link, or no room: drop instead of the default route (`onLinksDown: Refuse`).
pub const SLOT_REFUSE: u8 = 1;
/// Established flows without NAT follow the slot to a new link (`established: Follow`).
pub const SLOT_FOLLOW: u8 = 2;

/// Value of `LINKS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// 0 = no such link.
    pub ifindex: u32,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// DSCP 0..=63 of steered packets on this link where their slot has none; 0 for none here either.
    pub wire_dscp: u8,
    pub pad: u8,
    /// [`LINK_UP4`], [`LINK_UP6`], [`LINK_NAT`], [`LINK_L3`], [`LINK_MARK`].
    pub flags: u32,
    /// With [`LINK_MARK`]: bits that steered packets get in `skb->mark`, and which bits those are.
    pub mark: u32,
    pub mark_mask: u32,
    /// Source ports of SNAT, host byte order, inclusive. Zero with [`LINK_MARK`] while no flow here is translated by the programs: what
    /// comes in for other addresses than the pods' is none of theirs.
    pub port_min: u16,
    pub port_max: u16,
    /// Next hop, or zero where destinations are on-link.
    pub gateway4: [u8; 4],
    /// Address of SNAT, or zero where the link has none of this family.
    pub source4: [u8; 4],
    pub gateway6: [u8; 16],
    pub source6: [u8; 16],
}

impl Link {
    /// What `LINKS` holds where there is no link.
    pub const NONE: Self = Self {
        ifindex: 0,
        mtu: 0,
        wire_dscp: 0,
        pad: 0,
        flags: 0,
        mark: 0,
        mark_mask: 0,
        port_min: 0,
        port_max: 0,
        gateway4: [0; 4],
        source4: [0; 4],
        gateway6: [0; 16],
        source6: [0; 16],
    };
}

/// New IPv4 flows may take the link and packets of pinned ones are sent on it.
pub const LINK_UP4: u32 = 1;
/// `nat: Masquerade`: the source address belongs to the link, and flows cannot leave it.
pub const LINK_NAT: u32 = 2;
/// The device has no Ethernet header (TUN, WireGuard, PPP, IP tunnels): packets start with the IP header.
pub const LINK_L3: u32 = 4;
/// `mode: Mark`: packets get a mark and the stack forwards them, by a rule for the mark; it translates too.
pub const LINK_MARK: u32 = 8;
/// The same as [`LINK_UP4`] for IPv6 flows.
pub const LINK_UP6: u32 = 16;
/// Up for both families.
pub const LINK_UP: u32 = LINK_UP4 | LINK_UP6;

/// Value of `LINK_OF` (key: ifindex of an uplink, `u32`): an index of `LINKS`.
pub type LinkIndex = u32;

/// Value of `PODS` (key: ifindex of the host side veth, `u32`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Number of the pod's namespace on this node, 1..=0x7fff.
    pub zone: u16,
    /// Bit `class - 1` for every class that `TRAFFIC` may give the pod's own packets.
    pub traffic: u16,
    /// Uid whose sockets may carry a class (the proxy's), e.g. 1337.
    pub proxy_uid: u32,
}

/// Key of `ADDRS`: an address of a pod.
pub type AddrKey = [u8; 16];

/// Value of `ADDRS`: where the address lives.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addr {
    pub veth: u32,
    pub zone: u16,
    pub pad: u16,
}

/// Key of `DESTS`: a destination of a mapping, as the proxy dials it.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestKey {
    pub addr: [u8; 16],
    pub port_be: u16,
    pub zone: u16,
    pub proto: u8,
    pub pad: [u8; 3],
}

impl DestKey {
    /// The key of classes whose destinations only the mesh's control plane knows.
    #[must_use]
    pub const fn anywhere(zone: u16) -> Self {
        Self { addr: [0; 16], port_be: 0, zone, proto: 0, pad: [0; 3] }
    }
}

/// Value of `DESTS`: bit `class - 1` for every class that may go there.
pub type DestClasses = u32;

/// Key of `PEERS`: an address that proxies dial.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerKey {
    pub addr: [u8; 16],
    pub port_be: u16,
    pub link: u8,
    pub proto: u8,
}

/// Value of `PEERS`: the real address of the peer on that link.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub addr: [u8; 16],
    pub port_be: u16,
    pub pad: [u8; 2],
}

/// Value of `STATS` (per CPU array, index: [`Reason`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub packets: u64,
    pub bytes: u64,
}

/// Value of `LINK_STATS` (per CPU array, index: link): steered traffic only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    pub tx: Counter,
    pub rx: Counter,
}

const _: () = {
    assert!(size_of::<Flow4Key>() == 24);
    assert!(size_of::<Flow6Key>() == 48);
    assert!(size_of::<FlowState>() == 56);
    assert!(size_of::<Flow4>() == 72);
    assert!(size_of::<Flow6>() == 96);
    assert!(size_of::<PodUsage>() == 16);
    assert!(size_of::<FragmentKey>() == 48);
    assert!(size_of::<Exchange>() == 16);
    assert!(size_of::<ClassKey>() == 4);
    assert!(size_of::<Slot>() == 16);
    assert!(MAX_LINKS == u64::BITS);
    assert!(size_of::<Link>() == 64);
    assert!(size_of::<Pod>() == 8);
    assert!(size_of::<Addr>() == 8);
    assert!(size_of::<DestKey>() == 24);
    assert!(size_of::<TrafficKey>() == 20);
    assert!(size_of::<Traffic>() == 96);
    assert!(size_of::<PeerKey>() == 20);
    assert!(size_of::<Peer>() == 20);
    assert!(size_of::<LinkCounters>() == 32);
    assert!(Reason::ALL.len() <= STATS_ENTRIES as usize);
};

#[cfg(feature = "user")]
mod pod {
    use super::*;

    macro_rules! pod {
        ($($t:ty),*) => { $(
            // SAFETY: repr(C), only integers and byte arrays, no implicit padding (sizes asserted above),
            // every bit pattern is valid.
            unsafe impl aya::Pod for $t {}
        )* };
    }
    pod!(
        Flow4Key,
        Flow6Key,
        Flow4,
        Flow6,
        PodUsage,
        FragmentKey,
        Exchange,
        Ports,
        ClassKey,
        Slot,
        Link,
        Pod,
        Addr,
        DestKey,
        TrafficKey,
        Traffic,
        PeerKey,
        Peer,
        Counter,
        LinkCounters
    );
}

#[cfg(test)]
mod tests;
