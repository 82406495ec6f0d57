//! Everything that a report of a fault needs, in a folder. Secrets and pods of others are not read.

use super::agents::{AT_ONCE, Agents};
use super::cli::FleetCli;
use super::failures::why;
use crate::outcome::{Code, CtlError};
use crate::table::counted;
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, LogParams};
use std::path::{Path, PathBuf};

/// Kind, group, version, plural, labels.
const OBJECTS: [(&str, &str, &str, &str, &str); 10] = [
    ("WanLink", "clovisor.io", "v1alpha1", "wanlinks", ""),
    ("WanMapping", "clovisor.io", "v1alpha1", "wanmappings", ""),
    ("WanNode", "clovisor.io", "v1alpha1", "wannodes", ""),
    ("VirtualService", "networking.istio.io", "v1", "virtualservices", ""),
    ("DestinationRule", "networking.istio.io", "v1", "destinationrules", ""),
    (
        "EnvoyFilter",
        "networking.istio.io",
        "v1alpha3",
        "envoyfilters",
        "app.kubernetes.io/managed-by=clovisor",
    ),
    ("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies", ""),
    ("ServiceEntry", "networking.istio.io", "v1", "serviceentries", ""),
    ("HTTPRoute", "gateway.networking.k8s.io", "v1", "httproutes", ""),
    ("Node", "", "v1", "nodes", ""),
];

/// Lines of each log.
const LINES: i64 = 5000;

/// Writes the folder; what cannot be had is named in `missing.txt`.
pub(super) async fn run(cli: &FleetCli, agents: &Agents, folder: Option<&Path>) -> Result<String, CtlError> {
    let time = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let folder = folder.map_or_else(|| PathBuf::from(format!("clovisor-sysdump-{time}")), Path::to_owned);
    std::fs::create_dir(&folder).map_err(|e| {
        CtlError::new(
            Code::BadInput,
            format!("{}: {e}", folder.display()),
            "name a folder that does not exist",
        )
    })?;
    let mut dump = Sysdump { folder, missing: Vec::new() };
    for (kind, group, version, plural, labels) in OBJECTS {
        let slash = if group.is_empty() { "" } else { "/" };
        let resource = ApiResource {
            group: group.into(),
            version: version.into(),
            api_version: format!("{group}{slash}{version}"),
            kind: kind.into(),
            plural: plural.into(),
        };
        let api: Api<DynamicObject> = Api::all_with(agents.client.clone(), &resource);
        let listed = api.list(&ListParams::default().labels(labels)).await;
        if matches!(&listed, Err(kube::Error::Api(status)) if status.code == 404) {
            continue; // the cluster has no such kind
        }
        dump.keep(&format!("{plural}.json"), listed.map_err(|e| why(&e)).and_then(|l| json(&l.items)))?;
    }
    let pods: Api<Pod> = Api::namespaced(agents.client.clone(), &cli.clovisor_namespace);
    let ours = pods.list(&ListParams::default()).await.map_err(|e| agents.refused(&e))?;
    dump.keep("pods.json", json(&ours.items))?;
    for pod in &ours.items {
        let name = pod.name_any();
        for (previous, suffix) in [(false, ""), (true, ".previous")] {
            let params = LogParams { tail_lines: Some(LINES), previous, ..LogParams::default() };
            match pods.logs(&name, &params).await {
                Ok(text) => dump.keep(&format!("{name}{suffix}.log"), Ok(text))?,
                // Most have no previous container.
                Err(_) if previous => {}
                Err(error) => dump.keep(&format!("{name}.log"), Err(why(&error)))?,
            }
        }
    }
    let questions =
        agents.pods.iter().flat_map(|pod| ["status", "links", "sessions"].map(|what| (pod, what)));
    let asked = questions.map(async |((node, pod), what)| {
        (format!("{node}-{what}.json"), agents.exec(pod, &[what, "-o", "json"]).await)
    });
    let mut asked = stream::iter(asked).buffered(AT_ONCE);
    while let Some((file, answer)) = asked.next().await {
        dump.keep(&file, answer)?;
    }
    dump.end()
}

fn json(value: &impl serde::Serialize) -> Result<String, String> {
    serde_json::to_string_pretty(value).map_err(|e| e.to_string())
}

struct Sysdump {
    folder: PathBuf,
    missing: Vec<String>,
}

impl Sysdump {
    fn keep(&mut self, name: &str, content: Result<String, String>) -> Result<(), CtlError> {
        match content {
            Ok(text) => self.write(name, &text),
            Err(why) => {
                self.missing.push(format!("{name}: {why}"));
                Ok(())
            }
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<(), CtlError> {
        let path = self.folder.join(name);
        std::fs::write(&path, text).map_err(|e| {
            CtlError::new(Code::Failed, format!("{}: {e}", path.display()), "is there room on the disk?")
        })
    }

    fn end(self) -> Result<String, CtlError> {
        if !self.missing.is_empty() {
            self.write("missing.txt", &(self.missing.join("\n") + "\n"))?;
            eprintln!("{} could not be had; missing.txt says which", counted(self.missing.len(), "thing"));
        }
        Ok(format!("{}\n", self.folder.display()))
    }
}
