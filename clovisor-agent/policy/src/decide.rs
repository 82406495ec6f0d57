//! The class of one request that the proxy asks the agent about.

use super::class::ClassId;
use super::matcher::Request;
use super::model::Mapping;
use super::rule::RuleVerdict;

/// Class of a request, and how the decision came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// None: the default route.
    pub class: Option<ClassId>,
    pub reason: DecisionReason<'a>,
    /// The rules before the one that decides, in order.
    pub passed_over: Vec<PassedOver<'a>>,
}

/// A rule that does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver<'a> {
    /// Name of the rule.
    pub rule: &'a str,
    /// The condition that fails.
    pub reason: String,
}

/// How a decision came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecisionReason<'a> {
    /// The rule of this name matches.
    Rule(&'a str),
    /// No rule matches: the mapping's own links apply.
    NoRuleMatches,
    /// A header that the rule needs is repeated or not text: the mapping's own links apply.
    Undecidable { rule: &'a str, header: String },
}

/// The first rule of the mapping that matches decides, else the mapping's own class.
#[must_use]
pub fn decide<'a>(mapping: &'a Mapping, request: &Request<'_>) -> Decision<'a> {
    let mut passed_over = Vec::new();
    for rule in &mapping.rules {
        match rule.evaluate(request) {
            RuleVerdict::Matches => {
                let (class, reason) = (Some(rule.class), DecisionReason::Rule(&rule.name));
                return Decision { class, reason, passed_over };
            }
            RuleVerdict::Undecidable(header) => {
                let reason = DecisionReason::Undecidable { rule: &rule.name, header };
                return Decision { class: mapping.class, reason, passed_over };
            }
            RuleVerdict::Fails(reason) => passed_over.push(PassedOver { rule: &rule.name, reason }),
        }
    }
    Decision { class: mapping.class, reason: DecisionReason::NoRuleMatches, passed_over }
}
