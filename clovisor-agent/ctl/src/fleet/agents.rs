//! Runs `clovisorctl` in the agents' pods.

use super::cli::FleetCli;
use super::failures::{self, innermost, no_clients, of_kubeconfig, unreachable, why};
use crate::cli::Output;
use crate::outcome::{Code, CtlError};
use crate::sessions::known;
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config, ResourceExt as _};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

/// An agent behind a slow WAN.
const PATIENCE: Duration = Duration::from_secs(20);
/// Agents that are asked at the same time: each takes a connection through the API server.
pub(super) const AT_ONCE: usize = 50;
const AGENTS: &str = "app.kubernetes.io/name=clovisor-agent";

/// The agents of a cluster.
pub(super) struct Agents {
    pub(super) client: Client,
    pub(super) namespace: String,
    /// Address of the API server.
    server: String,
    default_namespace: String,
    /// Node and pod.
    pub(super) pods: Vec<(String, String)>,
}

/// The answers of the nodes, and the nodes that did not answer.
pub(super) struct NodeAnswers<T> {
    pub(super) got: Vec<(String, T)>,
    pub(super) failed: Vec<(String, String)>,
}

impl Agents {
    /// Finds the agents that the words mean.
    pub(super) async fn connect(cli: &FleetCli) -> Result<Self, CtlError> {
        let no_way = |e: &dyn std::error::Error| unreachable("no way to a cluster", &innermost(e));
        let no_kubeconfig = |e: &KubeconfigError| unreachable("no way to a cluster", &of_kubeconfig(e));
        let options = KubeConfigOptions { context: cli.context.clone(), ..KubeConfigOptions::default() };
        let kubeconfig = Kubeconfig::read();
        let config = match (kubeconfig, &cli.context) {
            (Ok(file), context) => {
                let contexts: Vec<_> = file.contexts.iter().map(|known| known.name.clone()).collect();
                context.iter().try_for_each(|name| known("context", name, &contexts))?;
                let config = Config::from_custom_kubeconfig(file, &options).await;
                config.map_err(|e| unreachable("no way to a cluster", &of_kubeconfig(&e)))?
            }
            (Err(_), None) if is_in_cluster() => Config::incluster().map_err(|e| no_way(&e))?,
            (Err(error), _) => return Err(no_kubeconfig(&error)),
        };
        let default_namespace = config.default_namespace.clone();
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|e| no_way(&e))?;
        let api: Api<Pod> = Api::namespaced(client.clone(), &cli.clovisor_namespace);
        let list = api
            .list(&ListParams::default().labels(AGENTS))
            .await
            .map_err(|e| failures::refused(&server, &e))?;
        let place = |pod: Pod| Some((pod.spec.as_ref()?.node_name.clone()?, pod.name_any()));
        let mut pods: Vec<_> = list.into_iter().filter_map(place).collect();
        let nodes: Vec<_> = pods.iter().map(|(node, _)| node.clone()).collect();
        cli.nodes.iter().try_for_each(|node| known("agent on node", node, &nodes))?;
        pods.retain(|(node, _)| cli.nodes.is_empty() || cli.nodes.contains(node));
        pods.sort();
        Ok(Self { client, namespace: cli.clovisor_namespace.clone(), server, default_namespace, pods })
    }

    /// A request to the API server that failed.
    pub(super) fn refused(&self, error: &kube::Error) -> CtlError {
        failures::refused(&self.server, error)
    }

    fn gone(pod: &str) -> CtlError {
        CtlError {
            code: Code::Failed,
            message: format!("pod {pod} has just come or gone; ask again"),
            fix: None,
        }
    }

    /// Asks every agent, many at once; the answers are JSON.
    pub(super) async fn ask<T: DeserializeOwned>(&self, words: &[&str]) -> Result<NodeAnswers<T>, CtlError> {
        if self.pods.is_empty() {
            let message = format!("no agent in namespace {}", self.namespace);
            return Err(CtlError::new(
                Code::NoAgent,
                message,
                "install it, or name its --clovisor-namespace and --node",
            ));
        }
        let asked = self.pods.iter().map(async |(node, pod)| (node.clone(), self.exec(pod, words).await));
        let mut answers = NodeAnswers { got: Vec::new(), failed: Vec::new() };
        let mut asked = stream::iter(asked).buffered(AT_ONCE);
        while let Some((node, text)) = asked.next().await {
            match text.and_then(|text| parsed(&text)) {
                Ok(answer) => answers.got.push((node, answer)),
                Err(why) => answers.failed.push((node, why)),
            }
        }
        Ok(answers)
    }

    /// Runs `clovisorctl` in an agent's pod; its output, or why there is none.
    pub(super) async fn exec(&self, pod: &str, words: &[&str]) -> Result<String, String> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let command = std::iter::once("/clovisorctl").chain(words.iter().copied());
        let command: Vec<_> = command.map(str::to_owned).collect();
        let asked = async {
            let params = AttachParams::default().stdout(true).stderr(true);
            let mut process = api.exec(pod, command, &params).await.map_err(|e| self.not_run(pod, &e))?;
            let (mut text, mut words) = (String::new(), String::new());
            if let (Some(mut out), Some(mut err)) = (process.stdout(), process.stderr()) {
                let (a, b) = tokio::join!(out.read_to_string(&mut text), err.read_to_string(&mut words));
                a.and(b).map_err(|e| e.to_string())?;
            }
            let status = match process.take_status() {
                Some(status) => status.await,
                None => None,
            };
            match status {
                Some(status) if status.status.as_deref() == Some("Success") => Ok(text),
                _ if !words.trim().is_empty() => Err(words.trim().to_owned()),
                Some(Status { message: Some(message), .. }) => Err(message),
                _ => Err("the connection to the pod ended without a result".into()),
            }
        };
        timeout(PATIENCE, asked)
            .await
            .unwrap_or_else(|_| Err(format!("no answer in {} s", PATIENCE.as_secs())))
    }

    /// Why nothing ran in an agent's pod: where the API server does not switch to a stream, its answer is a number.
    fn not_run(&self, pod: &str, error: &kube::Error) -> String {
        use kube::client::UpgradeConnectionError::ProtocolSwitch;
        match error {
            kube::Error::UpgradeConnection(ProtocolSwitch(code)) if *code == 403 => {
                format!("you may not create pods/exec in namespace {}", self.namespace)
            }
            kube::Error::UpgradeConnection(ProtocolSwitch(code)) => {
                format!("the API server does not run a command in pod {pod}: {code}")
            }
            other => why(other),
        }
    }

    /// Namespace and name of the pods that the words mean.
    pub(super) async fn clients(&self, cli: &FleetCli) -> Result<BTreeSet<(String, String)>, CtlError> {
        let api: Api<Pod> = if cli.all_namespaces {
            Api::all(self.client.clone())
        } else {
            Api::namespaced(self.client.clone(), self.clients_namespace(cli))
        };
        let params = ListParams { label_selector: cli.selector.clone(), ..ListParams::default() };
        let list = api.list(&params).await.map_err(|e| self.refused(&e))?;
        if list.items.is_empty() {
            if cli.selector.is_none() && self.has_namespace(self.clients_namespace(cli)).await {
                eprintln!("no pods in namespace {}", self.clients_namespace(cli));
                return Ok(BTreeSet::new());
            }
            // Without the right to see other namespaces there is nothing to compare with.
            let all = Api::<Pod>::all(self.client.clone()).list_metadata(&ListParams::default()).await;
            let namespaces: BTreeSet<_> =
                all.into_iter().flatten().filter_map(|pod| pod.namespace()).collect();
            let namespace = (!cli.all_namespaces).then(|| self.clients_namespace(cli));
            let namespaces: Vec<_> = namespaces.into_iter().collect();
            return Err(no_clients(namespace, cli.selector.as_deref(), &namespaces));
        }
        Ok(list.into_iter().map(|pod| (pod.namespace().unwrap_or_default(), pod.name_any())).collect())
    }

    async fn has_namespace(&self, name: &str) -> bool {
        let found = Api::<Namespace>::all(self.client.clone()).get_metadata_opt(name).await;
        found.is_ok_and(|found| found.is_some())
    }

    fn clients_namespace<'a>(&'a self, cli: &'a FleetCli) -> &'a str {
        cli.namespace.as_deref().unwrap_or(&self.default_namespace)
    }

    /// Asks the agent of the pod's own node.
    pub(super) async fn explain(
        &self,
        cli: &FleetCli,
        pod: &str,
        words: &[String],
    ) -> Result<String, CtlError> {
        let namespace = self.clients_namespace(cli);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let found = match api.get_opt(pod).await.map_err(|e| self.refused(&e))? {
            Some(found) => found,
            None => {
                let all = api.list_metadata(&ListParams::default()).await.map_err(|e| self.refused(&e))?;
                let names: Vec<_> = all.into_iter().map(|pod| pod.name_any()).collect();
                let what = format!("pod of namespace {namespace} by the name");
                return Err(known(&what, pod, &names).err().unwrap_or_else(|| Self::gone(pod)));
            }
        };
        let node = found.spec.and_then(|spec| spec.node_name).unwrap_or_default();
        let Some((_, agent)) = self.pods.iter().find(|(place, _)| *place == node) else {
            let message = format!("no agent on node {node}, where {namespace}/{pod} runs");
            return Err(CtlError::new(
                Code::NoAgent,
                message,
                "see `kubectl get pods -o wide` of the agents",
            ));
        };
        let form = match cli.output {
            Output::Table => "table",
            Output::Wide => "wide",
            Output::Json => "json",
            Output::Yaml => "yaml",
        };
        let name = format!("{namespace}/{pod}");
        let mut all = vec!["explain", "--pod", name.as_str(), "-o", form];
        all.extend(words.iter().map(String::as_str));
        self.exec(agent, &all).await.map_err(|message| CtlError { code: Code::Failed, message, fix: None })
    }
}

/// Whether this runs in a pod.
fn is_in_cluster() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// The JSON that an agent printed.
fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text)
        .map_err(|e| format!("an answer that is not understood ({e}); are the versions the same?"))
}
