//! Where a DestinationRule asks for TLS, no connection leaves in plain text.

use super::{MAPPED, REVIEWS, compiled, object, on_port, pod, problems};
use crate::model::{Service, Tls};

/// What becomes of the requests to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Plain,
    Mutual,
    /// Answered by the proxy itself.
    Closed,
}

fn fate(service: &Service) -> Fate {
    match (&service.closed, &service.tls) {
        (Some(_), _) => Fate::Closed,
        (None, Tls::Disable) => Fate::Plain,
        (None, Tls::IstioMutual { .. }) => Fate::Mutual,
    }
}

fn rule(name: &str, spec: &str) -> String {
    object("DestinationRule", name, "shop", &format!("{{host: reviews, {spec}}}"))
}

/// The ports 80 and 8080 under these objects; what is closed has a problem that names a rule.
#[track_caller]
fn fates(objects: &[String], expected: [Fate; 2]) {
    let compiled = compiled(&[MAPPED, REVIEWS, &objects.concat()]);
    let found = [80, 8080].map(|port| match on_port(&compiled, port)[..] {
        [service] => fate(service),
        _ => panic!("{objects:#?}: not one service on {port}"),
    });
    assert_eq!(found, expected, "{objects:#?}");
    let problems = problems(&compiled);
    assert_eq!(problems.is_empty(), !expected.contains(&Fate::Closed), "{problems:#?} of {objects:#?}");
    assert!(problems.iter().all(|p| p.starts_with("TlsNotSupported DestinationRule/")), "{problems:#?}");
}

#[test]
fn the_settings_of_a_port_replace_those_of_the_host() {
    use Fate::{Closed, Mutual, Plain};
    let policy = |policy: &str| rule("r", &format!("trafficPolicy: {policy}"));
    for (text, expected) in [
        ("{}", [Plain, Plain]),
        ("{tls: null}", [Plain, Plain]),
        ("{tls: {mode: DISABLE}}", [Plain, Plain]),
        ("{tls: {mode: ISTIO_MUTUAL}}", [Mutual, Mutual]),
        ("{portLevelSettings: [{port: {number: 8080}, tls: {mode: ISTIO_MUTUAL}}]}", [Plain, Mutual]),
        (
            "{tls: {mode: ISTIO_MUTUAL}, portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}",
            [Plain, Mutual],
        ),
        (
            "{tls: {mode: DISABLE}, portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}",
            [Closed, Plain],
        ),
        ("{tls: {mode: SIMPLE}}", [Closed, Closed]),
        ("{tls: {mode: MUTUAL, clientCertificate: /a}}", [Closed, Closed]),
        ("{tls: {mode: istio_mutual}}", [Closed, Closed]),
        ("{tls: {mode: 3}}", [Closed, Closed]),
        ("{tls: {caCertificates: /a}}", [Closed, Closed]),
        ("{tls: yes}", [Closed, Closed]),
        // Settings of a port inherit nothing: whether TLS is meant there is not known.
        (
            "{tls: {mode: ISTIO_MUTUAL}, portLevelSettings: [{port: {number: 80}, connectionPool: {}}]}",
            [Closed, Mutual],
        ),
    ] {
        fates(&[policy(text)], expected);
    }
}

#[test]
fn the_server_name_of_a_port_is_its_own() {
    let text = "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}, portLevelSettings: \
                [{port: {number: 80}, tls: {mode: ISTIO_MUTUAL, sni: edge}}]}";
    let compiled = compiled(&[MAPPED, REVIEWS, &rule("r", text)]);
    let sni = |port| match &on_port(&compiled, port)[0].tls {
        Tls::IstioMutual { sni } => sni.clone(),
        Tls::Disable => panic!("plain text"),
    };
    assert_eq!(sni(80), "edge");
    assert_eq!(sni(8080), "outbound_.8080_._.reviews.shop.svc.cluster.local");
}

/// Istio merges rules of one host: subsets come together, and one traffic policy holds.
#[test]
fn merged_rules_lose_no_tls() {
    use Fate::{Closed, Mutual, Plain};
    let tls = |mode: &str| format!("trafficPolicy: {{tls: {{mode: {mode}}}}}");
    let subsets = "subsets: [{name: v1, labels: {version: v1}}]";
    for names in [["a", "b"], ["b", "a"]] {
        let [one, other] = names;
        fates(&[rule(one, &tls("ISTIO_MUTUAL")), rule(other, subsets)], [Mutual; 2]);
        fates(&[rule(one, &tls("ISTIO_MUTUAL")), rule(other, &tls("ISTIO_MUTUAL"))], [Mutual; 2]);
        fates(&[rule(one, &tls("DISABLE")), rule(other, subsets)], [Plain; 2]);
        // Which of two holds is a question of their age.
        fates(&[rule(one, &tls("ISTIO_MUTUAL")), rule(other, &tls("DISABLE"))], [Closed; 2]);
        fates(
            &[rule(one, &tls("ISTIO_MUTUAL")), rule(other, "trafficPolicy: {connectionPool: {}}")],
            [Closed; 2],
        );
    }
}

/// The nearest rule holds; where it says nothing about TLS, one that does is not passed over.
#[test]
fn rules_of_other_namespaces_and_wider_hosts() {
    use Fate::{Closed, Mutual, Plain};
    let of = |namespace: &str, host: &str, policy: &str| {
        object("DestinationRule", "x", namespace, &format!("{{host: {host:?}, trafficPolicy: {policy}}}"))
    };
    let mutual = "{tls: {mode: ISTIO_MUTUAL}}";
    fates(&[of("istio-system", "*.local", mutual)], [Mutual; 2]);
    fates(
        &[of("istio-system", "*.local", mutual), rule("r", "trafficPolicy: {tls: {mode: DISABLE}}")],
        [Plain; 2],
    );
    fates(&[of("istio-system", "*.local", mutual), rule("r", "trafficPolicy: {}")], [Closed; 2]);
    fates(&[of("shop", "*.local", mutual), rule("r", "subsets: []")], [Closed; 2]);
    // Nobody's business here.
    fates(&[of("bank", "reviews.shop.svc.cluster.local", mutual)], [Plain; 2]);
    let hidden = object(
        "DestinationRule",
        "x",
        "istio-system",
        &format!("{{host: '*.local', exportTo: ['.'], trafficPolicy: {mutual}}}"),
    );
    fates(&[hidden], [Plain; 2]);
}

#[test]
fn subsets_that_ask_for_tls_are_not_served_without() {
    use Fate::{Closed, Mutual, Plain};
    let subset = |mode: &str| format!("subsets: [{{name: v1, trafficPolicy: {{tls: {{mode: {mode}}}}}}}]");
    fates(&[rule("r", &subset("ISTIO_MUTUAL"))], [Closed; 2]);
    fates(&[rule("r", &subset("DISABLE"))], [Plain; 2]);
    fates(
        &[rule("r", &format!("trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL}}}}, {}", subset("SIMPLE")))],
        [Mutual; 2],
    );
    let port = "subsets: [{name: v1, trafficPolicy: {portLevelSettings: \
                [{port: {number: 80}, tls: {mode: MUTUAL}}]}}]";
    fates(&[rule("r", port)], [Closed, Plain]);
}

/// The proxies of a namespace share their files: a rule for some of its pods is one for all, or for none.
#[test]
fn selectors_hold_for_all_pods_or_close_the_host() {
    use Fate::{Closed, Mutual, Plain};
    let selecting =
        "workloadSelector: {matchLabels: {app: till}}, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}";
    let selecting = rule("s", selecting);
    let plain = rule("a", "trafficPolicy: {tls: {mode: DISABLE}}");
    let (till, desk) = (pod("till", "{app: till}"), pod("desk", "{app: desk}"));
    fates(&[selecting.clone(), till.clone()], [Mutual; 2]);
    fates(&[selecting.clone(), plain.clone(), till.clone()], [Mutual; 2]);
    fates(&[selecting.clone(), plain.clone(), desk.clone()], [Plain; 2]);
    fates(&[selecting.clone(), desk.clone()], [Plain; 2]);
    fates(&[selecting.clone(), plain.clone(), till.clone(), desk.clone()], [Closed; 2]);
    fates(&[selecting.clone(), till, desk], [Closed; 2]);
    // Its pods may come at any time.
    fates(&[selecting, plain], [Closed; 2]);
}

/// A host whose routes are refused passes as the client sent it, but not where TLS is asked for.
#[test]
fn a_host_with_tls_is_closed_when_its_routes_are_refused() {
    let refused = REVIEWS.replace("{name: all, ", "{name: all, fault: {}, ");
    let mutual = rule("r", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}");
    let with = compiled(&[MAPPED, &refused, &mutual]);
    assert_eq!(on_port(&with, 80).iter().map(|s| fate(s)).collect::<Vec<_>>(), [Fate::Closed]);
    assert!(problems(&with).contains(&"InvalidRule VirtualService/shop/reviews".to_owned()));
    let without = compiled(&[MAPPED, &refused]);
    assert!(on_port(&without, 80).is_empty());
    let subset = rule(
        "r",
        "trafficPolicy: {tls: {mode: DISABLE}}, subsets: [{name: v1, trafficPolicy: {tls: {mode: SIMPLE}}}]",
    );
    let to_subset = REVIEWS.replace("{host: reviews}", "{host: reviews, subset: v1}");
    let with = compiled(&[MAPPED, &to_subset, &subset]);
    assert_eq!(on_port(&with, 80).iter().map(|s| fate(s)).collect::<Vec<_>>(), [Fate::Closed]);
}

/// So is one whose endpoints managed proxies cannot have.
#[test]
fn a_host_with_tls_is_closed_when_its_endpoints_are_not_served() {
    let dns = REVIEWS.replace("resolution: STATIC", "resolution: DNS");
    let mutual = rule("r", "trafficPolicy: {tls: {mode: SIMPLE}}");
    let with = compiled(&[MAPPED, &dns, &mutual]);
    assert_eq!(on_port(&with, 80).iter().map(|s| fate(s)).collect::<Vec<_>>(), [Fate::Closed]);
    assert!(on_port(&compiled(&[MAPPED, &dns]), 80).is_empty());
}
