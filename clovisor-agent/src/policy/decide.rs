//! Provisional, until the policy module has its own.
use super::model::{ClassId, NamespacePolicy};
pub struct Request<'a> {
    pub method: &'a str,
    pub authority: &'a str,
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a [u8])],
}
pub enum DecisionReason {
    Rule(String),
    NoRuleMatched,
    UnknownMapping,
    RepeatedHeader(String),
    NotUtf8,
}
pub struct Decision {
    pub class: Option<ClassId>,
    pub reason: DecisionReason,
}
pub fn decide(own: &NamespacePolicy, mapping: &str, request: &Request<'_>) -> Decision {
    let m = own.mappings.get(mapping);
    for rule in m.iter().flat_map(|m| &m.rules) {
        if request
            .headers
            .iter()
            .any(|(n, v)| *n == "user" && *v == rule.name.as_bytes())
        {
            return Decision {
                class: Some(rule.class),
                reason: DecisionReason::Rule(rule.name.clone()),
            };
        }
    }
    Decision {
        class: m.and_then(|m| m.class),
        reason: DecisionReason::NoRuleMatched,
    }
}
