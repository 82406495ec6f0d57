//! One packet in the kernel: bounds-checked access, rewriting, verdicts.
#![allow(unsafe_code, reason = "packets and helpers of the kernel")]

use aya_ebpf::bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, bpf_redir_neigh};
use aya_ebpf::helpers::{
    bpf_csum_update, bpf_get_prandom_u32, bpf_get_socket_uid, bpf_jiffies64, bpf_ktime_get_ns,
    bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_change_head, bpf_skb_change_tail, bpf_skb_store_bytes,
};
use aya_ebpf::programs::TcContext;
use clovisor_common::abi::{Flow, Link, Reason};
use clovisor_common::packet::{
    Address, Bytes, ECHO_ID, ETHERNET, Fragment, ICMP_CHECKSUM, Quoted, Segment, TCP, TCP_CHECKSUM,
    TCP_HEADER, UDP, UDP_CHECKSUM,
};
use clovisor_common::reply::Frame;

use crate::maps;

/// `TC_ACT_UNSPEC`: the next program, then the stack.
pub(crate) const PASS: i32 = -1;
/// `TC_ACT_SHOT`.
pub(crate) const DROP: i32 = 2;

/// The VLAN's number in `skb->vlan_tci`.
const VLAN_ID: u32 = 0xfff;
/// `PACKET_OTHERHOST` of `skb->pkt_type`.
const OTHER_HOST: u32 = 3;

/// `skb->tc_index` of packets that `pod_in` sent on a link.
const SEEN: u32 = 0xc10;

/// A packet of a TC hook; every helper that may move its bytes takes `&mut self`.
pub(crate) struct Packet {
    ctx: TcContext,
}

impl Packet {
    #[inline(always)]
    pub(crate) fn new(ctx: TcContext) -> Self {
        Self { ctx }
    }

    #[inline(always)]
    fn skb(&self) -> &__sk_buff {
        // SAFETY: the context is valid for the whole run of the program.
        unsafe { &*self.ctx.skb.skb }
    }

    /// Sets or clears the mark "sent by `pod_in`"; a pod may have set the field itself. The field is the kernel's own, between TC
    /// programs of this node; it does not reach the wire.
    #[inline(always)]
    pub(crate) fn set_seen(&mut self, seen: bool) {
        // SAFETY: the context is valid for the whole run, and TC programs may write this field.
        unsafe { (*self.ctx.skb.skb).tc_index = if seen { SEEN } else { 0 } };
    }

    /// The packet was sent by `pod_in`.
    #[inline(always)]
    pub(crate) fn is_seen(&self) -> bool {
        self.skb().tc_index == SEEN
    }

    /// The packet is for a device stacked on this one, or for another host: it still has a VLAN tag (VLAN 0 is a priority
    /// only: IEEE 802.1Q, 9.6), or another Ethernet destination, as for a macvlan.
    #[inline(always)]
    pub(crate) fn is_for_another_device(&self) -> bool {
        let tagged = self.skb().vlan_present != 0 && self.skb().vlan_tci & VLAN_ID != 0;
        tagged || self.skb().pkt_type == OTHER_HOST
    }

    /// Gives a packet of an L3 device an Ethernet header with zero addresses, as the loopback device's: the pod's device expects
    /// one.
    #[inline(always)]
    pub(crate) fn with_ethernet(&mut self, l3: usize, ether_be: u16) -> Option<()> {
        if l3 != 0 {
            return Some(());
        }
        // SAFETY: the helper checks the length; pointers into the packet are dead (`&mut self`).
        if unsafe { bpf_skb_change_head(self.ctx.skb.skb, ETHERNET as u32, 0) } != 0 {
            return None;
        }
        *self.view::<[u16; ETHERNET / 2]>(0)? = [0, 0, 0, 0, 0, 0, ether_be];
        Some(())
    }

    /// Sets the link's bits of `skb->mark`, keeps the others.
    #[inline(always)]
    pub(crate) fn set_mark(&mut self, link: &Link) {
        // SAFETY: as in `set_seen`.
        unsafe { (*self.ctx.skb.skb).mark = self.skb().mark & !link.mark_mask | link.mark };
    }

    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        self.skb().ifindex
    }

    /// IP bytes of the packet, with the offset of its IP header.
    #[inline(always)]
    pub(crate) fn ip_len(&self, l3: usize) -> u32 {
        self.ctx.len().wrapping_sub(l3 as u32)
    }

    /// Payload bytes of a segment on the wire (GSO size); 0 without GSO.
    #[inline(always)]
    pub(crate) fn gso_size(&self) -> u32 {
        self.skb().gso_size
    }

    /// Packets and IP bytes on the wire, after segmentation; `headers` = length of IP and TCP headers.
    #[inline(always)]
    pub(crate) fn on_wire(&self, l3: usize, headers: u32) -> (u64, u64) {
        let packets = self.skb().gso_segs.max(1);
        let extra = u64::from(packets - 1) * u64::from(headers);
        (u64::from(packets), u64::from(self.ip_len(l3)) + extra)
    }

    /// The EtherType.
    #[inline(always)]
    pub(crate) fn ether(&self) -> u16 {
        self.skb().protocol as u16
    }

    /// Makes the headers readable behind an IP header at `l3`.
    #[inline(always)]
    pub(crate) fn make_readable(&mut self, l3: usize) {
        // A short datagram is shorter than that.
        let headers = ((l3 + 40 + TCP_HEADER) as u32).min(self.ctx.len());
        if self.ctx.data() + headers as usize > self.ctx.data_end() {
            let _too_short = self.ctx.pull_data(headers);
        }
    }

    #[inline(always)]
    fn at<T>(&self, at: usize) -> Option<*mut T> {
        let place = self.ctx.data() + at;
        (place + size_of::<T>() <= self.ctx.data_end()).then_some(place as *mut T)
    }

    #[inline(always)]
    fn load<T: Copy>(&self, at: usize) -> Option<T> {
        // SAFETY: in bounds by `at`; T is a plain integer or an array of them; this target loads unaligned words.
        self.at::<T>(at).map(|scratch| unsafe { *scratch })
    }

    #[inline(always)]
    pub(crate) fn view<T>(&mut self, at: usize) -> Option<&mut T> {
        // SAFETY: as in `load`, and the borrow ends before any helper moves the bytes.
        self.at::<T>(at).map(|scratch| unsafe { &mut *scratch })
    }

    #[inline(always)]
    pub(crate) fn socket_uid(&self) -> u32 {
        // SAFETY: the helper only reads the context.
        unsafe { bpf_get_socket_uid(self.ctx.skb.skb) }
    }

    /// Sets the TCP option field of two bytes at `at` and updates the checksum.
    #[inline(always)]
    pub(crate) fn set_half(&mut self, l4: usize, at: usize, old: u16, new: u16) -> Option<()> {
        let checksum = l4 + TCP_CHECKSUM;
        // At an odd offset (an MSS after NOPs) the field's bytes are swapped in the sum.
        let (from, to) = if at % 2 == 0 { (old, new) } else { (old.swap_bytes(), new.swap_bytes()) };
        self.ctx.l4_csum_replace(checksum, u64::from(from), u64::from(to), 2).ok()?;
        self.ctx.store(l4 + at, &new, 0).ok()
    }

    /// Updates the transport's checksum for the flow's translation; the pseudo header covers the addresses.
    #[inline(always)]
    pub(crate) fn update_checksum<A: Address>(&mut self, of: &Segment<A>, flow: &Flow<A>) -> Option<()> {
        let (at, flags) = match of.proto {
            TCP => (TCP_CHECKSUM, 0),
            // Zero stays zero: the sender made none.
            UDP => (UDP_CHECKSUM, u64::from(BPF_F_MARK_MANGLED_0)),
            _ => (ICMP_CHECKSUM, 0),
        };
        let checksum = of.l4() + at;
        let (addrs, ports) = (u64::from(flow.addr_delta), u64::from(flow.port_delta));
        if of.fragment == Fragment::Later {
            return Some(());
        }
        if addrs != 0 && (of.proto == TCP || of.proto == UDP || A::ICMP_COVERS_ADDRESSES) {
            self.ctx.l4_csum_replace(checksum, 0, addrs, flags | u64::from(BPF_F_PSEUDO_HDR)).ok()?;
        }
        if ports != 0 {
            self.ctx.l4_csum_replace(checksum, 0, ports, flags).ok()?;
        }
        Some(())
    }

    /// Adds `delta` to the sum of the packet's bytes that the device computed (`CHECKSUM_COMPLETE`), if there is one.
    #[inline(always)]
    pub(crate) fn csum_add(&mut self, delta: u16) {
        // SAFETY: the helper reads and writes the context only. It refuses where there is no such sum.
        let _no_sum = unsafe { bpf_csum_update(self.ctx.skb.skb, delta.into()) };
    }

    /// Writes the flow's ports, or the echo identifier.
    #[inline(always)]
    pub(crate) fn set_ports<A: Address>(&mut self, of: &Segment<A>, flow: &Flow<A>) -> Option<()> {
        if of.fragment == Fragment::Later {
            return Some(());
        }
        if of.proto == TCP || of.proto == UDP {
            *self.view::<u32>(of.l4())? = ports_of(flow);
        } else {
            *self.view::<u16>(of.l4() + ECHO_ID)? = flow.sport_be | flow.dport_be;
        }
        Some(())
    }

    /// Updates an ICMP error's checksum: `outer` for the addresses of its pseudo header, `inner` for what it quotes.
    #[inline(always)]
    pub(crate) fn mend_error<A: Address>(&mut self, of: &Quoted<A>, outer: u16, inner: u16) -> Option<()> {
        let checksum = of.icmp() + ICMP_CHECKSUM;
        if outer != 0 {
            self.ctx.l4_csum_replace(checksum, 0, outer.into(), u64::from(BPF_F_PSEUDO_HDR)).ok()?;
        }
        if inner != 0 {
            self.ctx.l4_csum_replace(checksum, 0, inner.into(), 0).ok()?;
        }
        Some(())
    }

    /// Writes the flow's ports into the quoted packet, which went in the opposite direction.
    #[inline(always)]
    pub(crate) fn set_quoted_ports<A: Address>(&mut self, of: &Quoted<A>, flow: &Flow<A>) -> Option<()> {
        let l4 = of.quote() + A::HEADER;
        if of.proto == TCP || of.proto == UDP {
            let ([a, b], [c, d]) = (flow.dport_be.to_ne_bytes(), flow.sport_be.to_ne_bytes());
            *self.view::<u32>(l4)? = u32::from_ne_bytes([a, b, c, d]);
        } else {
            *self.view::<u16>(l4 + ECHO_ID)? = flow.sport_be | flow.dport_be;
        }
        Some(())
    }

    /// Writes the bytes of a plain value; with the flag `BPF_F_RECOMPUTE_CSUM` a checksum over the whole packet follows.
    #[inline(always)]
    pub(crate) fn store<T>(&mut self, at: usize, value: &T, flags: u32) -> Option<()> {
        self.ctx.store(at, value, u64::from(flags)).ok()
    }

    /// Replaces the whole packet by the first `len` bytes of `frame`.
    #[inline(always)]
    pub(crate) fn replace(&mut self, frame: &Frame, len: usize) -> Option<()> {
        let len = len as u32;
        // SAFETY: the helper checks the length; pointers into the packet are dead (`&mut self`).
        if unsafe { bpf_skb_change_tail(self.ctx.skb.skb, len, 0) } != 0 {
            return None;
        }
        // SAFETY: `len` is the length of one of the family's answers, never more than the frame's.
        let stored = unsafe { bpf_skb_store_bytes(self.ctx.skb.skb, 0, frame.as_ptr().cast(), len, 0) };
        (stored == 0).then_some(())
    }

    /// The verdict that hands the packet to the other end of the veth, past the host's stack.
    #[inline(always)]
    pub(crate) fn to_peer(&self, veth: u32) -> i32 {
        // SAFETY: no memory is passed.
        unsafe { bpf_redirect_peer(veth, 0) as i32 }
    }
}

impl Bytes for Packet {
    #[inline(always)]
    fn byte(&self, at: usize) -> Option<u8> {
        let place = self.ctx.data() + at;
        // Without the black box the compiler emits `place < end`, which the verifier does not accept as a bounds check.
        let end = place + core::hint::black_box(1);
        // SAFETY: in bounds, as in `load`.
        (end <= self.ctx.data_end()).then(|| unsafe { *(place as *const u8) })
    }

    #[inline(always)]
    fn half(&self, at: usize) -> Option<u16> {
        self.load(at)
    }

    #[inline(always)]
    fn words<const N: usize>(&self, at: usize) -> Option<[u32; N]> {
        self.load(at)
    }

    #[inline(always)]
    fn wide(&self, at: usize) -> Option<u128> {
        let words = self.load::<[u64; 2]>(at)?;
        let [low, high] = if cfg!(target_endian = "big") { [words[1], words[0]] } else { words };
        Some(u128::from(low) | u128::from(high) << 64)
    }
}

#[inline(always)]
fn ports_of<A>(flow: &Flow<A>) -> u32 {
    let ([a, b], [c, d]) = (flow.sport_be.to_ne_bytes(), flow.dport_be.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

#[inline(always)]
pub(crate) fn neighbour(ifindex: u32, family: u32, nexthop: [u32; 4]) -> i32 {
    let [a, b, c, d] = nexthop;
    if a | b | c | d == 0 {
        // SAFETY: the helper takes a null pointer for "look the destination up".
        return unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32 };
    }
    // Same layout as the kernel's `bpf_redir_neigh`, whose union covers the four words.
    let mut params = [family, a, b, c, d];
    let len = size_of::<bpf_redir_neigh>() as i32;
    // SAFETY: `params` has the size and layout that the helper reads.
    unsafe { bpf_redirect_neigh(ifindex, params.as_mut_ptr().cast(), len, 0) as i32 }
}

/// CLOCK_MONOTONIC in nanoseconds.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: no memory is passed.
    unsafe { bpf_ktime_get_ns() }
}

/// The kernel's tick, at a twentieth of the cost of [`now`].
#[inline(always)]
pub(crate) fn jiffies() -> u32 {
    // SAFETY: no memory is passed.
    unsafe { bpf_jiffies64() as u32 }
}

#[inline(always)]
pub(crate) fn random() -> u32 {
    // SAFETY: no memory is passed.
    unsafe { bpf_get_prandom_u32() }
}

/// Counts a packet of a pod as it stands and returns the verdict.
#[inline(always)]
pub(crate) fn verdict(packet: &Packet, reason: Reason, verdict: i32) -> i32 {
    verdict_at(packet, ETHERNET, reason, verdict)
}

/// The same for a packet whose IP header stands at `l3`.
#[inline(always)]
pub(crate) fn verdict_at(packet: &Packet, l3: usize, reason: Reason, verdict: i32) -> i32 {
    maps::count(reason, 1, u64::from(packet.ip_len(l3)));
    verdict
}
