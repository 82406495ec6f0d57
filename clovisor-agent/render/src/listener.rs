//! The outbound listener: a filter chain for each service port; other traffic passes through.

use super::names::{
    AGENT_CLUSTER, BLACK_HOLE, CALLOUT_FILTER, CLASS_HEADER, OWN_HEADERS, PASSTHROUGH, seconds,
};
use super::proxy::RenderConfig;
use super::resources::watched_file;
use super::scope::Scope;
use clovisor_policy::model::Service;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// The listener with the chains of the services.
pub(crate) fn outbound(mut chains: Vec<Value>, config: &RenderConfig) -> Value {
    // A connection to the listener itself would be passed on to the listener, for ever.
    chains.push(json!({
        "name": "loop",
        "filter_chain_match": { "destination_port": config.outbound_port },
        "filters": [tcp(BLACK_HOLE)],
    }));
    let mut listener = json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": "outbound", "traffic_direction": "OUTBOUND",
        "address": address("0.0.0.0", config.outbound_port),
        "listener_filters": [{ "name": "envoy.filters.listener.original_dst", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
        } }],
        "filter_chains": chains,
        "default_filter_chain": { "name": "passthrough", "filters": [tcp(PASSTHROUGH)] },
    });
    // A socket of its own: the original destination of a v4-mapped connection cannot be read.
    if config.ipv6 {
        listener["additional_addresses"] = json!([{ "address": address("::", config.outbound_port) }]);
    }
    listener
}

fn address(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": address, "port_value": port } })
}

fn tcp(cluster: &str) -> Value {
    json!({ "name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": cluster, "cluster": cluster,
    } })
}

/// The chain of a port's services: HTTP, with the routes of `scope`.
pub(crate) fn chain(scope: &Scope<'_>, services: &[&Service], config: &RenderConfig) -> Value {
    let mut filters = Vec::new();
    if scope.asks_agent() {
        filters.push(callout(CALLOUT_FILTER, &scope.callout_headers, config.callout_timeout));
    }
    filters.push(json!({ "name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    } }));
    let mut matching = json!({ "destination_port": scope.port });
    let prefixes = prefixes(services);
    if !prefixes.is_empty() {
        matching["prefix_ranges"] = json!(prefixes);
    }
    json!({
        "name": format!("http-{}", scope.port),
        "filter_chain_match": matching,
        "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": format!("outbound_{}", scope.port),
            "codec_type": "AUTO", "normalize_path": true, "stream_idle_timeout": "0s",
            "server_header_transformation": "PASS_THROUGH",
            "upgrade_configs": [{ "upgrade_type": "websocket" }],
            "early_header_mutation_extensions": [strip()],
            "rds": {
                "route_config_name": scope.name(),
                "config_source": watched_file(&config.mount, &scope.file()),
            },
            "http_filters": filters,
        } }],
    })
}

/// Addresses of the services; none when one of them may be reached by any address.
fn prefixes(services: &[&Service]) -> Vec<Value> {
    if services.iter().any(|s| s.addresses.is_empty()) {
        return Vec::new();
    }
    let addresses: BTreeSet<IpAddr> = services.iter().flat_map(|s| s.addresses.iter().copied()).collect();
    let prefix = |address: IpAddr| {
        let length = if address.is_ipv4() { 32 } else { 128 };
        json!({ "address_prefix": address.to_string(), "prefix_len": length })
    };
    addresses.into_iter().map(prefix).collect()
}

/// Removes a client's own `x-clovisor-*` before the first look at the routes; later would be too late.
fn strip() -> Value {
    mutation(&json!([
        { "remove": CLASS_HEADER },
        { "remove_on_match": { "key_matcher": { "prefix": OWN_HEADERS, "ignore_case": true } } },
    ]))
}

/// The same of the one header that decides, in words that older proxies know too.
pub(crate) fn strip_class() -> Value {
    mutation(&json!([{ "remove": CLASS_HEADER }]))
}

fn mutation(mutations: &Value) -> Value {
    json!({ "name": "clovisor.strip", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        "mutations": mutations,
    } })
}

/// The callout, off unless a route turns it on; Envoy sends only the headers that some rule needs.
pub(crate) fn callout(name: &str, headers: &BTreeSet<String>, timeout: Duration) -> Value {
    let timeout = seconds(timeout);
    let patterns: Vec<Value> = headers.iter().map(|name| json!({ "exact": name })).collect();
    json!({ "name": name, "disabled": true, "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": { "envoy_grpc": { "cluster_name": AGENT_CLUSTER }, "timeout": timeout },
        "message_timeout": timeout, "failure_mode_allow": true, "route_cache_action": "CLEAR",
        "processing_mode": {
            "request_header_mode": "SEND", "response_header_mode": "SKIP",
            "request_body_mode": "NONE", "response_body_mode": "NONE",
            "request_trailer_mode": "SKIP", "response_trailer_mode": "SKIP",
        },
        "forward_rules": { "allowed_headers": { "patterns": patterns } },
        "mutation_rules": {
            "disallow_all": true, "allow_expression": { "regex": format!("{OWN_HEADERS}.*") },
        },
    } })
}
