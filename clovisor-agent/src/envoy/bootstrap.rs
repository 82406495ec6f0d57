//! What Envoy starts with: who it is and where its other files are.

use super::names::{AGENT_CLUSTER, seconds};
use super::render::{Admin, RenderConfig};
use super::{cluster, listener};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Name of the file.
pub(crate) const FILE: &str = "bootstrap.json";

/// The bootstrap of every proxy of a namespace.
pub(crate) fn bootstrap(namespace: &str, config: &RenderConfig) -> Value {
    json!({
        "node": { "id": format!("clovisor~{namespace}"), "cluster": namespace },
        "admin": { "address": admin(&config.admin) },
        "dynamic_resources": {
            "cds_config": watched_file(&config.mount, cluster::FILE),
            "lds_config": watched_file(&config.mount, listener::FILE),
        },
        "static_resources": { "clusters": [agent(&config.callout, config.callout_timeout)] },
    })
}

/// A config source: one file of the folder, read again when something is moved into the folder.
pub(crate) fn watched_file(folder: &Path, file: &str) -> Value {
    json!({
        "resource_api_version": "V3",
        "path_config_source": {
            "path": folder.join(file),
            "watched_directory": { "path": folder },
        },
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
