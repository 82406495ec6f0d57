//! Numbers and names of classes.

use std::fmt;

/// Number of a class inside its namespace, 1..=16. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId(pub u8);

/// What a class stands for: a mapping, or one rule of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassName {
    pub mapping: String,
    pub rule: Option<String>,
}

impl fmt::Display for ClassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            None => f.write_str(&self.mapping),
            Some(rule) => write!(f, "{}/{rule}", self.mapping),
        }
    }
}
