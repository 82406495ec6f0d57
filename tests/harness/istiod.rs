//! A stand-in for Istio's control plane: puts class subsets and patches into the configuration of a proxy, by the
//! rules that the real one was seen to follow. It knows no VirtualServices: the routes are there already.

use anyhow::{Context, Result};
use clovisor_render::istio::object::{IstioKind, IstioObject};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The files of a proxy, by name.
pub type Files = BTreeMap<String, Value>;

/// The members of a route's choice of a cluster: of these one holds.
const CHOICES: [&str; 4] =
    ["cluster", "cluster_header", "weighted_clusters", "inline_cluster_specifier_plugin"];

/// Applies the objects; the patches that changed nothing, of which the real one says nothing.
pub fn apply(files: &mut Files, objects: &[IstioObject]) -> Result<Vec<Value>> {
    let mut idle = Vec::new();
    for object in objects.iter().filter(|object| object.kind == IstioKind::DestinationRule) {
        subsets(files, &object.spec)?;
    }
    for object in objects.iter().filter(|object| object.kind == IstioKind::EnvoyFilter) {
        let patches = object.spec["configPatches"].as_array().context("no patches")?;
        for one in patches {
            if patch(files, one) == 0 {
                idle.push(one.clone());
            }
        }
    }
    Ok(idle)
}

/// A cluster for each subset of a rule, like the one without a subset.
fn subsets(files: &mut Files, rule: &Value) -> Result<()> {
    let host = rule["host"].as_str().context("no host")?;
    for subset in rule["subsets"].as_array().into_iter().flatten() {
        let name = subset["name"].as_str().context("no name")?;
        let all = clusters(files)?;
        let base: Vec<_> =
            all.iter().filter(|c| part(c, 3) == Some(host) && part(c, 2) == Some("")).cloned().collect();
        for mut cluster in base {
            let port = part(&cluster, 1).unwrap_or_default().to_owned();
            let full = json!(format!("outbound|{port}|{name}|{host}"));
            cluster["load_assignment"]["cluster_name"] = full.clone();
            cluster["name"] = full;
            all.push(cluster);
        }
    }
    Ok(())
}

fn clusters(files: &mut Files) -> Result<&mut Vec<Value>> {
    let list = files.get_mut("cds.json").and_then(|file| file["resources"].as_array_mut());
    list.context("no clusters")
}

/// A part of `outbound|PORT|SUBSET|HOST`.
fn part(cluster: &Value, index: usize) -> Option<&str> {
    cluster["name"].as_str()?.split('|').nth(index)
}

/// How many places the patch changes.
fn patch(files: &mut Files, patch: &Value) -> usize {
    let (condition, operation) = (&patch["match"], patch["patch"]["operation"].as_str().unwrap_or_default());
    let value = &patch["patch"]["value"];
    let mut changed = 0;
    match (patch["applyTo"].as_str().unwrap_or_default(), operation) {
        ("CLUSTER", "ADD") => {
            if let Ok(list) = clusters(files) {
                let mut cluster = value.clone();
                cluster["@type"] = json!("type.googleapis.com/envoy.config.cluster.v3.Cluster");
                // Of two with one name the control plane keeps one.
                if list.iter().all(|c| c["name"] != cluster["name"]) {
                    list.push(cluster);
                }
                changed += 1;
            }
        }
        ("CLUSTER", "MERGE") => {
            let subset = condition["cluster"]["subset"].as_str();
            for cluster in
                files.get_mut("cds.json").and_then(|f| f["resources"].as_array_mut()).into_iter().flatten()
            {
                let is_plain = cluster["name"].as_str().is_some_and(|name| name.starts_with("outbound|"));
                if is_plain && part(cluster, 2) == subset {
                    merge(cluster, value);
                    changed += 1;
                }
            }
        }
        ("HTTP_ROUTE", "MERGE") => {
            for file in files.iter_mut().filter(|(name, _)| name.starts_with("rds-")).map(|(_, file)| file) {
                changed += routes(file, &condition["routeConfiguration"]["vhost"], value);
            }
        }
        ("NETWORK_FILTER", "MERGE") => {
            each_manager(files, |filter| {
                merge(filter, value);
                changed += 1;
            });
        }
        ("HTTP_FILTER", "INSERT_BEFORE") => each_manager(files, |filter| {
            if let Some(list) = filter["typed_config"]["http_filters"].as_array_mut() {
                let router = list.iter().position(|f| f["name"] == "envoy.filters.http.router");
                list.insert(router.unwrap_or(0), value.clone());
                changed += 1;
            }
        }),
        _ => {}
    }
    changed
}

fn routes(file: &mut Value, vhost: &Value, value: &Value) -> usize {
    let mut changed = 0;
    let tables = file["resources"].as_array_mut().into_iter().flatten();
    let hosts = tables.flat_map(|table| table["virtual_hosts"].as_array_mut().into_iter().flatten());
    for host in hosts.filter(|host| host["name"] == vhost["name"]) {
        let wanted = vhost.pointer("/route/name");
        for route in host["routes"].as_array_mut().into_iter().flatten() {
            if wanted.is_none_or(|name| route["name"] == *name) {
                let chosen = value["route"].as_object().into_iter().flatten().map(|(key, _)| key.as_str());
                if let (Some(chosen), Some(old)) =
                    (chosen.into_iter().find(|key| CHOICES.contains(key)), route["route"].as_object_mut())
                {
                    old.retain(|key, _| key == chosen || !CHOICES.contains(&key.as_str()));
                }
                merge(route, value);
                changed += 1;
            }
        }
    }
    changed
}

fn each_manager(files: &mut Files, mut change: impl FnMut(&mut Value)) {
    let listeners = files.get_mut("lds.json").and_then(|file| file["resources"].as_array_mut());
    for listener in listeners.into_iter().flatten() {
        for chain in listener["filter_chains"].as_array_mut().into_iter().flatten() {
            let filters = chain["filters"].as_array_mut().into_iter().flatten();
            filters
                .filter(|f| f["name"] == "envoy.filters.network.http_connection_manager")
                .for_each(&mut change);
        }
    }
}

/// As protobuf merges: messages field by field, lists one after the other, the rest replaced.
fn merge(old: &mut Value, new: &Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                merge(old.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(old), Value::Array(new)) => old.extend(new.iter().cloned()),
        (old, new) => *old = new.clone(),
    }
}
