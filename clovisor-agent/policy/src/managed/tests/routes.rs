//! Entries of VirtualServices that hold for some ports, gateways or clients only.

use super::{MAPPED, REVIEWS, compiled, object, on_port, pod, problems};
use crate::allocation::Allocation;
use crate::compile::{Proxies, Purpose, compile};
use crate::explain::explain;
use crate::matcher::Request;
use crate::model::{RouteDecision, Service};
use clovisor_objects::document::read_all;
use clovisor_objects::identity::ObjectKey;
use std::collections::BTreeMap;

/// The remote service, and a VirtualService with these entries.
fn with_http(http: &str) -> String {
    let (entry, _) = REVIEWS.split_once("kind: VirtualService").unwrap_or_default();
    format!(
        "{entry}kind: VirtualService\nmetadata: {{name: reviews, namespace: shop}}\nspec: {{hosts: [reviews], http: [{http}]}}\n"
    )
}

const TO: &str = "route: [{destination: {host: reviews}}]";

/// The names of a service's routes; `mapped` ones have a class.
fn routes(services: &[&Service]) -> Vec<(String, bool)> {
    let routes = services.iter().flat_map(|service| &service.routes);
    let one = |route: &crate::model::Route| {
        (route.name.clone().unwrap_or_else(|| "default".into()), route.decision != RouteDecision::Unmapped)
    };
    routes.map(one).collect()
}

/// istio/istio#49516: where nothing of the list holds, the service is as without a VirtualService.
#[test]
fn a_port_without_a_route_of_its_own_keeps_the_default_route() {
    let only_80 = with_http(&format!("{{name: a, match: [{{port: 80}}], {TO}}}"));
    let compiled = compiled(&[MAPPED, &only_80]);
    assert_eq!(problems(&compiled), [""; 0]);
    assert_eq!(routes(&on_port(&compiled, 80)), [("a".into(), true)]);
    assert_eq!(routes(&on_port(&compiled, 8080)), [("default".into(), false)]);
}

/// So are clients of other namespaces and with other labels; and where some route holds, requests that none takes get
/// 404 as in Istio.
#[test]
fn clients_without_a_route_keep_the_default_route() {
    for condition in ["sourceNamespace: bank", "gateways: [edge]"] {
        let none = with_http(&format!("{{name: a, match: [{{{condition}}}], {TO}}}"));
        let compiled = compiled(&[MAPPED, &none]);
        assert_eq!(problems(&compiled), ["RuleNotEffective WanMapping/shop/m"], "{condition}");
        assert_eq!(routes(&on_port(&compiled, 80)), [("default".into(), false)], "{condition}");
    }
    let labels = with_http(&format!("{{name: a, match: [{{sourceLabels: {{app: till}}}}], {TO}}}"));
    let compiled = compiled(&[MAPPED, &labels, &pod("till", "{app: till}")]);
    let asked = Request { method: "GET", authority: "reviews", path: "/", headers: &[] };
    let key = ObjectKey { namespace: "shop".into(), name: "till".into() };
    let class = |app: &str| {
        let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
        let trace = explain(&compiled.policy, &key, &labels, &asked);
        (trace.class.is_some(), trace.routes.len())
    };
    assert_eq!((class("till"), class("desk")), ((true, 1), (false, 1)));
}

#[test]
fn a_route_that_is_never_taken_is_no_route_of_a_mapping() {
    let section =
        |name: &str| MAPPED.replace("name: reviews}", &format!("name: reviews, sectionName: {name}}}"));
    let all = with_http(&format!(
        "{{name: early, match: [{{uri: {{prefix: /}}}}], {TO}}}, {{name: late, {TO}}}, \
         {{name: edge, match: [{{gateways: [edge]}}], {TO}}}"
    ));
    assert_eq!(problems(&compiled(&[&section("early"), &all])), [""; 0]);
    assert_eq!(problems(&compiled(&[MAPPED, &all])), [""; 0]);
    for name in ["late", "edge"] {
        let compiled = compiled(&[&section(name), &all]);
        assert_eq!(problems(&compiled), ["RuleNotEffective WanMapping/shop/m"], "{name}");
        assert_eq!(routes(&on_port(&compiled, 80)), [("early".into(), false)]);
    }
}

/// Entries for gateways are none that a name has to tell from others.
#[test]
fn names_are_needed_only_between_routes_of_the_mesh() {
    let one = with_http(&format!(
        "{{match: [{{gateways: [egress]}}], route: [{{destination: {{host: x}}}}]}}, {{{TO}}}"
    ));
    let two = with_http(&format!(
        "{{match: [{{uri: {{prefix: /a}}}}], timeout: 1s, route: [{{destination: {{host: x}}}}]}}, {{{TO}}}"
    ));
    let other = object(
        "ServiceEntry",
        "x",
        "shop",
        "{hosts: [x.shop.svc.cluster.local], resolution: STATIC, \
        ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 203.0.113.11}]}",
    );
    let of = |proxies, text: &str| {
        let snapshot = read_all("a.yaml", &[MAPPED, text, &other].concat());
        problems(&compile(&snapshot, &Allocation::default(), 1, Purpose { proxies, ..Purpose::default() }).0)
    };
    assert_eq!(of(Proxies::Managed, &one), [""; 0]);
    assert_eq!(of(Proxies::Sidecars, &one), [""; 0]);
    assert_eq!(of(Proxies::Sidecars, &two), ["RouteUnnamed WanMapping/shop/m"]);
    let named = with_http(&format!("{{match: [{{gateways: [egress]}}], {TO}}}, {{name: rest, {TO}}}"));
    let section = MAPPED.replace("name: reviews}", "name: reviews, sectionName: nope}");
    let snapshot = read_all("a.yaml", &[&section, named.as_str()].concat());
    let (compiled, _) = compile(&snapshot, &Allocation::default(), 1, Purpose::default());
    assert_eq!(problems(&compiled), ["RuleNotEffective WanMapping/shop/m"]);
}

/// Connections in which the proxy sees no requests cannot be told apart by routes.
#[test]
fn a_virtual_service_of_tls_or_tcp_routes_is_no_target() {
    for (http, cause) in [
        (
            "tls: [{match: [{port: 443, sniHosts: [a]}], route: [{destination: {host: reviews}}]}]",
            "tls routes only",
        ),
        ("tcp: [{route: [{destination: {host: reviews}}]}]", "tcp routes only"),
        ("tls: [{}], tcp: [{}]", "tls and tcp routes only"),
    ] {
        let text = with_http("").replace("http: []", http);
        for section in ["", ", sectionName: a"] {
            let mapped = MAPPED.replace("name: reviews}", &format!("name: reviews{section}}}"));
            for proxies in [Proxies::Managed, Proxies::Sidecars] {
                let snapshot = read_all("a.yaml", &[mapped.as_str(), &text].concat());
                let purpose = Purpose { proxies, ..Purpose::default() };
                let (compiled, _) = compile(&snapshot, &Allocation::default(), 1, purpose);
                assert_eq!(problems(&compiled), ["EncryptedBeforeProxy WanMapping/shop/m"], "{http}");
                assert!(compiled.problems[0].message.contains(cause), "{:#?}", compiled.problems);
            }
        }
    }
    let empty = compiled(&[MAPPED, &with_http("")]);
    assert_eq!(problems(&empty), ["RuleNotEffective WanMapping/shop/m"]);
}

/// The cause is the user's own word.
#[test]
fn objects_for_gateways_only_are_named_as_such() {
    let gateways =
        REVIEWS.replace("hosts: [reviews]\n", "hosts: [reviews]\n  gateways: [edge, infra/west]\n");
    let compiled = compiled(&[MAPPED, &gateways]);
    assert_eq!(problems(&compiled), ["RuleNotEffective WanMapping/shop/m"]);
    assert!(
        compiled.problems[0].message.contains("gateways only ([edge, infra/west])"),
        "{:#?}",
        compiled.problems
    );
}
