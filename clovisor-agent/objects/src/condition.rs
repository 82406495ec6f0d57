//! Conditions of a status, with the time of their last transition.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Characters of a message that the API server takes.
const MAX_MESSAGE: usize = 32_768;

/// A condition before it is compared with the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCondition {
    /// `Ready`, `Accepted`, …
    pub kind: &'static str,
    /// None: unknown.
    pub status: Option<bool>,
    /// One word in CamelCase.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

impl NewCondition {
    /// A condition.
    #[must_use]
    pub fn new(kind: &'static str, status: Option<bool>, reason: &str, message: impl Into<String>) -> Self {
        Self { kind, status, reason: reason.to_owned(), message: message.into() }
    }
}

/// The conditions now. A condition whose status stays keeps the time of its last transition.
#[must_use]
pub fn conditions(
    before: &[Condition],
    new: &[NewCondition],
    generation: Option<i64>,
    now: jiff::Timestamp,
) -> Vec<Condition> {
    let one = |condition: &NewCondition| {
        let status = match condition.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let old = before.iter().find(|c| c.type_ == condition.kind && c.status == status);
        Condition {
            type_: condition.kind.into(),
            status: status.into(),
            reason: condition.reason.clone(),
            message: condition.message.chars().take(MAX_MESSAGE).collect(),
            observed_generation: generation,
            last_transition_time: old.map_or(Time(now), |c| c.last_transition_time.clone()),
        }
    };
    new.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_that_of_the_last_transition() {
        let at = |second| jiff::Timestamp::from_second(second).unwrap_or_default();
        let said = |holds, message: &str| [NewCondition::new("Ready", holds, "Why", message)];
        let first = conditions(&[], &said(Some(false), "a"), Some(1), at(1));
        let second = conditions(&first, &said(Some(false), "b"), Some(2), at(2));
        assert_eq!(
            second.iter().map(|c| (c.last_transition_time.0, c.message.as_str())).collect::<Vec<_>>(),
            [(at(1), "b")]
        );
        let third = conditions(&second, &said(None, "b"), None, at(3));
        assert_eq!(
            third.iter().map(|c| (c.last_transition_time.0, c.status.as_str())).collect::<Vec<_>>(),
            [(at(3), "Unknown")]
        );
    }
}
