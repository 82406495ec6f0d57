//! A large mesh: how long a change takes, what a restart of the API server writes, and how much memory it costs.

use crate::kubernetes::{agents_kubeconfig, start, status};
use anyhow::{Context, Result, ensure};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use harness::agent::NODE;
use harness::apiserver::{ApiServer, User};
use harness::eventually::eventually;
use harness::site::Site;
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const NAMESPACES: usize = 50;
/// Services and VirtualServices of a namespace; every second has a mapping.
const SERVICES: usize = 20;
const PODS: usize = 5000;
const MIB: u64 = 1 << 20;

/// Creates the objects, many at a time.
fn create(site: &Site, api: &ApiServer, objects: &[Value]) -> Result<()> {
    let kubeconfig = api.kubeconfig(User::Admin);
    let work = async {
        let file = Kubeconfig::read_from(kubeconfig).context("no kubeconfig")?;
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        let client = kube::Client::try_from(config)?;
        let one = async |object: &Value| -> Result<()> {
            let word = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let api_version = word("/apiVersion");
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            let kind = word("/kind");
            let plural = match kind {
                "ServiceEntry" => "serviceentries".into(),
                kind => format!("{}s", kind.to_lowercase()),
            };
            let resource = ApiResource {
                group: group.into(),
                version: version.into(),
                api_version: api_version.into(),
                kind: kind.into(),
                plural,
            };
            let object: DynamicObject = serde_json::from_value(object.clone())?;
            let api: Api<DynamicObject> = match word_of(&object) {
                Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            };
            api.create(&PostParams::default(), &object).await.map(drop).with_context(|| format!("{object:?}"))
        };
        stream::iter(objects.iter().map(one)).buffer_unordered(32).try_collect::<()>().await
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    site.edge.within(|| runtime.block_on(work))?
}

fn word_of(object: &DynamicObject) -> Option<String> {
    object.metadata.namespace.clone()
}

fn object(version: &str, kind: &str, namespace: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": version, "kind": kind, "metadata": { "namespace": namespace, "name": name }, "spec": spec })
}

fn namespaces() -> Vec<Value> {
    let one =
        |n| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": format!("team-{n}") } });
    let account = |n| {
        let metadata = json!({ "name": "default", "namespace": format!("team-{n}") });
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata })
    };
    (0..NAMESPACES).flat_map(|n| [one(n), account(n)]).collect()
}

fn mesh() -> Vec<Value> {
    let mut all = Vec::new();
    // The one with clients here comes last.
    for n in (0..NAMESPACES).rev() {
        let namespace = format!("team-{n}");
        for s in 0..SERVICES {
            let (name, host) = (format!("svc-{s}"), format!("svc-{s}.{namespace}.example.com"));
            let (istio, clovisor) = ("networking.istio.io/v1", "clovisor.io/v1alpha1");
            all.push(object(istio, "ServiceEntry", &namespace, &name, &json!({
                "hosts": [host], "resolution": "STATIC", "ports": [{ "number": 8000, "name": "http", "protocol": "HTTP" }],
                "endpoints": [{ "address": format!("198.18.{n}.{s}") }],
            })));
            let to = json!([{ "destination": { "host": host } }]);
            all.push(object(
                istio,
                "VirtualService",
                &namespace,
                &name,
                &json!({ "hosts": [host], "http": [
                { "name": "special", "match": [{ "headers": { "user": { "exact": "boss" } } }], "route": to },
                { "name": "rest", "route": to },
            ] }),
            ));
            if s % 2 == 0 {
                let target = json!({ "group": "networking.istio.io", "kind": "VirtualService", "name": name, "sectionName": "special" });
                all.push(object(
                    clovisor,
                    "WanMapping",
                    &namespace,
                    &name,
                    &json!({ "targetRefs": [target], "links": ["s9", "s8"] }),
                ));
            }
        }
    }
    all
}

/// `spread`: over so many namespaces.
fn pods(count: usize, node: &str, prefix: &str, spread: usize) -> Vec<Value> {
    let one = |n: usize| {
        let spec = json!({ "nodeName": node, "containers": [{ "name": "app", "image": "none" }] });
        object("v1", "Pod", &format!("team-{}", n % spread), &format!("{prefix}-{n}"), &spec)
    };
    (0..count).map(one).collect()
}

fn writes(site: &mut Site) -> Result<u64> {
    site.agent()?.json("/v1/status")?["mapWrites"].as_u64().context("no count of writes")
}

/// 1,000 VirtualServices and 500 mappings; then 5,000 pods, of which 50 are here.
#[test]
fn a_large_mesh_converges_and_costs_little() -> Result<()> {
    Site::builder("scale").image_binary().run(|site| {
        let mut api = start(site)?;
        api.apply(&(harness::objects::link("s8", "") + &harness::objects::link("s9", "")))?;
        create(site, &api, &namespaces())?;
        create(site, &api, &pods(50, NODE, "near", 1))?;
        site.use_kubernetes(agents_kubeconfig(&api));
        site.start_agent()?;
        let empty = site.agent()?.memory()?;
        create(site, &api, &mesh())?;
        let begin = Instant::now();
        let classes = |s: &Value| {
            let maps = s["maps"].as_array().into_iter().flatten();
            maps.filter(|map| map["map"] == "CLASSES").any(|map| map["entries"] == SERVICES / 2)
        };
        let is_in_force = |s: &Value| classes(s) && s["proxiesCurrent"] == true && s["problems"] == json!([]);
        status(site, "the mappings of the node's namespace in force", is_in_force)?;
        let (all, full) = (begin.elapsed(), site.agent()?.memory()?);
        eprintln!(
            "in force {all:.1?} after the last of 2,500 objects; memory {} -> {} MiB",
            empty / MIB,
            full / MIB
        );

        // Several, so that what compiling and writing needs for a moment is in the memory that counts.
        for links in [["s8"], ["s9"], ["s8"], ["s9"]] {
            let generation = site.agent()?.json("/v1/status")?["policyGeneration"].as_u64();
            let begin = Instant::now();
            let patch = json!({ "spec": { "links": links } }).to_string();
            let words = ["patch", "wm", "svc-0", "-n", "team-0", "--type=merge", "-p", &patch];
            api.kubectl(User::Admin, &words, None)?;
            status(site, "the change", |s| {
                s["policyGeneration"].as_u64() > generation && s["proxiesCurrent"] == true
            })?;
            eprintln!("one change in force after {:.1?}", begin.elapsed());
        }

        let memory = site.agent()?.memory()?;
        create(site, &api, &pods(PODS - 50, "elsewhere", "far", NAMESPACES))?;
        create(site, &api, &pods(1, NODE, "last", 1))?;
        status(site, "one more pod", |s| s["pods"].as_array().is_some_and(|pods| pods.len() == 51))?;
        // Compiling and saving need some MiB for a moment.
        let grown = eventually("the memory for 5,000 pods", Duration::from_secs(10), || {
            let grown = site.agent()?.memory()?;
            ensure!(grown <= memory + 2 * MIB, "grown by {} KiB", (grown - memory) >> 10);
            Ok(grown)
        })?;
        eprintln!("memory {} -> {} KiB with 5,000 pods, 51 of them here", memory >> 10, grown >> 10);

        let before = writes(site)?;
        api.kill()?;
        api.restart(&site.path(""))?;
        create(site, &api, &pods(1, NODE, "again", 1))?;
        // What is heard last has been heard after everything else was listed again.
        status(site, "the last pod", |s| s["pods"].as_array().is_some_and(|pods| pods.len() == 52))?;
        ensure!(writes(site)? == before, "{} map writes without a change", writes(site)? - before);
        let end = site.agent()?.memory()?;
        eprintln!("memory {} MiB after everything was listed again", end / MIB);
        ensure!(full.max(end) <= 48 * MIB, "{} MiB", full.max(end) / MIB);
        Ok(())
    })
}
