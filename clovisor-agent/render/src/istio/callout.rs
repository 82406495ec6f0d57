//! The callout in sidecars: the filter of a namespace, and the routes that ask.

use super::object::{IstioConfig, IstioKind, IstioObject, Phase};
use super::patch::patch;
use crate::names::{CLASS_HEADER, DEFAULT_ANSWER};
use crate::{bootstrap, listener, route};
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::wan_mapping::Fallback;
use clovisor_policy::class::ClassId;
use clovisor_policy::model::RouteDecision;
use clovisor_policy::sidecar::plan::SidecarPlan;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// A name of its own: Istio uses the same filter for its inference pools.
const FILTER: &str = "clovisor.callout";
const MANAGER: &str = "envoy.filters.network.http_connection_manager";
const MANAGER_TYPE: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
/// A cluster that is nowhere: its requests are answered 503.
const REFUSED: &str = "clovisor-refused";

/// The cluster of a route's requests for each answer of the agent.
#[derive(Debug)]
pub(super) struct AnswerClusters {
    pub(super) of_class: BTreeMap<ClassId, String>,
    /// The destination without a class.
    pub(super) base: String,
    /// The class where no rule matches.
    pub(super) fallback: Option<ClassId>,
    pub(super) on_agent_loss: Fallback,
}

/// One filter for each namespace with a mapping that asks.
pub(super) fn filters(planned: &[SidecarPlan], config: &IstioConfig) -> Vec<IstioObject> {
    let mut asking = BTreeMap::<&str, Vec<&SidecarPlan>>::new();
    for sidecar in planned.iter().filter(|s| matches!(s.decision, RouteDecision::Callout { .. })) {
        asking.entry(&sidecar.mapping.namespace).or_default().push(sidecar);
    }
    let object = |(namespace, sidecars): (&str, Vec<&SidecarPlan>)| {
        let mut headers = BTreeSet::from([":authority", ":method", ":path"].map(str::to_owned));
        headers.extend(sidecars.iter().flat_map(|s| s.headers.iter().cloned()));
        IstioObject {
            phase: Phase::Classes,
            kind: IstioKind::EnvoyFilter,
            key: ObjectKey { namespace: namespace.to_owned(), name: "clovisor-callout".into() },
            mappings: sidecars.iter().map(|s| s.mapping.clone()).collect(),
            spec: json!({ "configPatches": patches(&headers, config) }),
        }
    };
    asking.into_iter().map(object).collect()
}

/// The agent's cluster; the client's own class is removed before the first look at the routes; the filter, off.
fn patches(headers: &BTreeSet<String>, config: &IstioConfig) -> [Value; 3] {
    let manager = json!({ "listener": { "filterChain": { "filter": { "name": MANAGER } } } });
    let router = json!({ "listener": { "filterChain": { "filter": {
        "name": MANAGER, "subFilter": { "name": "envoy.filters.http.router" },
    } } } });
    let strip = json!({ "name": MANAGER, "typed_config": {
        "@type": MANAGER_TYPE, "early_header_mutation_extensions": [listener::strip_class()],
    } });
    [
        patch("CLUSTER", &json!({}), "ADD", &bootstrap::agent(&config.callout, config.callout_timeout)),
        patch("NETWORK_FILTER", &manager, "MERGE", &strip),
        patch(
            "HTTP_FILTER",
            &router,
            "INSERT_BEFORE",
            &listener::callout(FILTER, headers, config.callout_timeout),
        ),
    ]
}

/// What a route that asks needs: its timeout and retries stay, the answer picks the cluster. Envoy runs the
/// script again when the answer has cleared its choice of a route.
pub(super) fn route(namespace: &str, mapping: &str, answers: &AnswerClusters) -> Value {
    let otherwise = match (answers.on_agent_loss, answers.fallback) {
        (Fallback::Refuse, _) => REFUSED,
        (Fallback::Default, None) => &answers.base,
        (Fallback::Default, Some(class)) => answers.of_class.get(&class).unwrap_or(&answers.base),
    };
    let plugin = json!({ "extension": { "name": "envoy.router.cluster_specifier_plugin.lua", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.router.cluster_specifiers.lua.v3.LuaConfig",
        "source_code": { "inline_string": script(answers, otherwise) },
        "default_cluster": otherwise,
    } } });
    json!({
        "route": { "inline_cluster_specifier_plugin": plugin },
        "request_headers_to_remove": [CLASS_HEADER],
        "typed_per_filter_config": route::ask(FILTER, namespace, mapping),
    })
}

fn script(answers: &AnswerClusters, otherwise: &str) -> String {
    let mut text = String::from("local clusters = {\n");
    let mut entry = |answer: &str, cluster: &str| {
        // Writing to a string cannot fail.
        let _written = writeln!(text, "  [{}] = {},", quoted(answer), quoted(cluster));
    };
    for (ClassId(class), cluster) in &answers.of_class {
        entry(&class.to_string(), cluster);
    }
    entry(DEFAULT_ANSWER, &answers.base);
    format!(
        "{text}}}\nfunction envoy_on_route(route_handle)\n  local answer = \
         route_handle:headers():get({})\n  return clusters[answer or \"\"] or {}\nend\n",
        quoted(CLASS_HEADER),
        quoted(otherwise)
    )
}

/// A Lua string literal; other than plain characters are escaped by their bytes.
fn quoted(text: &str) -> String {
    let byte = |b: u8| match b {
        b'"' | b'\\' => format!("\\{}", char::from(b)),
        b' '..=b'~' => char::from(b).to_string(),
        _ => format!("\\{b:03}"),
    };
    format!("\"{}\"", text.bytes().map(byte).collect::<String>())
}
