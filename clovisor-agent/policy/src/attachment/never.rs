//! Conditions of a mapping's rules that no request meets.

use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::{FieldPath, Refusal};
use clovisor_objects::wan_mapping::{MappingRule, ValueMatch, WanMappingSpec};

/// One refusal for each.
pub(super) fn refusals(spec: &WanMappingSpec) -> Vec<Refusal> {
    let rules = spec.rules.iter().enumerate();
    rules.flat_map(|(i, rule)| of_rule(rule, &FieldPath::from("spec.rules").index(i))).collect()
}

fn of_rule(rule: &MappingRule, at: &FieldPath) -> Vec<Refusal> {
    let mut refused = Vec::new();
    let mut never = |field: FieldPath, message: String| {
        refused.push(Refusal::new(ProblemReason::NoEffect, field, message));
    };
    for (i, method) in rule.methods.iter().enumerate() {
        let upper = method.to_ascii_uppercase();
        if *method != upper {
            never(
                at.clone().field("methods").index(i),
                format!("no request has the method {method:?}: case counts; write {upper}"),
            );
        }
    }
    for (i, header) in rule.headers.iter().enumerate() {
        if !is_token(&header.name) {
            never(
                at.clone().field("headers").index(i).field("name"),
                format!("{:?} is no name of a header, so that no request has it; correct it", header.name),
            );
        }
    }
    if let Some(text) = rule.path.as_ref().and_then(impossible_path) {
        never(at.clone().field("path"), format!("no path begins like {text:?}: write it with its first /"));
    }
    refused
}

/// A path that can be no request's; an empty prefix is every path's.
fn impossible_path(path: &ValueMatch) -> Option<&str> {
    let whole = path.exact.iter().map(String::as_str).chain(path.one_of.iter()).filter(|text| *text != "*");
    let parts = path.prefix.iter().map(String::as_str).filter(|text| !text.is_empty());
    whole.chain(parts).find(|text| !text.starts_with('/'))
}

/// RFC 9110, 5.6.2; and a pseudo-header, which the agent sees too.
fn is_token(name: &str) -> bool {
    let name = name.strip_prefix(':').unwrap_or(name);
    let is_sign = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(is_sign)
}
