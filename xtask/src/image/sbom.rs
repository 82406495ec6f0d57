//! What is in the binaries, as CycloneDX 1.5: the crates of the locked dependency graph.

use crate::shell;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The inventory of `clovisor-agent` and what it is built from.
pub(super) fn cyclonedx() -> Result<String> {
    let mut cargo = shell::cargo();
    cargo.args(["metadata", "--locked", "--format-version", "1"]);
    let metadata: Value =
        serde_json::from_str(&shell::output(&mut cargo)?).context("cargo printed no JSON")?;
    let root = metadata["packages"].as_array().into_iter().flatten().find(|p| p["name"] == "clovisor-agent");
    let root = root.and_then(|p| p["id"].as_str()).context("no package clovisor-agent")?;
    let reached = reached(&metadata["resolve"]["nodes"], root);
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let components: Vec<Value> =
        packages.filter(|p| p["id"].as_str().is_some_and(|id| reached.contains(id))).map(component).collect();
    let document = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": { "component": {
            "type": "application", "name": "clovisor", "version": env!("CARGO_PKG_VERSION"),
        } },
        "components": components,
    });
    serde_json::to_string_pretty(&document).context("write the inventory")
}

/// Normal and build dependencies of `root`, and itself.
fn reached<'a>(nodes: &'a Value, root: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![root];
    while let Some(id) = open.pop() {
        if !reached.insert(id) {
            continue;
        }
        let node = nodes.as_array().into_iter().flatten().find(|node| node["id"] == id);
        for dependency in node.and_then(|node| node["deps"].as_array()).into_iter().flatten() {
            let kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
            if kinds.into_iter().any(|kind| kind["kind"] != "dev") {
                open.extend(dependency["pkg"].as_str());
            }
        }
    }
    reached
}

fn component(package: &Value) -> Value {
    let (name, version) = (&package["name"], &package["version"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    json!({
        "type": "library", "name": name, "version": version,
        "purl": format!("pkg:cargo/{}@{}", text(name), text(version)),
        "licenses": [{ "expression": package["license"] }],
    })
}
