//! Expiry of flows: pure rules over both entries.

use clovisor_common::abi::{FLOW_MARK, FLOW_NAT, FlowState};
use clovisor_common::packet::{ACK, FIN, RST, TCP, UDP};
use std::time::Duration;

/// After a RST in either direction.
const AFTER_RESET: Duration = Duration::from_secs(2);
/// After a FIN in both directions: as long as a far end that closed first keeps the tuple (Linux: `TCP_TIMEWAIT_LEN`, 60 s, and as much as
/// 5 s more by the granularity of its timers), so that no other connection gets the source port meanwhile.
const AFTER_CLOSE: Duration = Duration::from_secs(70);
/// After a FIN in one direction, whose other side keeps silent (RFC 5382, REQ-5: at least four minutes).
const AFTER_HALF_CLOSE: Duration = Duration::from_secs(600);
/// First packet without any answer.
const UNANSWERED: Duration = Duration::from_secs(30);
/// Datagrams: one direction only, and both; echoes.
const ONE_WAY: Duration = Duration::from_secs(60);
const BOTH_WAYS: Duration = Duration::from_secs(180);
const ECHO: Duration = Duration::from_secs(30);
/// One half only, left by an interrupted write.
const ORPHAN: Duration = Duration::from_secs(5);
/// Nothing in either direction; a keep-alive counts.
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// Silence after which the pod's socket is probed, again and again; a probe of an idle connection costs two packets without
/// data.
const SILENCE: Duration = Duration::from_secs(3600);

/// A probe became due between the sweeps at `before_ns` and at `now_ns` (CLOCK_MONOTONIC).
#[must_use]
pub fn silent(forward: &FlowState, reverse: &FlowState, before_ns: u64, now_ns: u64) -> bool {
    let heard = forward.last_seen_ns.max(reverse.last_seen_ns);
    let silences = |now_ns: u64| u128::from(now_ns.saturating_sub(heard)) / SILENCE.as_nanos();
    let open = forward.tcp_flags & reverse.tcp_flags & ACK != 0
        && (forward.tcp_flags | reverse.tcp_flags) & (FIN | RST) == 0;
    open && silences(now_ns) > silences(before_ns)
}

/// Either side has ended the connection. Its entries stay a little longer, for packets in flight.
#[must_use]
pub fn ended(forward: &FlowState, reverse: Option<&FlowState>) -> bool {
    let back = reverse.map_or(0, |state| state.tcp_flags);
    (forward.tcp_flags | back) & RST != 0 || has_closed(forward, back)
}

/// A FIN of both sides; of the pod alone where the stack translates, since the far end's passes nowhere here.
const fn has_closed(forward: &FlowState, back: u8) -> bool {
    const UNSEEN: u16 = FLOW_MARK | FLOW_NAT;
    forward.tcp_flags & FIN != 0 && (back & FIN != 0 || forward.flags & UNSEEN == UNSEEN)
}

/// The flow has expired at `now_ns` (CLOCK_MONOTONIC). One entry may be missing.
#[must_use]
pub fn expired(proto: u8, forward: Option<&FlowState>, reverse: Option<&FlowState>, now_ns: u64) -> bool {
    let quiet = |state: &FlowState| Duration::from_nanos(now_ns.saturating_sub(state.last_seen_ns));
    let (Some(out), Some(back)) = (forward, reverse) else {
        return forward.or(reverse).is_some_and(|half| quiet(half) >= ORPHAN);
    };
    let limit = if proto == UDP {
        if back.packets == 0 { ONE_WAY } else { BOTH_WAYS }
    } else if proto != TCP {
        ECHO
    } else if (out.tcp_flags | back.tcp_flags) & RST != 0 {
        AFTER_RESET
    } else if has_closed(out, back.tcp_flags) {
        AFTER_CLOSE
    } else if back.packets == 0 {
        UNANSWERED
    } else if (out.tcp_flags | back.tcp_flags) & FIN != 0 {
        AFTER_HALF_CLOSE
    } else {
        IDLE
    };
    quiet(out).min(quiet(back)) >= limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use clovisor_common::packet::{ACK, SYN};

    fn state(tcp_flags: u8, packets: u64, seen_s: u64) -> FlowState {
        FlowState {
            created_ns: 0,
            last_seen_ns: seen_s * 1_000_000_000,
            packets,
            bytes: 0,
            veth: 1,
            slot: 0,
            link: 0,
            class: 1,
            zone: 1,
            flags: 0,
            tcp_flags,
            pad: [0; 3],
            jiffies: 0,
            ack_be: 0,
        }
    }

    #[test]
    fn flows_end_by_what_was_seen() {
        let open = SYN | ACK;
        let fin = open | FIN;
        // protocol, forward, reverse, last second alive, first second over
        let rows = [
            (UDP, Some(state(0, 9, 100)), Some(state(0, 0, 100)), 159, 160),
            (UDP, Some(state(0, 9, 100)), Some(state(0, 9, 101)), 280, 281),
            (1, Some(state(0, 9, 100)), Some(state(0, 9, 100)), 129, 130),
            (TCP, Some(state(open, 9, 100)), Some(state(open, 9, 100)), 100 + 86_399, 100 + 86_400),
            (TCP, Some(state(fin, 9, 100)), Some(state(fin, 9, 101)), 170, 171),
            (TCP, Some(state(fin, 9, 100)), Some(state(open, 9, 100)), 699, 700),
            (TCP, Some(state(open, 9, 100)), Some(state(fin, 9, 150)), 749, 750),
            (TCP, Some(state(open, 9, 100)), Some(state(RST, 9, 100)), 101, 102),
            (TCP, Some(state(SYN, 1, 100)), Some(state(0, 0, 100)), 129, 130),
            (TCP, Some(state(open, 9, 100)), None, 104, 105),
            (TCP, None, Some(state(open, 9, 100)), 104, 105),
        ];
        for (row, (proto, out, back, alive, over)) in rows.iter().enumerate() {
            let at = |s: u64| expired(*proto, out.as_ref(), back.as_ref(), s * 1_000_000_000);
            assert!(!at(*alive), "row {row} is over too early");
            assert!(at(*over), "row {row} is over too late");
        }
    }

    #[test]
    fn a_silent_connection_is_asked_once_an_hour() {
        const HOUR: u64 = 3600 * 1_000_000_000;
        let at = |last_seen_ns| FlowState { last_seen_ns, ..state(SYN | ACK, 9, 0) };
        let asked = |before, now| silent(&at(5), &at(9), before, now);
        assert!(!asked(HOUR, HOUR + 8) && asked(HOUR + 8, HOUR + 9) && !asked(HOUR + 9, 2 * HOUR));
        assert!(asked(2 * HOUR, 2 * HOUR + 9), "not again");
        assert!(!asked(0, 8), "an entry of the future");
        for flags in [ACK | FIN, ACK | RST, 0] {
            let other = FlowState { tcp_flags: flags, ..at(9) };
            let both = [silent(&other, &at(9), HOUR, 2 * HOUR), silent(&at(9), &other, HOUR, 2 * HOUR)];
            assert_eq!(both, [false, false], "{flags}");
        }
    }

    #[test]
    fn where_the_far_end_is_not_seen_the_pod_alone_closes() {
        let back = state(ACK, 1, 0);
        for (flags, closes) in [(FLOW_NAT, false), (FLOW_MARK, false), (FLOW_MARK | FLOW_NAT, true)] {
            let out = FlowState { flags, ..state(SYN | ACK | FIN, 3, 0) };
            assert_eq!(ended(&out, Some(&back)), closes, "{flags}");
            let at = |seconds: u64| expired(TCP, Some(&out), Some(&back), seconds * 1_000_000_000);
            assert_eq!((at(69), at(71), at(601)), (false, closes, true), "{flags}");
            let open = FlowState { flags, ..state(SYN | ACK, 3, 0) };
            assert!(!ended(&open, Some(&back)), "{flags}");
        }
    }

    #[test]
    fn a_clock_behind_the_entry_ends_nothing() {
        let young = state(RST, 1, 100);
        assert!(!expired(TCP, Some(&young), Some(&young), 0));
    }
}
