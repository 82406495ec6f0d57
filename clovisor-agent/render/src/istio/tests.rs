//! What is written for small meshes: the shapes are those that a real control plane and proxies were seen to take.

use super::*;
use clovisor_objects::folder::read_once;
use clovisor_policy::allocation::{Allocation, Numbering};
use clovisor_policy::compile::{Proxies, Purpose, compile};
use proptest::prelude::*;
use serde_json::{Value, json};

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {ports: [{name: http, port: 8000}]}
---
apiVersion: clovisor.io/v1alpha1
kind: WanLink
metadata: {name: s9}
spec: {device: s9}
";

fn object(version: &str, kind: &str, key: &str, spec: &str) -> String {
    let (namespace, name) = key.split_once('/').unwrap_or(("shop", key));
    format!(
        "---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

fn vs(http: &str) -> String {
    object(
        "networking.istio.io/v1",
        "VirtualService",
        "reviews",
        &format!("{{hosts: [reviews], http: [{http}]}}"),
    )
}

fn dr(key: &str, spec: &str) -> String {
    object("networking.istio.io/v1", "DestinationRule", key, spec)
}

fn mapping(name: &str, section: &str, rest: &str) -> String {
    let target = "group: networking.istio.io, kind: VirtualService, name: reviews";
    let spec = format!("{{targetRefs: [{{{target}{section}}}], {rest}}}");
    object("clovisor.io/v1alpha1", "WanMapping", name, &spec)
}

fn minions(rest: &str) -> String {
    mapping("minions", ", sectionName: minions", &format!("links: [s9]{rest}"))
}

const MINIONS: &str =
    "{name: minions, match: [{headers: {user: {exact: minions}}}], route: [{destination: {host: reviews}}]}";
const REST: &str = "{name: rest, route: [{destination: {host: reviews}}]}";

fn plain() -> String {
    vs(&format!("{MINIONS}, {REST}"))
}

fn rendered(parts: &[String]) -> (Vec<Value>, Vec<(&'static str, String)>) {
    let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    std::fs::write(dir.path().join("a.yaml"), format!("{SERVICE}{}", parts.concat()))
        .unwrap_or_else(|e| panic!("{e}"));
    let snapshot = read_once(dir.path()).unwrap_or_else(|e| panic!("{e}"));
    let purpose = Purpose { proxies: Proxies::Sidecars, numbering: Numbering::Controller, local: false };
    let (compiled, _) = compile(&snapshot, &Allocation::default(), 1, purpose);
    let problems = compiled.problems.iter().map(|p| (p.reason.name(), p.subject.name())).collect();
    let objects = objects(&snapshot, &compiled.sidecars, &IstioConfig::default());
    (objects.iter().map(IstioObject::document).collect(), problems)
}

/// The documents of a mesh without problems.
fn documents(parts: &[String]) -> Vec<Value> {
    let (documents, problems) = rendered(parts);
    assert_eq!(problems, [], "{documents:#?}");
    documents
}

fn of_kind(documents: &[Value], kind: &str) -> Vec<Value> {
    documents.iter().filter(|d| d["kind"] == kind).cloned().collect()
}

#[test]
fn a_route_with_one_destination() {
    insta::assert_yaml_snapshot!("plain", documents(&[plain(), minions("")]));
    let refuse = documents(&[plain(), minions(", onLinksDown: Refuse")]);
    insta::assert_yaml_snapshot!("refuse", of_kind(&refuse, "EnvoyFilter"));
}

#[test]
fn weights_subsets_and_their_policies_are_kept() {
    let http = "{name: minions, match: [{headers: {user: {exact: minions}}}], route: [\
        {destination: {host: reviews, subset: v1}, weight: 80, headers: {request: {set: {x-dest: v1}, remove: [a]}}}, \
        {destination: {host: reviews, subset: v2}, weight: 20, headers: {response: {add: {x-dest: v2}}}}, \
        {destination: {host: reviews, subset: v3}, weight: 0}]}";
    let rule = dr(
        "reviews",
        "{host: reviews, trafficPolicy: {connectionPool: {tcp: {maxConnections: 99}}}, subsets: [\
         {name: v1, labels: {version: v1}}, \
         {name: v2, labels: {version: v2}, trafficPolicy: {connectionPool: {tcp: {maxConnections: 88}}}}]}",
    );
    insta::assert_yaml_snapshot!("weighted", documents(&[vs(http), rule, minions("")]));
}

#[test]
fn several_matches_become_several_routes() {
    let http = "{name: boss, match: [{name: hdr, headers: {user: {exact: boss}}}, {name: uri, uri: {prefix: /boss}}, \
                {uri: {exact: /b}}, {port: 9, name: no}], route: [{destination: {host: reviews}}]}";
    let documents = documents(&[vs(http), mapping("boss", ", sectionName: boss", "links: [s9]")]);
    let routes = documents.last().map(|d| d["spec"]["configPatches"].clone());
    let routes = routes.as_ref().and_then(Value::as_array).into_iter().flatten();
    let names: Vec<_> =
        routes.filter_map(|p| p.pointer("/match/routeConfiguration/vhost/route/name")?.as_str()).collect();
    assert_eq!(names, ["boss", "boss.hdr", "boss.uri"]);
}

#[test]
fn an_http_route_of_a_service() {
    let spec = "{parentRefs: [{group: '', kind: Service, name: reviews, port: 8000}], rules: [\
        {name: minions-rule, matches: [{headers: [{name: user, value: minions}]}], backendRefs: [{name: reviews, port: 8000}]}, \
        {matches: [{path: {value: /boss}}], backendRefs: [{name: reviews, port: 8000}]}]}";
    let route = object("gateway.networking.k8s.io/v1", "HTTPRoute", "gamma", spec);
    let target = "{targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: gamma}], links: [s9], onLinksDown: Refuse}";
    let mapping = object("clovisor.io/v1alpha1", "WanMapping", "gamma", target);
    insta::assert_yaml_snapshot!("http_route", of_kind(&documents(&[route, mapping]), "EnvoyFilter").last());
}

#[test]
fn a_service_entry_and_mutual_tls_keep_their_name() {
    let entry = object(
        "networking.istio.io/v1",
        "ServiceEntry",
        "pay",
        "{hosts: [pay.example.com], resolution: STATIC, ports: [{number: 8443, name: http, protocol: HTTP}], \
         endpoints: [{address: 203.0.113.10, ports: {http: 15443}}]}",
    );
    let vs = object(
        "networking.istio.io/v1",
        "VirtualService",
        "reviews",
        "{hosts: [pay.example.com], http: [{name: minions, route: [{destination: {host: pay.example.com}}]}]}",
    );
    let rule = dr(
        "pay",
        "{host: pay.example.com, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}, outlierDetection: {}}}",
    );
    let documents = documents(&[entry, vs, rule, minions("")]);
    insta::assert_yaml_snapshot!("mutual_tls", of_kind(&documents, "DestinationRule"));
}

#[test]
fn rules_ask_the_agent() {
    let rules = "rules: [{name: crew, headers: [{name: User, in: [bob]}], links: [s9]}]";
    let crew = mapping("crew", ", sectionName: minions", &format!("links: [s9], {rules}"));
    insta::assert_yaml_snapshot!("rules", of_kind(&documents(&[plain(), crew]), "EnvoyFilter"));
    let refuse = mapping("crew", ", sectionName: minions", &format!("{rules}, onAgentLoss: Refuse"));
    let documents = documents(&[plain(), refuse]);
    let plugin =
        "/spec/configPatches/0/patch/value/route/inline_cluster_specifier_plugin/extension/typed_config";
    let lua = documents.last().and_then(|d| d.pointer(plugin));
    assert_eq!(lua.map(|c| c["default_cluster"].clone()), Some(json!("clovisor-refused")));
}

#[test]
fn subsets_stand_beside_the_users_rule_and_hide_none() {
    let base = "host: reviews.shop.svc.cluster.local";
    let rows: [(&str, Vec<String>, Vec<&str>); 7] = [
        ("none", vec![], vec!["shop reviews.shop.svc.cluster.local"]),
        ("own namespace", vec![dr("a", "{host: reviews}")], vec!["shop reviews"]),
        (
            "exported to itself",
            vec![dr("a", "{host: reviews, exportTo: ['.']}")],
            vec!["shop reviews exportTo [\".\"]"],
        ),
        (
            "root namespace",
            vec![dr("istio-system/a", &format!("{{{base}}}"))],
            vec!["istio-system reviews.shop.svc.cluster.local"],
        ),
        (
            "a wildcard",
            vec![dr("a", "{host: '*.shop.svc.cluster.local'}")],
            vec!["shop *.shop.svc.cluster.local"],
        ),
        (
            "a selector",
            vec![dr("a", &format!("{{{base}, workloadSelector: {{matchLabels: {{app: x}}}}}}"))],
            vec![
                "shop reviews.shop.svc.cluster.local",
                "shop reviews.shop.svc.cluster.local workloadSelector {\"matchLabels\":{\"app\":\"x\"}}",
            ],
        ),
        (
            "ours, which is not the user's",
            vec![dr("a", "{host: x}").replace(
                "namespace: shop}",
                "namespace: shop, labels: {app.kubernetes.io/managed-by: clovisor}}",
            )],
            vec!["shop reviews.shop.svc.cluster.local"],
        ),
    ];
    for (name, rules, expected) in rows {
        let parts: Vec<String> = [plain(), minions("")].into_iter().chain(rules).collect();
        let mut places: Vec<_> = of_kind(&documents(&parts), "DestinationRule").iter().map(place).collect();
        places.sort();
        assert_eq!(places, expected, "{name}");
    }
}

fn place(rule: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut place = format!("{} {}", text(&rule["metadata"]["namespace"]), text(&rule["spec"]["host"]));
    for field in ["exportTo", "workloadSelector"] {
        if let Some(value) = rule["spec"].get(field) {
            place += &format!(" {field} {value}");
        }
    }
    place
}

/// The rule of the service's namespace holds for clients elsewhere; one of their own would hide it.
#[test]
fn clients_elsewhere_get_subsets_in_the_services_namespace() {
    let vs = object(
        "networking.istio.io/v1",
        "VirtualService",
        "till/reviews",
        &format!("{{hosts: [reviews.shop.svc.cluster.local], http: [{REST}]}}")
            .replace("host: reviews}", "host: reviews.shop.svc.cluster.local}"),
    );
    let mapping = mapping("till/m", "", "links: [s9]");
    let documents =
        documents(&[vs, mapping, dr("a", "{host: reviews, trafficPolicy: {outlierDetection: {}}}")]);
    let rule = of_kind(&documents, "DestinationRule");
    assert_eq!(rule.iter().map(place).collect::<Vec<_>>(), ["shop reviews"]);
    assert_eq!(rule[0]["metadata"]["labels"][object::NAMESPACE_LABEL], "till");
    assert!(rule[0]["metadata"]["name"].as_str().is_some_and(|n| n.starts_with("clovisor-till-m-")));
}

#[test]
fn what_cannot_be_exact_is_refused() {
    let unnamed = "{match: [{uri: {prefix: /a}}], route: [{destination: {host: reviews, subset: a}}]}, \
                   {route: [{destination: {host: reviews}}]}";
    let clash = "{name: a, match: [{name: b, uri: {prefix: /}}], route: [{destination: {host: reviews}}]}, \
                 {name: a.b, route: [{destination: {host: reviews}}]}";
    let weighted = "{name: minions, route: [{destination: {host: reviews, subset: a}, weight: 1}, {destination: {host: reviews, subset: b}, weight: 2}]}";
    let rules = "rules: [{name: crew, methods: [GET], links: [s9]}]";
    let nowhere = "{name: minions, route: [{destination: {host: nowhere}}]}";
    let delegate = "{name: minions, delegate: {name: other}}";
    let redirect = "{name: minions, redirect: {uri: /x}}";
    let tcp = String::from("---")
        + &SERVICE.replace("name: http", "name: tcp").replace("name: reviews", "name: db");
    let rows = [
        ("RouteUnnamed", vec![vs(unnamed), mapping("m", "", "links: [s9]")]),
        ("ClassNotSeparable", vec![vs(clash), mapping("m", ", sectionName: a", "links: [s9]")]),
        ("ClassNotSeparable", vec![vs(weighted), mapping("m", "", rules)]),
        ("RuleNotEffective", vec![vs(nowhere), minions("")]),
        ("RuleNotEffective", vec![vs(delegate), minions("")]),
        ("RuleNotEffective", vec![vs(redirect), minions("")]),
        ("RuleNotEffective", vec![vs(MINIONS).replace("hosts: [reviews]", "hosts: [gone]"), minions("")]),
        ("EncryptedBeforeProxy", vec![tcp, vs(MINIONS).replace("reviews]", "db]"), minions("")]),
    ];
    for (reason, parts) in rows {
        let (documents, problems) = rendered(&parts);
        assert!(problems.iter().any(|(r, _)| *r == reason), "{reason}: {problems:?} {documents:#?}");
        assert_eq!(documents, Vec::<Value>::new(), "{reason}");
    }
}

/// Without names one patch serves all routes of a host, if they all go to the same place.
#[test]
fn unnamed_routes_of_one_destination_are_switched_together() {
    let http = "{match: [{uri: {prefix: /a}}], route: [{destination: {host: reviews}}]}, {route: [{destination: {host: reviews}}]}";
    let documents = documents(&[vs(http), mapping("m", "", "links: [s9]")]);
    let routes = documents.last().map(|d| d["spec"]["configPatches"].clone());
    assert_eq!(routes.as_ref().and_then(Value::as_array).map(Vec::len), Some(1), "{routes:#?}");
    assert!(routes.is_some_and(|r| r.pointer("/0/match/routeConfiguration/vhost/route").is_none()));
}

proptest! {
    #[test]
    fn no_object_is_a_panic(
        host in "[*]?[a-z.\\\\\"|\u{e9}]{0,12}",
        name in proptest::option::of("[a-z.|]{0,8}"),
        weight in proptest::option::of(-3i32..3),
        rule in "[*]?[a-z.]{0,12}",
        rules in any::<bool>(),
    ) {
        let destination = json!({ "host": host });
        let weights = json!([{ "destination": destination, "weight": weight }, { "destination": destination }]);
        let http = json!([{ "name": name, "match": [{ "name": name }], "route": weights }, { "route": [] }]);
        let source = object("networking.istio.io/v1", "VirtualService", "reviews", &json!({ "hosts": [host], "http": http }).to_string());
        let entry = json!({ "hosts": [host], "resolution": "STATIC", "ports": [{ "number": 1, "name": "http" }] });
        let rest = if rules { "rules: [{name: crew, methods: [GET], links: [s9]}]" } else { "links: [s9]" };
        rendered(&[
            source,
            object("networking.istio.io/v1", "ServiceEntry", "e", &entry.to_string()),
            dr("a", &json!({ "host": rule, "subsets": [{ "name": "" }] }).to_string()),
            mapping("m", "", rest),
        ]);
    }
}
