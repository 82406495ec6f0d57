//! One cluster per destination and class: the class is in the socket options, so in every SYN.

use super::names::{self, BLACK_HOLE, PASSTHROUGH, seconds};
use super::proxy::RenderConfig;
use super::resources::{response, watched_file};
use clovisor_common::abi::dscp_of_class;
use clovisor_policy::class::ClassId;
use clovisor_policy::model::{NamespacePolicy, Protocol, Service, Tls};
use serde_json::{Value, json};

const TYPE: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const IDENTITY: &str = "sds-identity.json";
const ROOTS: &str = "sds-roots.json";

/// The clusters that every namespace has.
pub(crate) fn fixed() -> Vec<Value> {
    vec![
        json!({
            "@type": TYPE, "name": PASSTHROUGH, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED",
            "connect_timeout": "10s", "circuit_breakers": unlimited(),
            // An HTTP request passes with the version that it came with.
            "typed_extension_protocol_options": protocol_options(&json!({
                "use_downstream_protocol_config": { "http_protocol_options": {}, "http2_protocol_options": {} },
            })),
        }),
        json!({ "@type": TYPE, "name": BLACK_HOLE, "type": "STATIC", "connect_timeout": "1s" }),
    ]
}

/// The clusters of one service: without a class, and one for each class that may go there; none where nothing may.
pub(crate) fn clusters(ns: &NamespacePolicy, service: &Service, config: &RenderConfig) -> Vec<String> {
    if service.closed.is_some() {
        return Vec::new();
    }
    let classes = ns.classes_towards(service).into_iter().map(Some);
    std::iter::once(None).chain(classes).map(|class| cluster(service, class, config).to_string()).collect()
}

fn cluster(service: &Service, class: Option<ClassId>, config: &RenderConfig) -> Value {
    let name = names::cluster(&service.host, service.port, class);
    let version = match service.protocol {
        Protocol::Http1 => json!({ "http_protocol_options": {} }),
        Protocol::Http2 => json!({ "http2_protocol_options": {} }),
    };
    let endpoints: Vec<Value> = service.endpoints.iter().map(endpoint).collect();
    let mut cluster = json!({
        "@type": TYPE, "name": name, "type": "STATIC", "lb_policy": "LEAST_REQUEST",
        "connect_timeout": seconds(config.connect_timeout), "circuit_breakers": unlimited(),
        "upstream_connection_options": { "tcp_keepalive": {
            "keepalive_probes": 3, "keepalive_time": 15, "keepalive_interval": 5,
        } },
        "typed_extension_protocol_options": http_options(&version),
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
    });
    if let Some(class) = class {
        cluster["upstream_bind_config"] = json!({ "socket_options": socket_options(class) });
    }
    if let Tls::IstioMutual { sni } = &service.tls {
        cluster["transport_socket"] = tls(sni, service.protocol, config);
    }
    cluster
}

fn endpoint(address: &std::net::SocketAddr) -> Value {
    json!({ "endpoint": { "address": { "socket_address": {
        "address": address.ip().to_string(), "port_value": address.port(),
    } } } })
}

/// IP_TOS and IPV6_TCLASS. Each names its IP version: IPV6_TCLASS on an IPv4 socket fails the connection.
pub(crate) fn socket_options(ClassId(class): ClassId) -> Value {
    let tos = dscp_of_class(class) << 2;
    json!([
        { "description": "class", "level": 0, "name": 1, "int_value": tos,
          "state": "STATE_PREBIND", "ip_version": "SOCKET_IP_VERSION_IPV4" },
        { "description": "class", "level": 41, "name": 67, "int_value": tos,
          "state": "STATE_PREBIND", "ip_version": "SOCKET_IP_VERSION_IPV6" },
    ])
}

/// Envoy's HTTP options with a fixed version towards the endpoints.
pub(crate) fn http_options(version: &Value) -> Value {
    protocol_options(&json!({ "explicit_http_config": version }))
}

fn protocol_options(options: &Value) -> Value {
    let mut options = options.clone();
    options["@type"] = json!("type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions");
    json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options })
}

/// As Istio: no limits but the user's own. Envoy's 1,024 would fail requests that Istio lets pass.
pub(crate) fn unlimited() -> Value {
    json!({ "thresholds": [{
        "max_connections": u32::MAX, "max_pending_requests": u32::MAX,
        "max_requests": u32::MAX, "max_retries": u32::MAX,
    }] })
}

/// Mutual TLS; the protocol names are those of Istio's sidecars, which a sidecar at the far end looks for.
fn tls(sni: &str, protocol: Protocol, config: &RenderConfig) -> Value {
    let alpn = match protocol {
        Protocol::Http1 => ["istio-http/1.1", "istio", "http/1.1"],
        Protocol::Http2 => ["istio-h2", "istio", "h2"],
    };
    let secret = |name: &str| json!({ "name": name, "sds_config": watched_file(&config.mount, name) });
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": sni,
        "common_tls_context": {
            "alpn_protocols": alpn,
            "tls_certificate_sds_secret_configs": [secret(IDENTITY)],
            "validation_context_sds_secret_config": secret(ROOTS),
        },
    } })
}

/// The files that name the certificates; Envoy reads the certificates again when they are replaced.
pub(crate) fn secrets(config: &RenderConfig) -> [(String, String); 2] {
    let certificate = |name: &str| json!({ "filename": config.certificates.join(name) });
    let watched = json!({ "path": config.certificates });
    let secret = |name: &str, kind: &str, mut value: Value| {
        value["watched_directory"] = watched.clone();
        let secret = json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            "name": name, kind: value,
        });
        (name.to_owned(), response([secret.to_string()]))
    };
    let identity = json!({
        "certificate_chain": certificate("cert-chain.pem"), "private_key": certificate("key.pem"),
    });
    let roots = json!({ "trusted_ca": certificate("root-cert.pem") });
    [secret(IDENTITY, "tls_certificate", identity), secret(ROOTS, "validation_context", roots)]
}
