//! ServiceEntries that managed proxies cannot serve.

use super::{MAPPED, REVIEWS, compiled, object, on_port, problems};

/// The cause is in the entry's own problem and in that of the mapping; no cluster without endpoints is made.
#[test]
fn endpoints_that_are_not_addresses_are_refused_by_their_cause() {
    let endpoints = "endpoints: [{address: 203.0.113.10}]";
    for (old, new, cause) in [
        ("STATIC", "DNS", "spec.resolution: resolution DNS"),
        ("STATIC", "DNS_ROUND_ROBIN", "spec.resolution: resolution DNS_ROUND_ROBIN"),
        ("STATIC", "NONE", "spec.resolution: resolution NONE"),
        ("  resolution: STATIC\n", "", "spec.resolution: resolution NONE"),
        (
            "203.0.113.10",
            "edge.example.com",
            "spec.endpoints[0].address: \"edge.example.com\" is no IP address",
        ),
        ("203.0.113.10", "unix:///run/s", "spec.endpoints[0].address: \"unix:///run/s\""),
        (endpoints, "workloadSelector: {labels: {app: reviews}}", "spec.workloadSelector: pods"),
        (endpoints, "endpoints: []", "spec.endpoints: is empty"),
        ("  endpoints: [{address: 203.0.113.10}]\n", "", "spec.endpoints: is empty"),
    ] {
        let text = REVIEWS.replace(old, new);
        assert_ne!(text, REVIEWS, "{old}");
        let compiled = compiled(&[MAPPED, &text]);
        assert_eq!(
            problems(&compiled),
            ["RuleNotEffective ServiceEntry/shop/reviews", "RuleNotEffective WanMapping/shop/m"],
            "{new}"
        );
        let [entry, mapping] = &compiled.problems[..] else { unreachable!() };
        assert!(format!("{}: {}", entry.field, entry.message).starts_with(cause), "{entry:#?}");
        assert!(
            mapping.message.contains(&entry.message) && mapping.message.contains("shop/reviews"),
            "{mapping:#?}"
        );
        assert!(on_port(&compiled, 80).is_empty(), "{new}");
    }
}

/// What nobody maps passes as before, and a check of the folder does not fail for it.
#[test]
fn an_entry_that_nobody_maps_is_a_note() {
    let other = |namespace: &str, spec: &str| object("ServiceEntry", "other", namespace, spec);
    let port = "ports: [{number: 443, name: http, protocol: HTTP}]";
    for spec in [
        format!("{{hosts: [api.example.com], resolution: DNS, {port}}}"),
        format!("{{hosts: ['*.example.com'], {port}}}"),
        format!(
            "{{hosts: [api.example.com], resolution: STATIC, {port}, endpoints: [{{address: a.example.com}}]}}"
        ),
        format!(
            "{{hosts: [api.example.com], resolution: STATIC, {port}, workloadSelector: {{labels: {{}}}}}}"
        ),
        format!("{{hosts: [api.example.com], addresses: [10.0.0.0/8], resolution: STATIC, {port}}}"),
    ] {
        for namespace in ["shop", "bank"] {
            let compiled = compiled(&[MAPPED, REVIEWS, &other(namespace, &spec)]);
            assert_eq!(problems(&compiled), [""; 0], "{spec}");
            assert_eq!(compiled.notes.len(), 1, "{spec}");
            assert_eq!(on_port(&compiled, 80).len(), 1, "{spec}");
        }
    }
}

/// The destination of a mapped route is about the mapping too.
#[test]
fn an_entry_that_a_mapped_route_goes_to_is_a_problem() {
    let to = "{hosts: [api.example.com], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}";
    let routed = REVIEWS.replace("{host: reviews}", "{host: api.example.com}");
    let compiled = compiled(&[MAPPED, &routed, &object("ServiceEntry", "api", "shop", to)]);
    let expected = ["InvalidRule VirtualService/shop/reviews", "RuleNotEffective ServiceEntry/shop/api"];
    assert_eq!(problems(&compiled), expected);
}

#[test]
fn a_port_in_which_no_requests_are_seen_is_named() {
    for (protocol, cause) in [("TLS", "speaks TLS"), ("''", "does not say what it speaks")] {
        let text = REVIEWS.replace("name: http, protocol: HTTP", &format!("name: web, protocol: {protocol}"));
        let text = text.replace(", {number: 8080, name: http-alt, protocol: HTTP}", "");
        let compiled = compiled(&[MAPPED, &text]);
        assert_eq!(problems(&compiled), ["EncryptedBeforeProxy WanMapping/shop/m"]);
        assert!(compiled.problems[0].message.contains(cause), "{:#?}", compiled.problems);
    }
}
