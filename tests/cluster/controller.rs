//! The controller: numbers, statuses, Istio's objects in their order, and a second replica that waits.

use crate::kubernetes::{agents_kubeconfig, file, start, status};
use anyhow::{Context, Result, ensure};
use harness::agent::{Controller, NODE};
use harness::apiserver::{ApiServer, User};
use harness::eventually::eventually;
use harness::site::Site;
use serde_json::Value;
use std::time::Duration;

fn run(api: &ApiServer, site: &Site, name: &str) -> Result<Controller> {
    Controller::start(&site.edge, &site.path(""), name, &api.kubeconfig(User::Controller), &["--sidecars"])
}

fn get(api: &ApiServer, words: &[&str]) -> Result<Value> {
    let text = api.kubectl(User::Admin, &[&["get", "-o", "json"], words].concat(), None)?;
    serde_json::from_str(&text).context("not JSON")
}

/// Waits until the object says so.
fn says(api: &ApiServer, words: &[&str], what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually(what, Duration::from_secs(30), || {
        let object = get(api, words)?;
        ensure!(holds(&object), "{object:#}");
        Ok(object)
    })
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<(&'a str, &'a str)> {
    let all = object["status"]["conditions"].as_array()?;
    let one = all.iter().find(|c| c["type"] == kind)?;
    Some((one["status"].as_str()?, one["reason"].as_str()?))
}

fn names(api: &ApiServer, kind: &str) -> Result<Vec<String>> {
    let ours = get(api, &[kind, "-A", "-l", "app.kubernetes.io/managed-by=clovisor"])?;
    let items = ours["items"].as_array().context("no items")?;
    Ok(items.iter().filter_map(|i| i["metadata"]["name"].as_str().map(str::to_owned)).collect())
}

fn example(api: &ApiServer) -> Result<()> {
    for name in ["1-links", "2-service", "3-routes", "4-mappings", "5-crew"] {
        api.apply(&file(&format!("deploy/example/{name}.yaml"))?)?;
    }
    Ok(())
}

/// From `kubectl apply` to conditions, numbers and Istio's objects; and back to nothing.
#[test]
fn mappings_get_numbers_statuses_and_istios_objects() -> Result<()> {
    Site::builder("controller").run(|site| {
        let api = start(site)?;
        example(&api)?;
        let controller = run(&api, site, "first")?;
        let boss = ["wm", "boss", "-n", "shop"];
        let ready = |o: &Value| condition(o, "Ready") == Some(("True", "Steering"));
        let object = says(&api, &boss, "boss is ready", ready)?;
        ensure!(object["status"]["classes"][0]["number"] == 1, "{object:#}");
        ensure!(condition(&object, "Programmed") == Some(("True", "Written")), "{object:#}");
        ensure!(object["status"]["conditions"][0]["observedGeneration"] == object["metadata"]["generation"]);
        let filters = names(&api, "envoyfilters")?;
        ensure!(filters.contains(&"clovisor-boss-routes".to_owned()) && filters.len() == 7, "{filters:?}");
        ensure!(names(&api, "destinationrules")?.len() == 3);
        let owned = get(&api, &["envoyfilter", "clovisor-boss-routes", "-n", "shop"])?;
        ensure!(owned["metadata"]["ownerReferences"][0]["uid"] == object["metadata"]["uid"], "{owned:#}");
        let version = |o: &Value| o["metadata"]["resourceVersion"].clone();
        let (before, filter) = (version(&object), version(&owned));

        // Numbers outlive the controller, and nothing is written again.
        controller.kill()?;
        api.kubectl(User::Admin, &["delete", "lease", "clovisor-controller", "-n", "clovisor-system"], None)?;
        let second = run(&api, site, "second")?;
        says(&api, &["lease", "clovisor-controller", "-n", "clovisor-system"], "the second leads", |lease| {
            lease["spec"]["holderIdentity"] == "second"
        })?;
        let refused = "apiVersion: clovisor.io/v1alpha1\nkind: WanMapping\nmetadata: {name: late, namespace: shop}\n\
            spec: {targetRefs: [{group: networking.istio.io, kind: VirtualService, name: reviews, sectionName: boss}], links: [s8]}\n";
        api.apply(refused)?;
        let late = says(&api, &["wm", "late", "-n", "shop"], "the second mapping of a route is refused", |o| {
            condition(o, "Accepted") == Some(("False", "ClassNotSeparable"))
        })?;
        ensure!(late["status"]["classes"].is_null(), "{late:#}");
        ensure!(version(&get(&api, &boss)?) == before, "written again without a change");
        ensure!(version(&get(&api, &["envoyfilter", "clovisor-boss-routes", "-n", "shop"])?) == filter);
        let events = get(&api, &["events.events.k8s.io", "-n", "shop"])?.to_string();
        ensure!(events.contains("ClassNotSeparable") && events.contains("\"late\""), "{events}");
        let lines = api.kubectl(User::Admin, &["get", "wm", "-n", "shop"], None)?;
        ensure!(lines.contains("late      reviews   [\"s8\"]        False      False   ClassNotSeparable"), "{lines}");

        // What others change is put right with the next change; what nobody wants goes, routes first.
        api.kubectl(User::Admin, &["delete", "wm", "--all", "-n", "shop"], None)?;
        eventually("nothing of ours is left", Duration::from_secs(20), || {
            let left = [names(&api, "envoyfilters")?, names(&api, "destinationrules")?].concat();
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })?;
        ensure!(get(&api, &["destinationrules", "-n", "shop"])?["items"].as_array().is_some_and(|l| l.len() == 1));
        ensure!(second.stop()?, "it did not end");
        says(&api, &["lease", "clovisor-controller", "-n", "clovisor-system"], "the Lease is given back", |lease| {
            lease["spec"]["holderIdentity"].as_str().is_none_or(str::is_empty)
        })?;
        Ok(())
    })
}

/// The agent says how its node is, the controller sums up; a cut link is told within seconds.
#[test]
fn links_are_told_by_nodes_and_summed_up() -> Result<()> {
    Site::builder("wannode").sidecars().run(|site| {
        let api = start(site)?;
        let node = format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {NODE}}}\n");
        api.apply(&node)?;
        example(&api)?;
        let _controller = run(&api, site, "controller")?;
        site.use_kubernetes(agents_kubeconfig(&api));
        site.start_agent()?;
        status(site, "the agent has the controller's numbers", |s| {
            s["problems"].as_array().is_some_and(Vec::is_empty)
        })?;
        let own =
            says(&api, &["wannode", NODE], "the node's object", |o| o["status"]["linksReady"] == "2/2")?;
        ensure!(condition(&own, "Ready") == Some(("True", "Steering")), "{own:#}");
        ensure!(own["metadata"]["ownerReferences"][0]["kind"] == "Node", "{own:#}");
        says(&api, &["wl", "s9"], "the link's summary", |o| {
            o["status"]["nodes"] == "1/1" && condition(o, "Ready") == Some(("True", "AllNodes"))
        })?;
        site.carrier("s9", false)?;
        says(&api, &["wannode", NODE], "the cut", |o| condition(o, "Ready") == Some(("False", "LinkDown")))?;
        says(&api, &["wl", "s9"], "the cut in the summary", |o| {
            condition(o, "Ready") == Some(("False", "NoCarrier"))
        })?;
        says(&api, &["wm", "minions", "-n", "shop"], "the mapping is degraded", |o| {
            condition(o, "Degraded") == Some(("True", "LinkDown"))
                && condition(o, "Ready") == Some(("True", "Steering"))
        })?;
        let events = get(&api, &["events.events.k8s.io", "-A"])?.to_string();
        ensure!(
            events.contains("LinkDown")
                && events.contains("takes no traffic: the device is down or has no carrier"),
            "{events}"
        );
        let elsewhere = "apiVersion: clovisor.io/v1alpha1\nkind: WanLink\nmetadata: {name: elsewhere}\n\
            spec: {device: s7, gateway: {ipv4: 10.7.0.1}, nodeSelector: {site: other}}\n";
        site.edge.ip(&format!("link add s7 type veth peer name s7 netns {}\n", site.cloud.name()))?;
        site.cloud.ip("addr add 10.7.0.1/24 dev s7\nlink set s7 up\n")?;
        site.edge.ip("addr add 10.7.0.2/24 dev s7\nlink set s7 up\n")?;
        api.apply(elsewhere)?;
        says(&api, &["wl", "elsewhere"], "no node has it", |o| {
            condition(o, "Ready") == Some(("Unknown", "NoNode")) && o["status"]["nodes"] == "0/0"
        })?;
        api.kubectl(User::Admin, &["label", "node", NODE, "site=other"], None)?;
        says(&api, &["wl", "elsewhere"], "the node has it", |o| o["status"]["nodes"] == "1/1")?;
        let table = api.kubectl(User::Admin, &["get", "wl,wn"], None)?;
        ensure!(table.contains("s9       Active   False   NoCarrier   0/1"), "{table}");
        Ok(())
    })
}
