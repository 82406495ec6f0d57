//! Envoy's bootstrap: its identity, and where its other files are.

use super::cluster;
use super::names::{AGENT_CLUSTER, CLUSTERS_FILE, LISTENER_FILE, seconds};
use super::proxy::{Admin, RenderConfig};
use super::resources::watched_file;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// The bootstrap of every proxy of a namespace.
pub(crate) fn bootstrap(namespace: &str, config: &RenderConfig) -> Value {
    json!({
        "node": { "id": format!("clovisor~{namespace}"), "cluster": namespace },
        "admin": { "address": admin(&config.admin) },
        "dynamic_resources": {
            "cds_config": watched_file(&config.mount, CLUSTERS_FILE),
            "lds_config": watched_file(&config.mount, LISTENER_FILE),
        },
        "static_resources": { "clusters": [agent(&config.callout, config.callout_timeout)] },
    })
}

fn admin(admin: &Admin) -> Value {
    match admin {
        Admin::Loopback(port) => {
            json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
        }
        Admin::Pipe(path) => json!({ "pipe": { "path": path } }),
    }
}

/// The agent's callout socket. In the bootstrap, so that no update of the clusters can lose it.
pub(crate) fn agent(callout: &Path, timeout: Duration) -> Value {
    json!({
        "name": AGENT_CLUSTER,
        "type": "STATIC",
        "connect_timeout": seconds(timeout),
        "typed_extension_protocol_options": cluster::http_options(&json!({ "http2_protocol_options": {} })),
        "load_assignment": {
            "cluster_name": AGENT_CLUSTER,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": { "pipe": { "path": callout } } } }] }],
        },
    })
}
