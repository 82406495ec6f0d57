//! One packet in the kernel: bounds-checked access, rewriting, verdicts.

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM, bpf_redir_neigh,
};
use aya_ebpf::helpers::{
    bpf_get_prandom_u32, bpf_get_socket_uid, bpf_ktime_get_ns, bpf_redirect_neigh, bpf_redirect_peer,
    bpf_skb_change_tail, bpf_skb_store_bytes,
};
use aya_ebpf::programs::TcContext;
use clovisor_common::abi::{Flow, Reason};
use clovisor_common::answer::Frame;
use clovisor_common::packet::{
    Address, Bytes, ECHO_ID, ETHERNET, ICMP_CHECKSUM, Segment, TCP, TCP_CHECKSUM, TCP_HEADER, UDP,
    UDP_CHECKSUM, checksum_after,
};

use crate::maps;

/// `TC_ACT_UNSPEC`: the next program, then the stack.
pub(crate) const PASS: i32 = -1;
/// `TC_ACT_SHOT`.
pub(crate) const DROP: i32 = 2;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

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

    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        self.skb().ifindex
    }

    /// IP bytes of the packet, with the offset of its IP header.
    #[inline(always)]
    pub(crate) fn ip_len(&self, l3: usize) -> u32 {
        self.ctx.len().wrapping_sub(l3 as u32)
    }

    /// Payload bytes of one packet on the wire when the kernel holds several as one, else 0.
    #[inline(always)]
    pub(crate) fn gso_size(&self) -> u32 {
        self.skb().gso_size
    }

    /// Packets and IP bytes that this packet is on the wire; `headers` = length of IP and TCP headers.
    #[inline(always)]
    pub(crate) fn on_wire(&self, l3: usize, headers: u32) -> (u64, u64) {
        let packets = self.skb().gso_segs.max(1);
        let extra = u64::from(packets - 1) * u64::from(headers);
        (u64::from(packets), u64::from(self.ip_len(l3)) + extra)
    }

    /// The EtherType, after making the headers readable behind an IP header at `l3`.
    #[inline(always)]
    pub(crate) fn ether(&mut self, l3: usize) -> u16 {
        // A short datagram is shorter than that.
        let headers = ((l3 + 40 + TCP_HEADER) as u32).min(self.ctx.len());
        if self.ctx.data() + headers as usize > self.ctx.data_end() {
            let _too_short = self.ctx.pull_data(headers);
        }
        self.skb().protocol as u16
    }

    #[inline(always)]
    fn at<T>(&self, at: usize) -> Option<*mut T> {
        let place = self.ctx.data() + at;
        (place + size_of::<T>() <= self.ctx.data_end()).then_some(place as *mut T)
    }

    #[inline(always)]
    fn load<T: Copy>(&self, at: usize) -> Option<T> {
        // SAFETY: in bounds by `at`; T is a plain integer or an array of them; this target loads unaligned words.
        self.at::<T>(at).map(|place| unsafe { *place })
    }

    #[inline(always)]
    fn view<T>(&mut self, at: usize) -> Option<&mut T> {
        // SAFETY: as in `load`, and the borrow ends before any helper moves the bytes.
        self.at::<T>(at).map(|place| unsafe { &mut *place })
    }

    #[inline(always)]
    pub(crate) fn socket_uid(&self) -> u32 {
        // SAFETY: the helper only reads the context.
        unsafe { bpf_get_socket_uid(self.ctx.skb.skb) }
    }

    /// Sets the TCP option field of two bytes at `at` and mends the checksum.
    #[inline(always)]
    pub(crate) fn set_half(&mut self, l4: usize, at: usize, old: u16, new: u16) -> Option<()> {
        let checksum = l4 + TCP_CHECKSUM;
        // An MSS may stand at an odd offset behind NOPs: then its bytes swap places in the sum.
        let (from, to) = if at % 2 == 0 { (old, new) } else { (old.swap_bytes(), new.swap_bytes()) };
        self.ctx.l4_csum_replace(checksum, u64::from(from), u64::from(to), 2).ok()?;
        self.ctx.store(l4 + at, &new, 0).ok()
    }

    /// Mends the transport's checksum for the flow's translation; the addresses are in the pseudo header.
    #[inline(always)]
    fn mend_checksum<A: Address>(&mut self, of: &Segment<A>, flow: &Flow<A>) -> Option<()> {
        let (at, flags) = match of.proto {
            TCP => (TCP_CHECKSUM, 0),
            // Zero stays zero: the sender made none.
            UDP => (UDP_CHECKSUM, u64::from(BPF_F_MARK_MANGLED_0)),
            _ => (ICMP_CHECKSUM, 0),
        };
        let checksum = of.l4() + at;
        let (addrs, ports) = (u64::from(flow.addr_delta), u64::from(flow.port_delta));
        if addrs != 0 && (of.proto == TCP || of.proto == UDP || A::ICMP_COVERS_ADDRESSES) {
            self.ctx.l4_csum_replace(checksum, 0, addrs, flags | u64::from(BPF_F_PSEUDO_HDR)).ok()?;
        }
        if ports != 0 {
            self.ctx.l4_csum_replace(checksum, 0, ports, flags).ok()?;
        }
        Some(())
    }

    /// Writes the flow's ports, or the identifier that stands for one.
    #[inline(always)]
    fn set_ports<A: Address>(&mut self, of: &Segment<A>, flow: &Flow<A>) -> Option<()> {
        if of.proto == TCP || of.proto == UDP {
            *self.view::<u32>(of.l4())? = ports_of(flow);
        } else {
            *self.view::<u16>(of.l4() + ECHO_ID)? = flow.sport_be | flow.dport_be;
        }
        Some(())
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
        self.load(at)
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

/// What differs between the families when a packet is rewritten and sent.
pub(crate) trait Wire: Sized {
    /// Writes the flow's tuple, the traffic class and the hop limit.
    fn rewrite(packet: &mut Packet, of: &Segment<Self>, flow: &Flow<Self>, tos: u8, hops: u8) -> Option<()>;
    /// Writes the traffic class alone.
    fn set_tos(packet: &mut Packet, of: &Segment<Self>, tos: u8) -> Option<()>;
    /// The verdict that sends the packet by an interface; `gateway` none = the destination is on the link.
    fn send(packet: &Packet, ifindex: u32, gateway: Self) -> i32;
}

impl Wire for [u8; 4] {
    #[inline(always)]
    fn rewrite(packet: &mut Packet, of: &Segment<Self>, flow: &Flow<Self>, tos: u8, hops: u8) -> Option<()> {
        packet.mend_checksum(of, flow)?;
        packet.set_ports(of, flow)?;
        let [first, _, third, saddr, daddr] = packet.view::<[u32; 5]>(of.l3)?;
        let [a, old_tos, c, d] = first.to_ne_bytes();
        let [old_hops, proto, s0, s1] = third.to_ne_bytes();
        let words = [[a, tos], [hops, proto]].map(u16::from_ne_bytes);
        let old = [[a, old_tos], [old_hops, proto]].map(|word| !u16::from_ne_bytes(word));
        let change = words.into_iter().chain(old).map(u32::from).sum::<u32>() + u32::from(flow.addr_delta);
        let [s0, s1] = checksum_after(u16::from_ne_bytes([s0, s1]), change).to_ne_bytes();
        *first = u32::from_ne_bytes([a, tos, c, d]);
        *third = u32::from_ne_bytes([hops, proto, s0, s1]);
        *saddr = u32::from_ne_bytes(flow.saddr);
        *daddr = u32::from_ne_bytes(flow.daddr);
        Some(())
    }

    #[inline(always)]
    fn set_tos(packet: &mut Packet, of: &Segment<Self>, tos: u8) -> Option<()> {
        let [first, _, third] = packet.view::<[u32; 3]>(of.l3)?;
        let [a, old_tos, c, d] = first.to_ne_bytes();
        let [hops, proto, s0, s1] = third.to_ne_bytes();
        let change = u32::from(u16::from_ne_bytes([a, tos])) + u32::from(!u16::from_ne_bytes([a, old_tos]));
        let [s0, s1] = checksum_after(u16::from_ne_bytes([s0, s1]), change).to_ne_bytes();
        *first = u32::from_ne_bytes([a, tos, c, d]);
        *third = u32::from_ne_bytes([hops, proto, s0, s1]);
        Some(())
    }

    #[inline(always)]
    fn send(_: &Packet, ifindex: u32, gateway: Self) -> i32 {
        let nexthop = u32::from_ne_bytes(gateway);
        neighbour(ifindex, AF_INET, [nexthop, 0, 0, 0])
    }
}

impl Wire for [u8; 16] {
    #[inline(always)]
    fn rewrite(packet: &mut Packet, of: &Segment<Self>, flow: &Flow<Self>, tos: u8, hops: u8) -> Option<()> {
        if flow.addr_delta != 0 || flow.port_delta != 0 {
            packet.mend_checksum(of, flow)?;
        }
        // With a hardware checksum over the packet the store takes back what the pseudo header change did to
        // it: IPv6 has no header checksum that would cancel the addresses.
        let addrs = [flow.saddr, flow.daddr];
        packet.ctx.store(of.l3 + 8, &addrs, u64::from(BPF_F_RECOMPUTE_CSUM)).ok()?;
        packet.set_ports(of, flow)?;
        let header = packet.view::<[u32; 2]>(of.l3)?;
        let [a, b, c, d] = header[0].to_ne_bytes();
        let [e, f, next, _] = header[1].to_ne_bytes();
        header[0] = u32::from_ne_bytes([a & 0xf0 | tos >> 4, tos << 4 | b & 0x0f, c, d]);
        header[1] = u32::from_ne_bytes([e, f, next, hops]);
        Some(())
    }

    #[inline(always)]
    fn set_tos(packet: &mut Packet, of: &Segment<Self>, tos: u8) -> Option<()> {
        let [header] = packet.view::<[u32; 1]>(of.l3)?;
        let [a, b, c, d] = header.to_ne_bytes();
        *header = u32::from_ne_bytes([a & 0xf0 | tos >> 4, tos << 4 | b & 0x0f, c, d]);
        Some(())
    }

    #[inline(always)]
    fn send(_: &Packet, ifindex: u32, gateway: Self) -> i32 {
        let words = gateway.as_chunks::<4>().0;
        let word = |i: usize| words.get(i).map_or(0, |w| u32::from_ne_bytes(*w));
        neighbour(ifindex, AF_INET6, [word(0), word(1), word(2), word(3)])
    }
}

#[inline(always)]
fn ports_of<A>(flow: &Flow<A>) -> u32 {
    let ([a, b], [c, d]) = (flow.sport_be.to_ne_bytes(), flow.dport_be.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

#[inline(always)]
fn neighbour(ifindex: u32, family: u32, nexthop: [u32; 4]) -> i32 {
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

#[inline(always)]
pub(crate) fn random() -> u32 {
    // SAFETY: no memory is passed.
    unsafe { bpf_get_prandom_u32() }
}

/// Counts the packet as it stands and returns the verdict.
#[inline(always)]
pub(crate) fn verdict(packet: &Packet, reason: Reason, verdict: i32) -> i32 {
    maps::count(reason, 1, u64::from(packet.ip_len(ETHERNET)));
    verdict
}
