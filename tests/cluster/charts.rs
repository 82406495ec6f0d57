//! The Helm charts say what the kustomize bases say.

use crate::kubernetes::file;
use anyhow::{Context, Result, ensure};
use harness::netns::run;
use harness::repository;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// Kind, namespace and name to the object without its labels.
fn objects(text: &str) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for document in text.split("\n---").filter(|text| text.contains("kind:")) {
        let mut object: Value = serde_saphyr::from_str(document).with_context(|| document.to_owned())?;
        let metadata = &object["metadata"];
        let key = format!("{} {}", object["kind"], metadata["name"]);
        object["metadata"] = Value::Null;
        all.insert(key.replace('"', ""), object);
    }
    Ok(all)
}

fn tool(name: &str, words: &[&str]) -> Result<BTreeMap<String, Value>> {
    let path = repository::path("target/tools").join(name);
    let text = run(Command::new(path).current_dir(repository::path("")).args(words), None)?;
    objects(&format!("\n{text}"))
}

fn helm(values: &[&str]) -> Result<BTreeMap<String, Value>> {
    let words = [
        "template",
        "clovisor",
        "deploy/helm/clovisor",
        "--namespace",
        "clovisor-system",
        "--kube-version",
        "1.36.3",
    ];
    tool("helm", &[&words[..], values].concat())
}

fn kustomize(folder: &str) -> Result<BTreeMap<String, Value>> {
    let mut all = tool("kubectl", &["kustomize", folder])?;
    // Of a chart of its own, and of --create-namespace.
    all.retain(|key, _| !key.starts_with("CustomResourceDefinition") && !key.starts_with("Namespace"));
    Ok(all)
}

#[test]
fn charts_and_bases_are_the_same() -> Result<()> {
    let same = |what: &str, chart: BTreeMap<String, Value>, base: BTreeMap<String, Value>| {
        ensure!(
            chart.len() > 8 && chart.keys().eq(base.keys()),
            "{what}: {:?} {:?}",
            chart.keys(),
            base.keys()
        );
        for (key, object) in &chart {
            ensure!(base.get(key) == Some(object), "{what}: {key}: {object:#}\n{:#}", base[key]);
        }
        Ok(())
    };
    same("managed", helm(&[])?, kustomize("deploy/agent")?)?;
    let mut sidecars = helm(&["--set", "sidecars=true"])?;
    let mut overlay = kustomize("deploy/agent/overlays/sidecars")?;
    for all in [&mut sidecars, &mut overlay] {
        // Order of flags, and one that says its default.
        for object in all.values_mut() {
            let args =
                object.pointer_mut("/spec/template/spec/containers/0/args").and_then(Value::as_array_mut);
            if let Some(args) = args {
                args.retain(|arg| arg != "--manage-istio=true");
                args.sort_by_key(ToString::to_string);
            }
        }
    }
    same("sidecars", sidecars, overlay)?;
    let crds = tool("helm", &["template", "crds", "deploy/helm/clovisor-crds"])?;
    ensure!(crds == objects(&format!("\n{}", file("deploy/crd/clovisor.yaml")?))?, "the CRDs differ");
    run(
        Command::new(repository::path("target/tools/helm")).current_dir(repository::path("")).args([
            "lint",
            "--strict",
            "deploy/helm/clovisor",
            "deploy/helm/clovisor-crds",
        ]),
        None,
    )?;
    Ok(())
}

/// The kinds for a cluster without Istio are Istio's own, in the newest version.
#[test]
fn standalone_kinds_are_istios() -> Result<()> {
    let ours = objects(&file("deploy/agent/overlays/standalone-crds/istio.yaml")?)?;
    let theirs = objects(&file("target/tools/istio-crds.yaml")?)?;
    ensure!(ours.len() == 3, "{:?}", ours.keys());
    for (key, object) in &ours {
        let v1 = |object: &Value| {
            let versions = object["spec"]["versions"].as_array().into_iter().flatten();
            let mut v1: Vec<Value> = versions.filter(|v| v["name"] == "v1").cloned().collect();
            v1.iter_mut().for_each(|version| version["storage"] = Value::Bool(true));
            let names = ["group", "names", "scope"].map(|name| object["spec"][name].clone());
            (v1, names)
        };
        let istio = theirs.get(key).with_context(|| format!("Istio has no {key}"))?;
        ensure!(v1(object) == v1(istio) && v1(object).0.len() == 1, "{key} differs from Istio's");
    }
    Ok(())
}
