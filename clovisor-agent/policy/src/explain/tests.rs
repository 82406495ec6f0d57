use super::*;
use crate::class::ClassId;
use crate::model::{Destination, Protocol, Tls};
use crate::rule::{Rule, RuleVerdict};
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::wan_mapping::{Fallback, HeaderRule, MappingRule, ValueMatch};
use proptest::prelude::*;
use std::sync::Arc;

fn rule(number: u8, methods: &[String], headers: &[(String, String)], path: Option<&String>) -> Option<Rule> {
    let header = |(name, value): &(String, String)| HeaderRule {
        name: name.clone(),
        exact: Some(value.clone()),
        prefix: None,
        regex: None,
        one_of: Default::default(),
    };
    let source = MappingRule {
        name: format!("r{number}"),
        headers: headers.iter().map(header).collect(),
        path: path.map(|prefix| ValueMatch { prefix: Some(prefix.clone()), ..ValueMatch::default() }),
        methods: methods.to_vec(),
        links: Vec::new(),
    };
    Rule::compile(&source, ClassId(number)).ok()
}

/// Mappings with up to five rules over few names and values, so that requests meet each outcome.
fn mappings() -> impl Strategy<Value = Mapping> {
    let methods = prop::collection::vec("GET|PUT", 0..2);
    let headers = prop::collection::vec(("[ab]", "[xy]"), 0..3);
    let rules = prop::collection::vec((methods, headers, prop::option::of("/[ab]")), 0..6);
    (rules, prop::option::of(Just(ClassId(16)))).prop_map(|(sources, class)| {
        let rules = (1..)
            .zip(&sources)
            .filter_map(|(number, (methods, headers, path))| rule(number, methods, headers, path.as_ref()));
        Mapping { name: "m".into(), class, on_agent_loss: Fallback::Default, rules: rules.collect() }
    })
}

fn policy_of(mapping: Mapping) -> Policy {
    let route = Route {
        name: None,
        origin: None,
        matches: Vec::new(),
        destination: Destination { host: "a".into(), port: 80 },
        timeout: None,
        retries: None,
        decision: mapping.decision(),
    };
    let service = Service {
        host: "a".into(),
        port: 80,
        aliases: Vec::new(),
        addresses: Vec::new(),
        endpoints: Vec::new(),
        protocol: Protocol::Http1,
        tls: Tls::Disable,
        closed: None,
        routes: vec![route],
    };
    let mappings = [(mapping.name.clone(), Arc::new(mapping))].into();
    let namespace = NamespacePolicy { mappings, services: vec![service], ..NamespacePolicy::default() };
    Policy { namespaces: [("shop".to_owned(), namespace)].into(), ..Policy::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// What `explain` prints of a request is what the callout answers to it.
    #[test]
    fn the_printed_decision_is_the_one_that_is_made(
        mapping in mappings(),
        method in "GET|PUT",
        path in "/[ab]",
        headers in prop::collection::vec(("[ab]", "[xy]|\u{ff}"), 0..4),
    ) {
        let bytes = |value: &String| if value == "\u{ff}" { vec![0xff] } else { value.as_bytes().to_vec() };
        let values: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), bytes(value))).collect();
        let headers: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        let request = Request { method: &method, authority: "a", path: &path, headers: &headers };
        let made = decide(&mapping, &request);

        let pod = ObjectKey { namespace: "shop".into(), name: "client".into() };
        let printed = explain(&policy_of(mapping.clone()), &pod, &BTreeMap::new(), &request);
        prop_assert_eq!(printed.class, made.class);
        let taken: Vec<_> = printed.rules.iter().filter(|step| step.taken).map(|step| step.name.as_str()).collect();
        let decisive = match made.reason {
            DecisionReason::Rule(rule) => vec![rule],
            DecisionReason::NoRuleMatches | DecisionReason::Undecidable { .. } => Vec::new(),
        };
        prop_assert_eq!(taken, decisive);
        let looked_at = made.passed_over.len() + usize::from(made.reason != DecisionReason::NoRuleMatches);
        prop_assert_eq!(printed.rules.len(), looked_at);
        // The first rule that matches, by the rules alone.
        let first = mapping.rules.iter().map(|rule| (rule, rule.evaluate(&request)));
        let first = first.into_iter().find(|(_, verdict)| !matches!(verdict, RuleVerdict::Fails(_)));
        let class = match first {
            Some((rule, RuleVerdict::Matches)) => Some(rule.class),
            _ => mapping.class,
        };
        prop_assert_eq!(printed.class, class);
    }
}
