//! A real cluster of two nodes: the DaemonSet, pods with real Envoys, kube-proxy, and everything that goes away.

use crate::kubernetes::file;
use anyhow::{Context, Result, ensure};
use harness::cluster::Cluster;
use harness::eventually::eventually;
use harness::load::{Caller, Http, Load};
use harness::objects;
use harness::site::{APP_PORT, Site};
use harness::tally::judge;
use std::time::{Duration, Instant};

const HOST: &str = "reviews.shop.svc.cluster.local";
const PORT: u16 = 8001;

/// Names of the pods of a label that run and are ready.
fn pods(cluster: &Cluster, namespace: &str, label: &str) -> Result<Vec<String>> {
    let words = ["get", "pods", "-n", namespace, "-l", label, "-o"];
    let path = "jsonpath={range .items[*]}{.metadata.name} {.metadata.deletionTimestamp} \
                {.status.conditions[?(@.type=='Ready')].status}{'\\n'}{end}";
    let text = cluster.kubectl(&[&words[..], &[path]].concat(), None)?;
    Ok(text.lines().filter_map(|line| line.strip_suffix("  True").map(str::to_owned)).collect())
}

fn wait_pods(cluster: &Cluster, namespace: &str, label: &str, count: usize) -> Result<Vec<String>> {
    eventually(&format!("{count} pods {label}"), Duration::from_secs(60), || {
        let ready = pods(cluster, namespace, label)?;
        if ready.len() != count {
            let state =
                cluster.kubectl(&["get", "pods", "-n", namespace, "-l", label, "-o", "wide"], None)?;
            anyhow::bail!("{state}");
        }
        Ok(ready)
    })
}

/// Clovisor as its users install it.
fn install(cluster: &Cluster) -> Result<Duration> {
    let begin = Instant::now();
    let base = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/agent");
    cluster.kubectl(&["apply", "--server-side", "-k", base], None)?;
    wait_pods(cluster, "clovisor-system", "app.kubernetes.io/name=clovisor-agent", 2)?;
    Ok(begin.elapsed())
}

fn example(cluster: &Cluster) -> Result<()> {
    cluster.apply(&file("target/tools/istio-crds.yaml")?)?;
    cluster.kubectl(&["create", "namespace", "shop"], None)?;
    let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"];
    cluster.kubectl(&established, None)?;
    cluster.apply(&(objects::link("s8", "") + &objects::link("s9", "")))?;
    cluster.apply(&objects::service(HOST, PORT, "HTTP", Site::service(false, APP_PORT)))?;
    cluster.apply(&objects::routes(HOST, &["boss", "minions"]))?;
    cluster.apply(&mappings(&["s9", "s8"]))?;
    Ok(())
}

fn mappings(minions: &[&str]) -> String {
    objects::mapping(&[HOST], "boss", &["s8", "s9"], "") + &objects::mapping(&[HOST], "minions", minions, "")
}

/// Three clients on the edge, with Envoys that read the agent's files.
fn clients(cluster: &Cluster) -> Result<Vec<String>> {
    let rules =
        concat!("--from-file=redirect.nft=", env!("CARGO_MANIFEST_DIR"), "/../deploy/envoy/redirect.nft");
    cluster.kubectl(&["create", "configmap", "clovisor-redirect", "-n", "shop", rules], None)?;
    let deployment = file("deploy/envoy/deployment.yaml")?
        .replace("image: nft ", "image: localhost/proxy:1 ")
        .replace("image: envoy ", "image: localhost/proxy:1 ")
        .replace("image: app\n", "image: localhost/pause:1\n")
        .replace("      initContainers:", "      nodeName: edge\n      initContainers:");
    cluster.apply(&deployment)?;
    wait_pods(cluster, "shop", "app=client", 3)
}

/// Mixed requests from a pod, each by its own link.
fn exact(cluster: &Cluster, pod: &str, minions: &str, requests: usize) -> Result<()> {
    let callers = vec![
        Caller::user("boss", "s8"),
        Caller::user("minions", minions),
        Caller::user("others", "s8").grouped("default"),
    ];
    let load = Load::new(Site::service(false, PORT), HOST, callers.clone()).over(Http::H1).requests(requests);
    let seen = load.run(&cluster.pod_netns("shop", pod)?)?;
    let tally = judge(&callers, &seen);
    ensure!(tally.clean() && tally.requests == requests, "{pod}: {tally:#?}");
    Ok(())
}

#[test]
fn a_real_cluster_steers_and_survives() -> Result<()> {
    Site::builder("nodes").pods(0).run(|site| {
        let begin = Instant::now();
        let mut cluster = Cluster::start(site, "nftables")?;
        eprintln!("nodes ready after {:.1?}", begin.elapsed());
        eprintln!("DaemonSet ready {:.1?} after its apply", install(&cluster)?);
        example(&cluster)?;
        let names = clients(&cluster)?;
        eprintln!("clients ready after {:.1?}", begin.elapsed());
        for pod in &names {
            exact(&cluster, pod, "s9", 700)?;
        }
        eprintln!("first 2,100 requests after {:.1?}", begin.elapsed());
        survive(&mut cluster, &names)
    })
}

/// What a cluster's life is made of.
fn survive(cluster: &mut Cluster, names: &[String]) -> Result<()> {
    let agent = "app.kubernetes.io/name=clovisor-agent";
    cluster.kubectl(&["delete", "pod", "-n", "clovisor-system", "-l", agent, "--wait=false"], None)?;
    for pod in names {
        exact(cluster, pod, "s9", 300)?;
    }
    wait_pods(cluster, "clovisor-system", agent, 2)?;
    let first = names.first().context("no pod")?;
    cluster.kubectl(&["delete", "pod", "-n", "shop", first], None)?;
    let names = wait_pods(cluster, "shop", "app=client", 3)?;
    for pod in &names {
        exact(cluster, pod, "s9", 300)?;
    }
    Ok(())
}
