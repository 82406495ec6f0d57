//! The cloud's gateway, without an agent: an ordinary sidecar reaches the far end by mTLS.

use anyhow::{Context, Result, ensure};
use harness::envoy::{Exposed, GATEWAY_PORT, OUTBOUND_PORT};
use harness::load::{Caller, Http, Load};
use harness::site::{APP_PORT, SERVICE4, Site};
use harness::summary::summarize;
use serde_json::{Value, json};
use std::path::Path;

const HOST: &str = "reviews.shop.svc.cluster.local";
const SNI: &str = "outbound_.8000_._.reviews.shop.svc.cluster.local";

/// The gateway tells the far end the proxy's own address and the server name; an ordinary sidecar shares
/// its pools between users, which is why classes exist.
#[test]
fn an_ordinary_sidecar_shares_its_pools() -> Result<()> {
    Site::builder("gateway").run(|site| {
        site.start_gateway(&[Exposed { host: HOST.to_owned(), port: 8000, local_port: APP_PORT }])?;
        let folder = site.path("envoy");
        let text = sidecar(&site.path("certs")).to_string();
        std::fs::write(folder.join("bootstrap.json"), text).context("cannot write the bootstrap")?;
        site.start_proxy_with(0, &folder)?;
        for http in [Http::H1, Http::H2] {
            let callers = vec![Caller::user("boss", "s8"), Caller::user("minions", "s8")];
            let load = Load::new(Site::service(false, 8000), HOST, callers.clone()).over(http);
            let seen = load.requests(200).run(&site.pods[0].netns)?;
            let summary = summarize(&callers, &seen);
            ensure!(summary.errors + summary.wrong == 0 && summary.requests == 200, "{http:?} {summary:#?}");
            ensure!(summary.shared > 0, "pools are apart without classes? {summary:#?}");
            let told = seen.iter().filter_map(|seen| seen.observed.as_ref());
            ensure!(told.map(|observed| observed.sni.as_deref()).all(|sni| sni == Some(SNI)), "another SNI");
        }
        Ok(())
    })
}

/// A sidecar as Istio would configure it for one remote service, without anything of Clovisor.
fn sidecar(certs: &Path) -> Value {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "outbound",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "reviews"}}]}]},
        "http_filters": [{"name": "router", "typed_config":
            {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    });
    let tls = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": SNI,
        "common_tls_context": {
            "tls_certificates": [{
                "certificate_chain": {"filename": certs.join("cert-chain.pem")},
                "private_key": {"filename": certs.join("key.pem")},
            }],
            "validation_context": {"trusted_ca": {"filename": certs.join("root-cert.pem")}},
        },
    });
    json!({
        "node": {"id": "sidecar", "cluster": "edge"},
        "static_resources": {
            "listeners": [{
                "name": "outbound",
                "address": {"socket_address":
                    {"address": "::", "port_value": OUTBOUND_PORT, "ipv4_compat": true}},
                "filter_chains": [{"filters": [
                    {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
            }],
            "clusters": [{
                "name": "reviews",
                "type": "STATIC",
                "load_assignment": {"cluster_name": "reviews", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": {"socket_address":
                        {"address": SERVICE4.to_string(), "port_value": GATEWAY_PORT}}}}]}]},
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
            }],
        },
    })
}
