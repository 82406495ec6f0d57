//! When the next write of a status may happen.

use std::time::Duration;
use tokio::time::Instant;

/// After a write that failed.
const RETRY: Duration = Duration::from_secs(10);
/// Between two looks at state that has no channel, and the time in which changes are collected.
const LOOK: Duration = Duration::from_secs(1);

/// Limits writes to one in `interval`.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    started: Instant,
    earliest: Instant,
    has_written: bool,
    /// Text of the last failure; none after a success.
    failure: Option<String>,
}

impl Pace {
    /// The first write may happen now.
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, started: now, earliest: now, has_written: false, failure: None }
    }

    /// Whether to write now. The first write starts the pace: while the agent is `starting`, it waits until there is
    /// something to report, for one interval at most.
    pub(super) fn is_due(&mut self, now: Instant, starting: bool) -> bool {
        if starting && !self.has_written && now < self.started + self.interval {
            self.earliest = now + LOOK;
        }
        now >= self.earliest
    }

    /// A write changed the status.
    pub(super) fn written(&mut self, now: Instant) {
        self.has_written = true;
        self.earliest = now + self.interval;
        self.failure = None;
    }

    /// A write failed; true if the text differs from that of the last failure.
    pub(super) fn failed(&mut self, now: Instant, error: &str) -> bool {
        self.earliest = now + RETRY;
        self.failure.replace(error.to_owned()).is_none_or(|before| before != error)
    }

    /// When to look again without a change; none: never. `is_ready`: readiness has no channel of its own.
    pub(super) fn wake(&self, now: Instant, is_ready: bool) -> Option<Instant> {
        let wake = if is_ready { self.earliest } else { self.earliest.max(now + LOOK) };
        (wake > now).then_some(wake)
    }

    /// Something changed since `last`, the time of the last look. Changes seldom come alone (a new link is down until
    /// its gateway has answered): those of a second are written together.
    pub(super) fn changed(&mut self, last: Instant, now: Instant) {
        if self.earliest <= last {
            self.earliest = now + LOOK.min(self.interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_write_waits_for_the_start_and_the_next_ones_for_the_interval() {
        let now = Instant::now();
        let seconds = |s| now + Duration::from_secs(s);
        let mut pace = Pace::new(Duration::from_secs(30), now);
        assert!(!pace.is_due(now, true));
        assert!(pace.is_due(seconds(30), true));
        pace.written(seconds(30));
        assert!(!pace.is_due(seconds(59), true));
        assert!(pace.is_due(seconds(60), true));
        assert_eq!(pace.wake(seconds(60), true), None);
        pace.changed(seconds(60), seconds(70));
        assert!(!pace.is_due(seconds(70), false) && pace.is_due(seconds(71), false));
    }

    #[test]
    fn a_failure_is_reported_once_and_tried_again() {
        let now = Instant::now();
        let mut pace = Pace::new(Duration::from_secs(30), now);
        assert!(pace.failed(now, "away") && !pace.failed(now, "away") && pace.failed(now, "forbidden"));
        assert!(!pace.is_due(now, false) && pace.is_due(now + RETRY, false));
    }
}
