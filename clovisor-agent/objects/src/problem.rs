//! Problems: parts of objects that are not in force, with the remedy.

use super::identity::{Identity, ObjectKey, ObjectKind};
use super::reason::ProblemReason;
use super::refusal::{FieldPath, Refusal};
use std::cmp::Ordering;

/// What has a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Object(Identity),
    /// An object without a name, by its file.
    Unnamed(ObjectKind, String),
    /// All objects of a kind.
    AllOf(ObjectKind),
    /// A file: of the folder of objects, or one that the agent writes.
    File(String),
    /// A part of the node's agent.
    Node(&'static str),
}

impl Subject {
    /// An object by kind and key.
    #[must_use]
    pub fn object(kind: ObjectKind, key: &ObjectKey) -> Self {
        Self::Object(Identity { kind, key: key.clone() })
    }

    /// The subject's kind as text: that of the object, or `File`, `Node`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Object(identity) => identity.kind.name(),
            Self::AllOf(kind) | Self::Unnamed(kind, _) => kind.name(),
            Self::File(_) => "File",
            Self::Node(_) => "Node",
        }
    }

    /// The subject's name as text: `NAMESPACE/NAME` of an object, the path of a file.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Object(identity) => identity.key.to_string(),
            Self::AllOf(_) => "(all)".to_owned(),
            Self::File(name) | Self::Unnamed(_, name) => name.clone(),
            Self::Node(part) => (*part).to_owned(),
        }
    }
}

impl Ord for Subject {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.kind(), self.name()).cmp(&(other.kind(), other.name()))
    }
}

impl PartialOrd for Subject {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Something that is not in force, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub reason: ProblemReason,
    pub subject: Subject,
    pub field: FieldPath,
    /// What is wrong and what to do, as one sentence in lower case.
    pub message: String,
}

impl Problem {
    /// The problem that a refusal is for its subject.
    #[must_use]
    pub fn new(subject: Subject, refusal: Refusal) -> Self {
        let Refusal { reason, field, message } = refusal;
        Self { reason, subject, field, message }
    }

    /// A problem of the subject as a whole.
    #[must_use]
    pub fn whole(reason: ProblemReason, subject: Subject, message: impl Into<String>) -> Self {
        Self::new(subject, Refusal::new(reason, "", message))
    }
}
