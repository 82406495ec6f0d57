//! Flows, and what packets leave behind beside them.

use super::{ANY_LINK, REVERSE};

/// Key of `FLOW4` and `FLOW6`, and of `UNREPLIED4` and `UNREPLIED6`, which hold a flow until its first reply. Forward: the
/// pod's own tuple, with the interface by which its packets arrive: packets of another pod never match. Reverse: the
/// tuple of a packet that comes back, with `scope = REVERSE | link` under NAT (the port belongs to that link's address),
/// else `scope = REVERSE | ANY_LINK` (the far end may answer by any link).
#[repr(C, align(8))] // copied and hashed by words
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey<A> {
    pub saddr: A,
    pub daddr: A,
    pub sport_be: u16,
    pub dport_be: u16,
    /// Ifindex of the pod's host side veth, or [`REVERSE`] and a link.
    pub scope: u32,
    /// Number of the protocol. A word, as the padding is: single bytes would be a call in the kernel.
    pub proto: u32,
    pub pad: u32,
}

/// Key of `FLOW4`.
pub type Flow4Key = FlowKey<[u8; 4]>;

/// Key of `FLOW6`.
pub type Flow6Key = FlowKey<[u8; 16]>;

impl<A: Copy> FlowKey<A> {
    /// The key of the other direction's entry, from this entry's key and value.
    #[must_use]
    pub fn paired(&self, flow: &Flow<A>) -> FlowKey<A> {
        let state = &flow.state;
        let scope = if state.flags & FLOW_REVERSE != 0 {
            state.veth
        } else if state.flags & FLOW_NAT != 0 {
            REVERSE | state.link as u32
        } else {
            REVERSE | ANY_LINK
        };
        FlowKey {
            saddr: flow.daddr,
            daddr: flow.saddr,
            sport_be: flow.dport_be,
            dport_be: flow.sport_be,
            scope,
            proto: self.proto,
            pad: 0,
        }
    }
}

/// State of one direction of a flow, for both families.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowState {
    /// `bpf_ktime_get_ns` (CLOCK_MONOTONIC) when the flow was pinned.
    pub created_ns: u64,
    /// The same clock at the last packet of this direction, to a jiffy (1 to 10 ms).
    pub last_seen_ns: u64,
    pub packets: u64,
    /// IP bytes of this direction.
    pub bytes: u64,
    /// Host side veth of the pod; the reverse direction is redirected to its peer.
    pub veth: u32,
    pub slot: u16,
    pub link: u8,
    /// Class 1..=16 that the first packet carried.
    pub class: u8,
    /// Zone of the pod.
    pub zone: u16,
    /// [`FLOW_NAT`], [`FLOW_REVERSE`], [`FLOW_BY_TRAFFIC`], [`FLOW_MARK`], [`FLOW_AS_IS`].
    pub flags: u16,
    /// TCP flags seen so far in this direction, or-ed (FIN 1, SYN 2, RST 4, ACK 16).
    pub tcp_flags: u8,
    pub pad: [u8; 3],
    /// Lower 32 bits of the kernel's jiffies when `last_seen_ns` was written: the clock is read once a jiffy.
    pub jiffies: u32,
    /// Acknowledgment number of the last TCP segment of this direction that had one, as it stands in the packet: what
    /// its sender expects next. The agent uses it for segments in the name of that side.
    pub ack_be: u32,
}

/// The flow's source is translated to the link's address, here or by the stack: it cannot move to another link.
pub const FLOW_NAT: u16 = 1;
/// A reverse entry.
pub const FLOW_REVERSE: u16 = 2;
/// The class comes from `TRAFFIC`, not from the packet's DSCP, which is the application's.
pub const FLOW_BY_TRAFFIC: u16 = 4;
/// The node's stack forwards the flow by fwmark and translates it; its entries hold the pod's own tuple.
pub const FLOW_MARK: u16 = 8;
/// Neither addresses nor ports are translated.
pub const FLOW_AS_IS: u16 = 16;

/// Value of `FLOW4`, `FLOW6`, `UNREPLIED4` and `UNREPLIED6`: the tuple after translation.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow<A> {
    pub saddr: A,
    pub daddr: A,
    pub sport_be: u16,
    pub dport_be: u16,
    /// Change of a one's complement checksum by the translation of the addresses.
    pub addr_delta: u16,
    /// The same for the ports.
    pub port_delta: u16,
    pub state: FlowState,
}

/// Value of `FLOW4`.
pub type Flow4 = Flow<[u8; 4]>;

/// Value of `FLOW6`.
pub type Flow6 = Flow<[u8; 16]>;

/// Replied flows that a pod may have; more stay in the unreplied table, where others may displace them.
pub const POD_QUOTA: u32 = 16_384;

/// Flows that a pod may open in one window of 2^[`WINDOW_SHIFT`] ns (134 ms).
pub const POD_OPENS: u32 = 2048;

/// See [`POD_OPENS`].
pub const WINDOW_SHIFT: u32 = 27;

/// Value of `POD_USAGE` (key: ifindex of the host side veth, `u32`). The programs count up; the agent sets
/// `replied` to the number that it counted.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodUsage {
    /// Flows of the pod in `FLOW4` and `FLOW6`.
    pub replied: u32,
    /// `bpf_ktime_get_ns() >> WINDOW_SHIFT` of the last flow that was opened, the lower 32 bits.
    pub window: u32,
    /// Flows opened in that window.
    pub opened: u32,
}

/// Key of `FRAGMENTS`: what the fragments of one packet share.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    pub saddr: [u8; 16],
    pub daddr: [u8; 16],
    /// As it stands in the packet.
    pub id: u32,
    /// As in [`FlowKey`], under NAT or not always with the link's number.
    pub scope: u32,
    pub proto: u32,
    pub pad: u32,
}

/// Value of `FRAGMENTS`: the ports that only the first fragment has.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub sport_be: u16,
    pub dport_be: u16,
}
