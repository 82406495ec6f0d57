//! The class of one request, for the callout.

use super::class::ClassId;
use super::matcher::Request;
use super::model::{Mapping, NamespacePolicy};
use super::rule::Verdict;

/// Class of a request and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// None: the default route.
    pub class: Option<ClassId>,
    pub reason: DecisionReason,
}

/// How a decision came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecisionReason {
    /// The rule of this name matched.
    Rule(String),
    /// None matched: the mapping's own links.
    NoRuleMatched,
    /// The proxy asked for a mapping that is gone: the default route.
    UnknownMapping,
    /// A header that a rule needs is repeated or not text: the mapping's own links.
    Undecidable(String),
}

impl DecisionReason {
    /// Label in metrics and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Rule(_) => "rule",
            Self::NoRuleMatched => "no_rule_matched",
            Self::UnknownMapping => "unknown_mapping",
            Self::Undecidable(_) => "undecidable",
        }
    }
}

/// The first rule of `mapping` that matches decides, else the mapping's own class.
#[must_use]
pub fn decide(own: &NamespacePolicy, mapping: &str, request: &Request<'_>) -> Decision {
    own.mappings
        .get(mapping)
        .map_or(Decision { class: None, reason: DecisionReason::UnknownMapping }, |mapping| {
            by_rules(mapping, request)
        })
}

fn by_rules(mapping: &Mapping, request: &Request<'_>) -> Decision {
    for rule in &mapping.rules {
        match rule.judge(request) {
            Verdict::Matches => {
                return Decision { class: Some(rule.class), reason: DecisionReason::Rule(rule.name.clone()) };
            }
            Verdict::Undecidable(header) => {
                return Decision { class: mapping.class, reason: DecisionReason::Undecidable(header) };
            }
            Verdict::Fails(_) => {}
        }
    }
    Decision { class: mapping.class, reason: DecisionReason::NoRuleMatched }
}
