//! An API server that is not the one: nobody believes it, and steering goes on.

use crate::kubernetes::{start, status};
use anyhow::{Context, Result, ensure};
use harness::apiserver::User;
use harness::objects;
use harness::site::Site;
use serde_json::Value;

/// A kubeconfig that trusts the server's certificate of this moment only.
fn trusting(site: &Site) -> Result<std::path::PathBuf> {
    let folder = site.path("kubernetes");
    let ca = folder.join("trusted.crt");
    std::fs::copy(folder.join("certs/apiserver.crt"), &ca).context("no certificate")?;
    let text = std::fs::read_to_string(folder.join("agent")).context("no kubeconfig")?;
    let trust = format!("certificate-authority: \"{}\"", ca.display());
    let path = folder.join("agent-trusting");
    std::fs::write(&path, text.replace("insecure-skip-tls-verify: true", &trust)).context("cannot write")?;
    Ok(path)
}

#[test]
fn a_server_with_another_certificate_is_not_believed() -> Result<()> {
    Site::builder("tls").run(|site| {
        let mut api = start(site)?;
        let kubeconfig = trusting(site)?;
        site.use_kubernetes(kubeconfig);
        site.start_agent()?;
        api.apply(&(objects::link("s8", "") + &objects::link("s9", "")))?;
        status(site, "both links", |s| s["linksUp"] == 2 && s["problems"] == serde_json::json!([]))?;
        api.kill()?;
        std::fs::remove_dir_all(site.path("kubernetes/certs")).context("no certificates")?;
        api.restart(&site.path(""))?;
        api.kubectl(User::Admin, &["delete", "wanlink", "s9"], None)?;
        let distrusts = |s: &Value| s["problems"].to_string().contains("invalid peer certificate");
        status(site, "the certificate is named", distrusts)?;
        // What the other one says is not heard, by an agent that starts now neither.
        for _ in 0..2 {
            let links = site.agent()?.json("/v1/status")?;
            ensure!(links["linksUp"] == 2, "{links:#}");
            site.kill_agent()?;
            site.start_agent()?;
            status(site, "objects from the disk", |s| s["staleSince"].is_string() && s["linksUp"] == 2)?;
        }
        site.stop_agent()?;
        let kubeconfig = trusting(site)?;
        site.use_kubernetes(kubeconfig);
        site.start_agent()?;
        status(site, "what the server says", |s| s["staleSince"].is_null() && s["linksTotal"] == 1)
    })
}
