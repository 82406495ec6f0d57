//! Compiled rules of a mapping: decisions that a route cannot express.

use super::class::ClassId;
use super::matcher::{Pattern, Request};
use clovisor_objects::refusal::{FieldPath, Refusal};
use clovisor_objects::wan_mapping::{MappingRule, ValueMatch};
use clovisor_objects::words::Words;
use std::collections::BTreeSet;

/// One compiled rule: all conditions must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: String,
    pub class: ClassId,
    /// Lower-case name and condition.
    headers: Vec<(String, Value)>,
    path: Option<Value>,
    methods: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Exact(String),
    Prefix(String),
    Regex(Pattern),
    In(Words),
}

/// The result of a rule for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleVerdict {
    Matches,
    /// The first condition that failed.
    Fails(String),
    /// The header that the rule needs comes several times, or is not text: no exact answer exists.
    Undecidable(String),
}

impl Rule {
    /// Compiles one rule.
    ///
    /// # Errors
    /// A condition makes no sense; the field is relative to the rule.
    pub fn compile(rule: &MappingRule, class: ClassId) -> Result<Self, Refusal> {
        let mut headers = Vec::new();
        for (i, header) in rule.headers.iter().enumerate() {
            let value = value(&header.value())
                .map_err(|e| Refusal::invalid_rule(FieldPath::from("headers").index(i), e))?;
            headers.push((header.name.to_ascii_lowercase(), value));
        }
        let path = rule.path.as_ref().map(value).transpose().map_err(|e| Refusal::invalid_rule("path", e))?;
        if headers.is_empty() && path.is_none() && rule.methods.is_empty() {
            let message = "has no condition; use the mapping's own links for all requests";
            return Err(Refusal::invalid_rule("", message));
        }
        Ok(Self { name: rule.name.clone(), class, headers, path, methods: rule.methods.clone() })
    }

    /// The headers that the rule looks at, lower case.
    #[must_use]
    pub fn header_names(&self) -> BTreeSet<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Does the request match?
    #[must_use]
    pub fn evaluate(&self, request: &Request<'_>) -> RuleVerdict {
        if !self.methods.is_empty() && !self.methods.iter().any(|m| m == request.method) {
            return RuleVerdict::Fails(format!("method is not one of {}", self.methods.join(", ")));
        }
        if let Some(condition) = self.path.as_ref().filter(|c| !c.matches(request.route_path())) {
            return RuleVerdict::Fails(format!("path {} does not match", condition.describe()));
        }
        for (name, condition) in &self.headers {
            let mut values = request.values(name);
            let (first, second) = (values.next(), values.next());
            match first.map(std::str::from_utf8) {
                _ if second.is_some() => return RuleVerdict::Undecidable(name.clone()),
                Some(Err(_)) => return RuleVerdict::Undecidable(name.clone()),
                Some(Ok(text)) if condition.matches(text.trim()) => {}
                Some(Ok(_)) | None => {
                    return RuleVerdict::Fails(format!(
                        "header {name} {} does not match",
                        condition.describe()
                    ));
                }
            }
        }
        RuleVerdict::Matches
    }
}

impl Value {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(want) => text == want,
            Self::Prefix(want) => text.starts_with(want),
            Self::Regex(pattern) => pattern.matches(text.as_bytes()),
            Self::In(set) => set.contains(text),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Exact(want) => format!("= {want:?}"),
            Self::Prefix(want) => format!("starts with {want:?}"),
            Self::Regex(pattern) => format!("matches /{}/", pattern.source()),
            Self::In(set) => format!("in a set of {}", set.len()),
        }
    }
}

fn value(source: &ValueMatch) -> Result<Value, String> {
    match source {
        ValueMatch { exact: Some(text), prefix: None, regex: None, one_of } if one_of.is_empty() => {
            Ok(Value::Exact(text.clone()))
        }
        ValueMatch { exact: None, prefix: Some(text), regex: None, one_of } if one_of.is_empty() => {
            Ok(Value::Prefix(text.clone()))
        }
        ValueMatch { exact: None, prefix: None, regex: Some(text), one_of } if one_of.is_empty() => {
            Pattern::new(text).map(Value::Regex)
        }
        ValueMatch { exact: None, prefix: None, regex: None, one_of } if !one_of.is_empty() => {
            Ok(Value::In(one_of.clone()))
        }
        _ => Err("set exactly one of exact, prefix, regex, in".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clovisor_objects::wan_mapping::HeaderRule;

    fn rule(value: ValueMatch) -> Result<Rule, Refusal> {
        let ValueMatch { exact, prefix, regex, one_of } = value;
        let header = HeaderRule { name: "User".into(), exact, prefix, regex, one_of };
        let rule = MappingRule {
            name: "r".into(),
            headers: vec![header],
            path: None,
            methods: Vec::new(),
            links: Vec::new(),
        };
        Rule::compile(&rule, ClassId(1))
    }

    fn evaluate(rule: &Rule, headers: &[(&str, &[u8])]) -> RuleVerdict {
        rule.evaluate(&Request { method: "GET", authority: "a", path: "/", headers })
    }

    #[test]
    fn a_set_of_ten_thousand_is_one_lookup() {
        let one_of = (0..10_000).map(|n| format!("user-{n}")).collect();
        let set = rule(ValueMatch { one_of, ..ValueMatch::default() });
        let verdicts =
            set.map(|r| (evaluate(&r, &[("user", b"user-9999")]), evaluate(&r, &[("user", b"user-10000")])));
        assert!(matches!(verdicts, Ok((RuleVerdict::Matches, RuleVerdict::Fails(_)))));
    }

    #[test]
    fn what_cannot_be_decided_exactly_is_not_guessed() {
        let exact = ValueMatch { exact: Some("boss".into()), ..ValueMatch::default() };
        let Ok(rule) = rule(exact) else { panic!("does not compile") };
        assert_eq!(evaluate(&rule, &[("user", b"boss")]), RuleVerdict::Matches);
        let repeated: &[(&str, &[u8])] = &[("user", b"boss"), ("user", b"x")];
        assert_eq!(evaluate(&rule, repeated), RuleVerdict::Undecidable("user".into()));
        assert_eq!(evaluate(&rule, &[("user", b"\xff")]), RuleVerdict::Undecidable("user".into()));
        assert!(matches!(evaluate(&rule, &[]), RuleVerdict::Fails(_)));
    }

    #[test]
    fn a_condition_says_exactly_one_thing() {
        assert!(rule(ValueMatch::default()).is_err());
        let two = ValueMatch { exact: Some("a".into()), prefix: Some("b".into()), ..ValueMatch::default() };
        assert!(rule(two).is_err());
        let bad = ValueMatch { regex: Some("(".into()), ..ValueMatch::default() };
        assert_eq!(rule(bad).err().map(|refusal| refusal.field), Some("headers[0]".into()));
    }
}
