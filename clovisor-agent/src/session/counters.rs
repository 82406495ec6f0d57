//! Answers counted by reason.

use std::sync::atomic::{AtomicU64, Ordering};

/// Reason of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerReason {
    /// A rule of the mapping matched.
    Rule,
    /// No rule matched: the mapping's own class, or the default route.
    NoRule,
    /// A header that a rule needs came more than once or is no text: not decided on.
    UnclearHeader,
    /// The policy has no such mapping (any longer): the route's own behaviour without the agent.
    UnknownMapping,
    /// More headers or bytes than the agent looks at: the same.
    TooLarge,
    /// A message of another phase than the request's headers: go on.
    OtherPhase,
    /// The stream has no metadata, or a message is no ext_proc: the stream is closed.
    Malformed,
    /// Nothing came for too long: the stream is closed.
    Idle,
}

impl AnswerReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 8] = [
        Self::Rule,
        Self::NoRule,
        Self::UnclearHeader,
        Self::UnknownMapping,
        Self::TooLarge,
        Self::OtherPhase,
        Self::Malformed,
        Self::Idle,
    ];

    /// Name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::NoRule => "no_rule",
            Self::UnclearHeader => "unclear_header",
            Self::UnknownMapping => "unknown_mapping",
            Self::TooLarge => "too_large",
            Self::OtherPhase => "other_phase",
            Self::Malformed => "malformed",
            Self::Idle => "idle",
        }
    }
}

/// Counters of answers since the start of the process.
#[derive(Debug, Default)]
pub struct AnswerCounters {
    counts: [AtomicU64; AnswerReason::ALL.len()],
}

impl AnswerCounters {
    /// Counts one answer.
    pub fn count(&self, reason: AnswerReason) {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Names and counts, in a fixed order.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        AnswerReason::ALL.iter().map(|reason| reason.name()).zip(counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter() {
        let counters = AnswerCounters::default();
        for (times, reason) in AnswerReason::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| counters.count(reason));
        }
        let expected = AnswerReason::ALL.iter().map(|reason| reason.name()).zip(0..);
        assert_eq!(counters.counts(), expected.collect::<Vec<_>>());
    }
}
