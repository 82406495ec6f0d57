//! Programs for comparison: some only redirect, as the baseline of `cargo xtask bench`; some count packets, as other
//! programs on the same hook in tests.
//!
//! **In**: every packet of a device, one map entry. **Out**: the packet on another device. **Never**: part of the agent.
#![allow(unsafe_code, reason = "map values and packets are raw pointers")]
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::helpers::{bpf_redirect_neigh, bpf_redirect_peer};
    use aya_ebpf::macros::{classifier, map};
    use aya_ebpf::maps::{Array, HashMap};
    use aya_ebpf::programs::TcContext;

    const PASS: i32 = -1;
    const AF_INET: u32 = 2;
    const IPV4_BE: u32 = 0x0800_u16.to_be() as u32;

    /// Interface of the uplink, its next hop (IPv4, as in a packet), interface of the pod.
    #[map]
    static WAY: Array<[u32; 3]> = Array::with_max_entries(1, 0);

    /// An empty program: the cost of a test run.
    #[classifier]
    pub(crate) fn empty(_: TcContext) -> i32 {
        PASS
    }

    /// One flow.
    #[map]
    static FLOWS: HashMap<[u32; 6], u64> = HashMap::with_max_entries(65_536, 0);

    /// The lower bound of steering by flow: one lookup by the tuple, one redirection.
    #[classifier]
    pub(crate) fn floor(ctx: TcContext) -> i32 {
        let start = ctx.data();
        if start + 38 > ctx.data_end() {
            return PASS;
        }
        // SAFETY: in bounds, checked above; this target loads unaligned words.
        let [saddr, daddr, ports] = unsafe { *((start + 26) as *const [u32; 3]) };
        let Some(uplink) = FLOWS.get_ptr([saddr, daddr, ports, 1, 6, 0]) else {
            return PASS;
        };
        let mut params = [AF_INET, daddr, 0, 0, 0];
        // SAFETY: the entry lives as long as the map; the layout is that of `bpf_redir_neigh`, whose length is given.
        unsafe { bpf_redirect_neigh(*uplink as u32, params.as_mut_ptr().cast(), 20, 0) as i32 }
    }

    /// Packets that [`count_pod`], [`count_in`] and [`count_out`] saw.
    #[map]
    static SEEN: Array<u64> = Array::with_max_entries(3, 0);

    fn count(index: u32) -> i32 {
        if let Some(seen) = SEEN.get_ptr_mut(index) {
            // SAFETY: the entry lives as long as the map; tests tolerate a count that two CPUs lose.
            unsafe { *seen += 1 };
        }
        PASS
    }

    #[classifier]
    pub(crate) fn count_pod(_: TcContext) -> i32 {
        count(0)
    }

    #[classifier]
    pub(crate) fn count_in(_: TcContext) -> i32 {
        count(1)
    }

    #[classifier]
    pub(crate) fn count_out(_: TcContext) -> i32 {
        count(2)
    }

    /// Every IPv4 packet of a pod to the uplink.
    #[classifier]
    pub(crate) fn bare_out(ctx: TcContext) -> i32 {
        // SAFETY: the context is valid for the whole run.
        let protocol = unsafe { (*ctx.skb.skb).protocol };
        let Some([uplink, gateway, _]) = WAY.get(0).filter(|_| protocol == IPV4_BE) else {
            return PASS;
        };
        let mut params = [AF_INET, *gateway, 0, 0, 0];
        // SAFETY: the layout of `bpf_redir_neigh`, whose length is given.
        unsafe { bpf_redirect_neigh(*uplink, params.as_mut_ptr().cast(), 20, 0) as i32 }
    }

    /// Every IPv4 packet of an uplink to the pod.
    #[classifier]
    pub(crate) fn bare_in(ctx: TcContext) -> i32 {
        // SAFETY: the context is valid for the whole run.
        let protocol = unsafe { (*ctx.skb.skb).protocol };
        let Some([_, _, pod]) = WAY.get(0).filter(|_| protocol == IPV4_BE) else {
            return PASS;
        };
        // SAFETY: no memory is passed.
        unsafe { bpf_redirect_peer(*pod, 0) as i32 }
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
