//! Why a part of an object is refused.

use super::reason::ProblemReason;
use std::fmt;

/// Path of a field, e.g. `spec.rules[3].headers[0].regex`, or `line 12, column 3` in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldPath(String);

impl FieldPath {
    /// The path as text; empty: the whole object.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A field below this one.
    #[must_use]
    pub fn field(self, name: impl fmt::Display) -> Self {
        Self::from(name.to_string()).under(&self)
    }

    /// An element of this list.
    #[must_use]
    pub fn index(self, index: usize) -> Self {
        self.key(index)
    }

    /// An entry of this map.
    #[must_use]
    pub fn key(self, key: impl fmt::Display) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The same path below `parent`.
    #[must_use]
    pub fn under(self, parent: &Self) -> Self {
        let dot = if parent.0.is_empty() || self.0.is_empty() || self.0.starts_with('[') { "" } else { "." };
        Self(format!("{}{dot}{}", parent.0, self.0))
    }
}

impl From<&str> for FieldPath {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for FieldPath {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A part of an object that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: ProblemReason,
    pub field: FieldPath,
    /// What is wrong and what to do, as one sentence in lower case.
    pub message: String,
}

impl Refusal {
    /// A refusal of `field`.
    #[must_use]
    pub fn new(reason: ProblemReason, field: impl Into<FieldPath>, message: impl Into<String>) -> Self {
        Self { reason, field: field.into(), message: message.into() }
    }

    /// A field that is not understood.
    #[must_use]
    pub fn invalid_object(field: impl Into<FieldPath>, message: impl Into<String>) -> Self {
        Self::new(ProblemReason::InvalidObject, field, message)
    }

    /// A field that contradicts itself or asks for an unsupported feature.
    #[must_use]
    pub fn invalid_rule(field: impl Into<FieldPath>, message: impl Into<String>) -> Self {
        Self::new(ProblemReason::InvalidRule, field, message)
    }

    /// The same refusal, with its field below `parent`.
    #[must_use]
    pub fn under(self, parent: &FieldPath) -> Self {
        Self { field: self.field.under(parent), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_with_dots_but_not_before_an_index() {
        let rule = FieldPath::from("spec.rules").index(3);
        assert_eq!(
            FieldPath::from("headers").key("user").under(&rule).as_str(),
            "spec.rules[3].headers[user]"
        );
        assert_eq!(FieldPath::default().under(&rule).as_str(), "spec.rules[3]");
        assert_eq!(
            FieldPath::from("[0].name").under(&FieldPath::from("spec.http")).as_str(),
            "spec.http[0].name"
        );
        assert_eq!(rule.field("path").as_str(), "spec.rules[3].path");
    }
}
