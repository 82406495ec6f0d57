//! Rendered files of a namespace before the real Envoy, which says whether it would take them.

use anyhow::{Context, Result};
use clovisor_render::namespace::Files;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Envoy's objection to the files; none: it takes them. `folder` is where the files say that they are.
pub fn objection(envoy: &Path, files: &Files, folder: &Path) -> Result<Option<String>> {
    for (name, text) in files {
        fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    let whole = folder.join("whole.json");
    fs::write(&whole, whole_configuration(files)?.to_string()).context("cannot write the configuration")?;
    let mut command = Command::new(envoy);
    command.args(["--mode", "validate", "--log-level", "error", "-c"]).arg(&whole);
    let output = command.output().context("Envoy did not start")?;
    if output.status.success() {
        return Ok(None);
    }
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    Ok(Some(said.trim().chars().take(2000).collect()))
}

/// Everything in one static configuration: Envoy validates no files that it would watch.
fn whole_configuration(files: &Files) -> Result<Value> {
    let parsed = |name: &str| -> Result<Value> {
        let text = files.get(name).with_context(|| format!("no {name} among the files"))?;
        serde_json::from_str(text).with_context(|| format!("{name} is no JSON"))
    };
    let bootstrap = parsed("bootstrap.json")?;
    let mut clusters = list(&bootstrap["static_resources"]["clusters"]);
    clusters.extend(list(&parsed("cds.json")?["resources"]).into_iter().map(untyped));
    let mut listeners = Vec::new();
    for mut listener in list(&parsed("lds.json")?["resources"]).into_iter().map(untyped) {
        for chain in listener["filter_chains"].as_array_mut().into_iter().flatten() {
            let Some(manager) = chain["filters"][0]["typed_config"].as_object_mut() else { continue };
            let Some(rds) = manager.remove("rds") else { continue };
            let name = rds["route_config_name"].as_str().unwrap_or_default();
            let routes = parsed(&format!("rds-{name}.json"))?;
            let routes = list(&routes["resources"]).into_iter().next().map(untyped).unwrap_or_default();
            manager.insert("route_config".into(), routes);
        }
        listeners.push(listener);
    }
    Ok(
        json!({ "node": bootstrap["node"], "static_resources": { "clusters": clusters, "listeners": listeners } }),
    )
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// A resource that stands where its type is known.
fn untyped(mut resource: Value) -> Value {
    if let Some(fields) = resource.as_object_mut() {
        fields.remove("@type");
    }
    resource
}
