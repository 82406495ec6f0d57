//! Exchanges of datagrams that the node's stack carries: the map `EXCHANGES`.

use super::FlowKey;

/// Key of `EXCHANGES`: the pod's own tuple, as in a forward entry.
pub type ExchangeKey = FlowKey<[u8; 16]>;

/// Value of `EXCHANGES`, an LRU: an exchange with a destination that `TRAFFIC` gives a class. TCP tells by its flags who
/// dialled; datagrams do not.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// `bpf_ktime_get_ns` (CLOCK_MONOTONIC) at the last datagram, of either direction; to a second.
    pub last_seen_ns: u64,
    /// 1: the pod sent the first datagram; 0: the other side did.
    pub by_pod: u32,
    pub pad: u32,
}

/// An exchange is over after this silence, as for the node's own memory of it (`nf_conntrack_udp_timeout_stream`).
pub const EXCHANGE_NS: u64 = 180_000_000_000;

/// See [`Exchange::is_noted`].
const NOTED_NS: u64 = 1_000_000_000;

impl Exchange {
    /// The exchange with one more datagram: one of a new exchange if the last was over.
    #[inline(always)]
    #[must_use]
    pub const fn after(last: Option<Self>, by_pod: bool, now_ns: u64) -> Self {
        let by_pod = match last {
            Some(last) if !last.is_over(now_ns) => last.by_pod,
            _ => by_pod as u32,
        };
        Self { last_seen_ns: now_ns, by_pod, pad: 0 }
    }

    /// A datagram was noted within the last second: that is as exact as it need be.
    #[inline(always)]
    #[must_use]
    pub const fn is_noted(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.last_seen_ns) < NOTED_NS
    }

    /// The other side began, so that the pod's datagrams are answers.
    #[inline(always)]
    #[must_use]
    pub const fn began_outside(&self, now_ns: u64) -> bool {
        self.by_pod == 0 && !self.is_over(now_ns)
    }

    /// No datagram came for [`EXCHANGE_NS`].
    #[inline(always)]
    #[must_use]
    pub const fn is_over(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.last_seen_ns) >= EXCHANGE_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_began_counts_until_the_exchange_is_over() {
        for by_pod in [false, true] {
            let began = Exchange::after(None, by_pod, 5);
            assert_eq!(began.began_outside(5), !by_pod);
            let answered = Exchange::after(Some(began), !by_pod, 4 + EXCHANGE_NS);
            assert_eq!(answered.began_outside(4 + EXCHANGE_NS), !by_pod, "within the time");
            assert_eq!(answered.last_seen_ns, 4 + EXCHANGE_NS);
            let over = answered.last_seen_ns + EXCHANGE_NS;
            assert!(!answered.began_outside(over), "over");
            assert_eq!(Exchange::after(Some(answered), !by_pod, over).began_outside(over), by_pod);
        }
        let noted = Exchange::after(None, true, 7);
        assert!(noted.is_noted(6 + NOTED_NS) && !noted.is_noted(7 + NOTED_NS));
        // Another CPU's clock may be a little behind.
        assert!(Exchange::after(None, false, 9).began_outside(8));
    }
}
