//! Which lines are held back.

use std::collections::HashMap;
use std::time::{Duration, Instant};
use tracing::Level;

/// Between two lines about one thing.
pub(super) const SECOND: Duration = Duration::from_secs(1);
/// Things that are remembered before those whose second is over are forgotten.
const MANY: usize = 1024;

/// A line that was held back, the last one of its thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) level: Level,
    pub(super) message: String,
    pub(super) fields: String,
    /// Lines that were held back, this one included.
    pub(super) count: u32,
}

/// What was told when, by thing.
#[derive(Debug, Default)]
pub(super) struct RateLimiter {
    things: HashMap<String, Thing>,
}

#[derive(Debug)]
struct Thing {
    /// When the next line may be told.
    next: Instant,
    held: Option<Line>,
}

impl RateLimiter {
    /// May the line be told now? If not it is kept, in place of the one before.
    pub(super) fn admit(&mut self, key: String, line: Line, now: Instant) -> bool {
        if self.things.len() >= MANY {
            self.things.retain(|_, thing| thing.held.is_some() || thing.next > now);
        }
        let thing = self.things.entry(key).or_insert(Thing { next: now, held: None });
        // What is held back comes first.
        if thing.next <= now && thing.held.is_none() {
            thing.next = now + SECOND;
            return true;
        }
        let count = thing.held.as_ref().map_or(0, |held| held.count) + 1;
        thing.held = Some(Line { count, ..line });
        false
    }

    /// The lines whose second is over.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Line> {
        let over = self.things.values_mut().filter(|thing| thing.next <= now);
        let mut due = Vec::new();
        for thing in over {
            if let Some(line) = thing.held.take() {
                thing.next = now + SECOND;
                due.push(line);
            }
        }
        due
    }

    /// Nothing is held back.
    pub(super) fn is_empty(&self) -> bool {
        self.things.values().all(|thing| thing.held.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str) -> Line {
        Line { level: Level::INFO, message: message.into(), fields: String::new(), count: 0 }
    }

    #[test]
    fn one_line_a_second_and_the_last_state_is_told() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limiter = RateLimiter::default();
        let mut told = Vec::new();
        // 15 flaps, one each 300 ms, looked after each 200 ms.
        for ms in (0..6000).step_by(100) {
            if ms % 300 == 0 && ms < 4500 {
                let message = if ms % 600 == 0 { "down" } else { "up" };
                if limiter.admit("s9".into(), line(message), at(ms)) {
                    told.push((ms, message.to_owned(), 0));
                }
            }
            told.extend(limiter.due(at(ms)).into_iter().map(|line| (ms, line.message, line.count)));
        }
        assert!(told.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 1000), "{told:?}");
        assert_eq!(told.len(), 6, "{told:?}");
        let count: u32 = told.iter().map(|(_, _, count)| if *count == 0 { 1 } else { *count }).sum();
        assert_eq!(count, 15, "none is lost without being counted");
        assert_eq!(told.last().map(|(_, message, _)| message.as_str()), Some("down"), "flap 15");
        assert!(limiter.is_empty());
    }

    #[test]
    fn things_do_not_hold_each_other_back() {
        let (now, mut limiter) = (Instant::now(), RateLimiter::default());
        assert!(
            limiter.admit("s8".into(), line("down"), now) && limiter.admit("s9".into(), line("down"), now)
        );
        assert!(!limiter.admit("s8".into(), line("up"), now));
        assert!(limiter.admit("s9".into(), line("up"), now + SECOND));
    }

    #[test]
    fn things_are_forgotten() {
        let (now, mut limiter) = (Instant::now(), RateLimiter::default());
        for n in 0..MANY {
            assert!(limiter.admit(n.to_string(), line("x"), now));
        }
        assert!(limiter.admit("another".into(), line("x"), now + SECOND));
        assert_eq!(limiter.things.len(), 1);
    }
}
