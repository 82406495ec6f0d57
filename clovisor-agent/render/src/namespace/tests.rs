//! What the files say for small policies.

use super::*;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::wan_mapping::Fallback;
use clovisor_policy::class::ClassId;
use clovisor_policy::matcher::{RouteMatch, StringMatch};
use clovisor_policy::model::{
    Destination, Mapping, PodIdentity, Protocol, Retries, Route, RouteDecision, Tls,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

fn service(routes: Vec<Route>) -> Service {
    Service {
        host: "reviews.shop.svc.cluster.local".into(),
        port: 80,
        aliases: vec!["reviews".into()],
        addresses: Vec::new(),
        endpoints: vec!["192.0.2.1:15443".parse().unwrap_or_else(|_| unreachable!())],
        protocol: Protocol::Http1,
        tls: Tls::Disable,
        closed: None,
        routes,
    }
}

fn route(name: &str, matches: Vec<RouteMatch>, decision: RouteDecision) -> Route {
    let destination = Destination { host: "reviews.shop.svc.cluster.local".into(), port: 80 };
    let name = Some(name.into());
    Route { name, origin: None, matches, destination, timeout: None, retries: None, decision }
}

fn user(name: &str) -> RouteMatch {
    RouteMatch { headers: vec![("user".into(), StringMatch::Exact(name.into()))], ..RouteMatch::default() }
}

fn class(class: u8) -> RouteDecision {
    RouteDecision::Class { mapping: "m".into(), class: ClassId(class) }
}

fn callout(fallback: Option<u8>, on_agent_loss: Fallback) -> RouteDecision {
    RouteDecision::Callout {
        mapping: "set".into(),
        classes: [ClassId(2)].into(),
        fallback: fallback.map(ClassId),
        on_agent_loss,
    }
}

fn policy(services: Vec<Service>) -> Policy {
    let set =
        Mapping { name: "set".into(), class: None, on_agent_loss: Fallback::Default, rules: Vec::new() };
    let shop = NamespacePolicy {
        mappings: [("set".to_owned(), Arc::new(set))].into(),
        services,
        ..NamespacePolicy::default()
    };
    Policy { namespaces: [("shop".to_owned(), shop)].into(), ..Policy::default() }
}

fn files(services: Vec<Service>) -> BTreeMap<String, Value> {
    parsed(&render("shop", &policy(services), &RenderConfig::default()).files)
}

fn parsed(files: &Files) -> BTreeMap<String, Value> {
    let parse = |text: &str| serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text}"));
    files.iter().map(|(name, text)| (name.clone(), parse(text))).collect()
}

/// Each route of the first virtual host as `conditions -> where`.
fn routes(files: &BTreeMap<String, Value>) -> Vec<String> {
    let file = files.iter().find(|(name, _)| name.starts_with("rds-80"));
    let routes = file.map(|(_, file)| &file["resources"][0]["virtual_hosts"][0]["routes"]);
    let line = |route: &Value| {
        let headers = route["match"]["headers"].as_array().cloned().unwrap_or_default();
        let header = |h: &Value| match h["string_match"]["exact"].as_str() {
            Some(exact) => format!("{}={exact}", h["name"].as_str().unwrap_or_default()),
            None => format!("{}?", h["name"].as_str().unwrap_or_default()),
        };
        let headers: Vec<String> = headers.iter().map(header).collect();
        let to = match route["route"]["cluster"].as_str() {
            Some(cluster) => cluster.split('|').nth(2).unwrap_or_default().to_owned(),
            None => route["direct_response"]["status"].to_string(),
        };
        let asks = if route.get("typed_per_filter_config").is_some() { " after asking" } else { "" };
        format!("[{}] -> {to}{asks}", headers.join(" "))
    };
    routes.and_then(Value::as_array).into_iter().flatten().map(line).collect()
}

#[test]
fn a_class_is_in_the_socket_options_of_its_own_cluster() {
    let mut service = service(vec![route("minions", vec![user("minions")], class(1))]);
    service.tls = Tls::IstioMutual { sni: "outbound_.80_._.reviews".into() };
    let files = files(vec![service]);
    let clusters = &files["cds.json"]["resources"];
    assert_eq!(clusters[2]["name"], "outbound|80||reviews.shop.svc.cluster.local");
    assert_eq!(clusters[2].get("upstream_bind_config"), None);
    insta::assert_yaml_snapshot!("class_cluster", clusters[3]);
    assert_eq!(clusters.as_array().map(Vec::len), Some(4));
}

#[test]
fn the_highest_class_fits_into_the_byte() {
    let files = files(vec![service(vec![route("r", Vec::new(), class(16))])]);
    let options = &files["cds.json"]["resources"][3]["upstream_bind_config"]["socket_options"];
    assert_eq!((&options[0]["int_value"], &options[1]["int_value"]), (&json!(252), &json!(252)));
}

/// What may not leave is answered by the proxy itself; there is no cluster by which it could.
#[test]
fn a_closed_service_is_answered_with_503() {
    let mut closed = service(Vec::new());
    closed.closed = Some("TLS is asked for".into());
    let files = files(vec![closed]);
    assert_eq!(routes(&files), ["[] -> 503"]);
    assert!(files["rds-80.json"].to_string().contains("clovisor: TLS is asked for"));
    assert_eq!(files["cds.json"]["resources"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_route_that_decides_asks_nobody() {
    let minions = route("minions", vec![user("kevin"), user("stuart")], class(1));
    let rest = route("rest", Vec::new(), RouteDecision::Unmapped);
    let files = files(vec![service(vec![minions, rest])]);
    assert_eq!(routes(&files), ["[user=kevin] -> clovisor-c1", "[user=stuart] -> clovisor-c1", "[] -> "]);
    assert!(!files["lds.json"].to_string().contains("ext_proc"));
    insta::assert_yaml_snapshot!("listener", files["lds.json"]);
}

#[test]
fn a_callout_goes_on_by_its_answer_or_the_fallback() {
    let rest = route("rest", vec![user("gru")], callout(Some(3), Fallback::Default));
    let files = files(vec![service(vec![rest])]);
    let expected = [
        "[user=gru x-clovisor-class=2] -> clovisor-c2",
        "[user=gru x-clovisor-class=3] -> clovisor-c3",
        "[user=gru x-clovisor-class=default] -> ",
        "[user=gru] -> clovisor-c3 after asking",
    ];
    assert_eq!(routes(&files), expected);
    assert!(files["lds.json"].to_string().contains("ext_proc"));
}

#[test]
fn a_callout_that_refuses_answers_503_only_without_an_answer() {
    let rest = route("rest", Vec::new(), callout(None, Fallback::Refuse));
    let files = files(vec![service(vec![rest])]);
    let expected = [
        "[x-clovisor-class=2] -> clovisor-c2",
        "[x-clovisor-class=default] -> ",
        "[x-clovisor-class?] -> ",
        "[] -> 503 after asking",
    ];
    assert_eq!(routes(&files), expected);
    let file = files.iter().find(|(name, _)| name.starts_with("rds-80-"));
    insta::assert_yaml_snapshot!("refusing_callout", file.map(|(_, content)| content));
}

#[test]
fn retries_are_as_in_istio() {
    let mut retried = route("r", Vec::new(), class(1));
    retried.timeout = Some(Duration::from_millis(1500));
    retried.retries = Some(Retries {
        attempts: 2,
        per_try_timeout: Some(Duration::from_secs(1)),
        retry_on: "connect-failure,503".into(),
    });
    let files = files(vec![service(vec![retried])]);
    let action = &files["rds-80.json"]["resources"][0]["virtual_hosts"][0]["routes"][0]["route"];
    assert_eq!(action["timeout"], "1.500s");
    assert_eq!(action["retry_policy"]["retry_on"], "connect-failure,retriable-status-codes");
    assert_eq!(action["retry_policy"]["retriable_status_codes"], json!([503]));
    assert_eq!(action["retry_policy"]["per_try_timeout"], "1s");
}

#[test]
fn one_name_belongs_to_one_service() {
    let mut second = service(Vec::new());
    second.host = "reviews.zoo.svc.cluster.local".into();
    second.aliases.push("*".into());
    let files = files(vec![service(Vec::new()), second]);
    let hosts = &files["rds-80.json"]["resources"][0]["virtual_hosts"];
    let names = |host: &Value| host["domains"].clone();
    assert_eq!(
        names(&hosts[0]),
        json!([
            "reviews.shop.svc.cluster.local:80",
            "reviews.shop.svc.cluster.local",
            "reviews:80",
            "reviews"
        ])
    );
    assert_eq!(
        names(&hosts[1]),
        json!(["reviews.zoo.svc.cluster.local:80", "reviews.zoo.svc.cluster.local", "*"])
    );
    assert_eq!(hosts.as_array().map(Vec::len), Some(2));
}

#[test]
fn labels_that_only_some_pods_have_steer_nobody_and_are_reported() {
    let labelled =
        RouteMatch { source_labels: [("app".to_owned(), "web".to_owned())].into(), ..user("minions") };
    let mut policy = policy(vec![service(vec![route("minions", vec![labelled], class(1))])]);
    let mut pod = |name: &str, app: &str| {
        let key = ObjectKey { namespace: "shop".into(), name: name.into() };
        let identity = PodIdentity {
            addresses: Default::default(),
            proxy_uid: 1337,
            labels: [("app".to_owned(), app.to_owned())].into(),
            host_network: false,
        };
        policy.pods.insert(key, identity);
        render("shop", &policy, &RenderConfig::default())
    };
    let none = pod("db", "db");
    // A list of which nothing holds for any pod is no list.
    assert_eq!(routes(&parsed(&none.files)), ["[] -> "]);
    assert_eq!(none.problems, []);
    let some = pod("web", "web");
    assert_eq!(routes(&parsed(&some.files)), ["[user=minions] -> ", "[] -> "]);
    assert_eq!(some.problems.first().map(|p| p.reason.name()), Some("ClassNotSeparable"));
    let all = pod("db", "web");
    assert_eq!(routes(&parsed(&all.files)), ["[user=minions] -> clovisor-c1"]);
}

#[test]
fn a_namespace_without_a_policy_passes_everything_on() {
    let rendered = render("gone", &policy(Vec::new()), &RenderConfig::default());
    let names: Vec<&String> = rendered.files.keys().collect();
    assert_eq!(names, ["bootstrap.json", "cds.json", "lds.json"]);
    insta::assert_yaml_snapshot!("bootstrap", parsed(&rendered.files)["bootstrap.json"]);
}
