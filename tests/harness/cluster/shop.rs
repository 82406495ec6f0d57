//! Clovisor and a shop on the cluster, as their users would apply them.

use super::Cluster;
use crate::eventually::eventually;
use crate::objects;
use crate::site::{APP_PORT, Site};
use anyhow::{Context, Result, bail};
use std::time::{Duration, Instant};

/// Host of the shop's service in the cloud.
pub const HOST: &str = "reviews.shop.svc.cluster.local";
/// Its port.
pub const PORT: u16 = 8001;
/// Labels of the agents' pods.
pub const AGENT: &str = "app.kubernetes.io/name=clovisor-agent";

fn file(path: &str) -> Result<String> {
    let path = crate::repository::path(path);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// A folder below `deploy`.
#[must_use]
pub fn deploy(folder: &str) -> String {
    crate::repository::path("deploy").join(folder).display().to_string()
}

/// Clovisor as its users install it, from a folder below `deploy`; how long until every agent was ready.
pub fn install(cluster: &Cluster, folder: &str) -> Result<Duration> {
    let begin = Instant::now();
    cluster.kubectl(&["apply", "--server-side", "-k", &deploy(folder)], None)?;
    wait_pods(cluster, "clovisor-system", AGENT, 2)?;
    Ok(begin.elapsed())
}

/// Istio's kinds, links, a service in the cloud, its routes and mappings.
pub fn example(cluster: &Cluster) -> Result<()> {
    cluster.apply(&file("deploy/agent/overlays/standalone-crds/istio.yaml")?)?;
    cluster.kubectl(&["create", "namespace", "shop"], None)?;
    let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"];
    cluster.kubectl(&established, None)?;
    let edge = "  nodeSelector: {kubernetes.io/hostname: edge}\n";
    cluster.apply(&(objects::link("s8", edge) + &objects::link("s9", edge)))?;
    cluster.apply(&objects::service(HOST, PORT, "HTTP", Site::service(false, APP_PORT)))?;
    cluster.apply(&objects::routes(HOST, &["boss", "minions"]))?;
    cluster.apply(&mappings(&["s9", "s8"]))?;
    // What starts before is answered by the default route: the kinds of routes are new to this cluster.
    let ready = ["wait", "wanmappings", "-n", "shop", "--all", "--for=condition=Ready", "--timeout=60s"];
    cluster.kubectl(&ready, None)?;
    Ok(())
}

/// boss by s8, minions by these links, the crew by s9 as the agent decides.
#[must_use]
pub fn mappings(minions: &[&str]) -> String {
    let crew = objects::set_rule("crew", &objects::users("crew-", 1000), &["s9", "s8"]);
    objects::mapping(&[HOST], "boss", &["s8", "s9"], "")
        + &objects::mapping(&[HOST], "minions", minions, "")
        + &objects::mapping(&[HOST], "users", &[], &crew)
}

/// Three clients on the edge, with Envoys that read the agent's files; their names.
pub fn clients(cluster: &Cluster) -> Result<Vec<String>> {
    let rules = format!("--from-file=redirect.nft={}", deploy("envoy/redirect.nft"));
    cluster.kubectl(&["create", "configmap", "clovisor-redirect", "-n", "shop", &rules], None)?;
    let deployment = file("deploy/envoy/deployment.yaml")?
        .replace("image: nft ", "image: localhost/proxy:1 ")
        .replace("image: envoy ", "image: localhost/proxy:1 ")
        .replace("image: app\n", "image: localhost/pause:1\n")
        .replace("      initContainers:", "      nodeName: edge\n      initContainers:");
    cluster.apply(&deployment)?;
    wait_pods(cluster, "shop", "app=client", 3)
}

/// Names of the pods of a label that run and are ready.
pub fn pods(cluster: &Cluster, namespace: &str, label: &str) -> Result<Vec<String>> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.metadata.deletionTimestamp} \
                {.status.conditions[?(@.type=='Ready')].status}{'\\n'}{end}";
    let text = cluster.kubectl(&["get", "pods", "-n", namespace, "-l", label, "-o", path], None)?;
    Ok(text.lines().filter_map(|line| line.strip_suffix("  True").map(str::to_owned)).collect())
}

/// Waits until so many pods of a label are ready, and no more; their names.
pub fn wait_pods(cluster: &Cluster, namespace: &str, label: &str, count: usize) -> Result<Vec<String>> {
    eventually(&format!("{count} pods {label}"), Duration::from_secs(60), || {
        let ready = pods(cluster, namespace, label)?;
        if ready.len() != count {
            bail!("{}", cluster.kubectl(&["get", "pods", "-n", namespace, "-l", label, "-o", "wide"], None)?);
        }
        Ok(ready)
    })
}
