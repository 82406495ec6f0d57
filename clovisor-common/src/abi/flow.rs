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
    /// [`FLOW_NAT`], [`FLOW_REVERSE`], [`FLOW_BY_TRAFFIC`], [`FLOW_MARK`], [`FLOW_AS_IS`], [`FLOW_ENDED`].
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
/// The connection has ended: its entries wait among the unreplied ones for its last packets, and reserve its source port while
/// the far end may remember it.
pub const FLOW_ENDED: u16 = 32;

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

/// Replied flows that a pod may have, ended ones not counted; more stay in the unreplied table, where others may displace them.
pub const POD_QUOTA: u32 = 16_384;

/// Flows that a pod may open at once, beyond [`OPEN_INTERVAL_SHIFT`]: a quarter of the unreplied IPv4 table.
pub const POD_OPENS: u64 = 8192;

/// A pod may open a flow each 2^14 ns (61,035 a second), which one proxy does not reach; a flood at that rate takes more than half a
/// second to displace a flow from the unreplied table.
pub const OPEN_INTERVAL_SHIFT: u32 = 14;

/// Value of `POD_USAGE` (key: ifindex of the host side veth, `u32`). The programs count; the agent sets `replied` to the number
/// that it counted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodUsage {
    /// When the bucket of opens is full again, in units of 2^[`OPEN_INTERVAL_SHIFT`] ns of `bpf_ktime_get_ns` (GCRA, ITU-T I.371).
    pub full_at: u64,
    /// Flows of the pod in `FLOW4` and `FLOW6`.
    pub replied: u32,
    pub pad: u32,
}

impl PodUsage {
    /// Takes a token at `now_ns`; false where there is none.
    #[inline(always)]
    pub fn may_open(&mut self, now_ns: u64) -> bool {
        let now = now_ns >> OPEN_INTERVAL_SHIFT;
        let full_at = self.full_at.max(now);
        if full_at - now >= POD_OPENS {
            return false;
        }
        self.full_at = full_at + 1;
        true
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_are_limited_by_a_bucket_that_fills_with_time() {
        const TICK: u64 = 1 << OPEN_INTERVAL_SHIFT;
        let (mut usage, start) = (PodUsage::default(), 5_000_000_000 / TICK * TICK);
        for n in 0..POD_OPENS {
            assert!(usage.may_open(start), "{n}");
        }
        assert!(!usage.may_open(start) && !usage.may_open(start + TICK - 1));
        for tick in 1..=100 {
            assert!(usage.may_open(start + tick * TICK) && !usage.may_open(start + tick * TICK));
        }
        // After a pause the bucket is full, and not more than that.
        let later = start + 1000 * POD_OPENS * TICK;
        let opened = (0..2 * POD_OPENS).filter(|_| usage.may_open(later)).count() as u64;
        assert_eq!(opened, POD_OPENS);
    }
}
