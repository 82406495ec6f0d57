//! Envoy: where it is, and the configuration of the cloud's gateway.

use crate::truth::{SEEN_REMOTE, SEEN_SNI};
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Uid and gid of every proxy, as in Istio.
pub const PROXY_UID: u32 = 1337;

/// Port on which a pod's proxy takes the redirected connections.
pub const OUTBOUND_PORT: u16 = 15001;

/// Port on which the cloud's gateway takes mTLS.
pub const GATEWAY_PORT: u16 = 15443;

/// The binary: `$ENVOY`, else on PATH, else `target/tools/envoy`.
pub fn binary() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("ENVOY") {
        return Ok(PathBuf::from(named));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).map(|dir| dir.join("envoy")).collect();
    places.push(crate::repository::path("target/tools/envoy"));
    match places.into_iter().find(|place| place.is_file()) {
        Some(found) => Ok(found),
        None => bail!("no envoy in $ENVOY, on PATH or in target/tools; run `cargo xtask setup`"),
    }
}

/// A service behind the gateway.
#[derive(Clone, Debug)]
pub struct Exposed {
    /// As the mesh names it, e.g. `reviews.shop.svc.cluster.local`.
    pub host: String,
    pub port: u16,
    /// Port of the application on the gateway's own host.
    pub local_port: u16,
}

/// Configuration of a gateway that ends mTLS on 15443, chooses by server name, and tells the application
/// what it saw of its client.
#[must_use]
pub fn gateway(services: &[Exposed], certs: &Path) -> Value {
    let chains: Vec<Value> = services.iter().map(|service| chain(service, certs)).collect();
    let clusters: Vec<Value> = services.iter().map(cluster).collect();
    json!({
        "node": {"id": "gateway", "cluster": "cloud"},
        "static_resources": {
            "listeners": [{
                "name": "gateway",
                "address": {"socket_address":
                    {"address": "::", "port_value": GATEWAY_PORT, "ipv4_compat": true}},
                "listener_filters": [{
                    "name": "envoy.filters.listener.tls_inspector",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
                }],
                "filter_chains": chains,
            }],
            "clusters": clusters,
        },
    })
}

fn chain(service: &Exposed, certs: &Path) -> Value {
    let sni = format!("outbound_.{}_._.{}", service.port, service.host);
    json!({
        "filter_chain_match": {"server_names": [sni]},
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "require_client_certificate": true,
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_certificates": [{
                        "certificate_chain": {"filename": certs.join("cert-chain.pem")},
                        "private_key": {"filename": certs.join("key.pem")},
                    }],
                    "validation_context": {"trusted_ca": {"filename": certs.join("root-cert.pem")}},
                },
            },
        },
        "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": connection_manager(service),
        }],
    })
}

fn connection_manager(service: &Exposed) -> Value {
    let told = |key: &str, value: &str| {
        json!({
            "header": {"key": key, "value": value},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        })
    };
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "codec_type": "AUTO",
        "route_config": {"virtual_hosts": [{
            "name": service.host,
            "domains": ["*"],
            "request_headers_to_add": [
                told(SEEN_REMOTE, "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%"),
                told(SEEN_SNI, "%REQUESTED_SERVER_NAME%"),
            ],
            "routes": [{
                "match": {"prefix": "/"},
                "route": {"cluster": service.host, "timeout": "0s"},
            }],
        }]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    })
}

fn cluster(service: &Exposed) -> Value {
    json!({
        "name": service.host,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": service.host,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address":
                {"address": "127.0.0.1", "port_value": service.local_port}}}}]}],
        },
    })
}
