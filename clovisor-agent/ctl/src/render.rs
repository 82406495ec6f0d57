//! `clovisorctl render`: what a folder means for proxies.

use super::cli::{RenderArgs, Rendering};
use super::outcome::{Code, CtlError};
use super::output::yaml;
use super::sessions::known;
use super::table::counted;
use super::{folder, show};
use clovisor_objects::snapshot::Snapshot;
use clovisor_policy::allocation::{Allocation, Numbering};
use clovisor_policy::compile::{Proxies, Purpose, compile};
use clovisor_policy::compiled::Compiled;
use clovisor_render::istio;
use clovisor_render::istio::object::{IstioConfig, Phase};
use clovisor_render::namespace::render as files;
use clovisor_render::problems;
use clovisor_render::proxy::RenderConfig;
use std::collections::BTreeSet;

/// The documents; problems go to stderr, and leave their own objects out only.
pub(super) fn render(args: &RenderArgs) -> Result<String, CtlError> {
    let snapshot = folder::snapshot(&args.file)?;
    let proxies = match args.what {
        Rendering::Istio => Proxies::Sidecars,
        Rendering::Envoy => Proxies::Managed,
    };
    let purpose = Purpose { proxies, numbering: Numbering::Controller, local: false };
    let (mut compiled, _) = compile(&snapshot, &Allocation::default(), 1, purpose);
    if let Some(only) = &args.namespace {
        let namespaces = compiled.policy.namespaces.keys().cloned().collect::<Vec<_>>();
        known("namespace", only, &namespaces)?;
    }
    let is_wanted = |namespace: &str| args.namespace.as_deref().is_none_or(|only| only == namespace);
    let text = match args.what {
        Rendering::Istio => istio_objects(&snapshot, &compiled, is_wanted)?,
        Rendering::Envoy => envoy_files(&mut compiled, is_wanted)?,
    };
    let problems = problems::documents(&compiled.problems);
    eprint!("{}", show::problems(&problems));
    if problems.is_empty() {
        return Ok(text);
    }
    print!("{text}");
    let message =
        format!("{} in {}; the rest is printed", counted(problems.len(), "problem"), args.file.display());
    Err(CtlError { code: Code::ProblemsFound, message, fix: None })
}

fn istio_objects(
    snapshot: &Snapshot,
    compiled: &Compiled,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<String, CtlError> {
    let planned: Vec<_> =
        compiled.sidecars.iter().filter(|s| is_wanted(&s.mapping.namespace)).cloned().collect();
    let mut text = String::new();
    let mut phase = None;
    for object in istio::objects(snapshot, &planned, &IstioConfig::default()) {
        if phase != Some(object.phase) {
            text += match object.phase {
                Phase::Classes => "# Write these first: classes. To take Clovisor away, remove them last.\n",
                Phase::Routes => {
                    "# Write these when the proxies have the classes: routes. To take Clovisor away, remove \
                     them first.\n"
                }
            };
            phase = Some(object.phase);
        }
        text += "---\n";
        text += &yaml(&object.document())?;
    }
    numbers_given(snapshot, &planned.iter().map(|s| s.mapping.to_string()).collect());
    Ok(text)
}

/// Node agents must have the same numbers: they read them from the status.
fn numbers_given(snapshot: &Snapshot, planned: &BTreeSet<String>) {
    let new = snapshot
        .mappings
        .iter()
        .filter(|(key, m)| m.classes.is_empty() && planned.contains(&key.to_string()));
    let new: Vec<_> = new.map(|(key, _)| key.to_string()).collect();
    if !new.is_empty() {
        eprintln!(
            "class numbers given here, since they have none in their status: {}; on a cluster render what \
             `kubectl get -o yaml` prints, after the controller has seen it",
            new.join(", ")
        );
    }
}

fn envoy_files(compiled: &mut Compiled, is_wanted: impl Fn(&str) -> bool) -> Result<String, CtlError> {
    let mut text = String::new();
    for namespace in compiled.policy.namespaces.keys().filter(|name| is_wanted(name)) {
        let mut rendered = files(namespace, &compiled.policy, &RenderConfig::default());
        for (name, file) in &rendered.files {
            text += &format!("---\n# {namespace}/{name}\n");
            text += &yaml(&serde_json::from_str::<serde_json::Value>(file).unwrap_or_default())?;
        }
        compiled.problems.append(&mut rendered.problems);
    }
    Ok(text)
}
