//! One command from its words to its output.

use super::cli::{CtlCli, CtlCommand, ExplainArgs, Output};
use super::client::AgentClient;
use super::outcome::{Code, CtlError};
use super::output::{format, style, unprintable, yaml};
use super::table::counted;
use super::{folder, reasons, render, sessions, show};
use clap::CommandFactory as _;
use clovisor_objects::wan_link::WanLink;
use clovisor_objects::wan_mapping::WanMapping;
use clovisor_objects::wan_node::WanNode;
use clovisor_policy::compile::Proxies;
use clovisor_render::api::{ExplainRequest, Explanation, LinkStatus, List, Status};
use clovisor_render::{explain, problems};
use kube::CustomResourceExt as _;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Carries out one command; the text is for stdout.
///
/// # Errors
/// What failed, with the exit code.
pub async fn run(cli: &CtlCli) -> Result<String, CtlError> {
    let client = AgentClient::new(&cli.socket);
    match &cli.command {
        CtlCommand::Status { wait, timeout } => {
            status(cli, &client, wait.then(|| Duration::from_secs(*timeout))).await
        }
        CtlCommand::Links => {
            let list: List<LinkStatus> = client.get("/v1/links").await?;
            if list.items.is_empty() {
                eprintln!(
                    "no WanLink is known to the agent; is there one in its folder? see clovisorctl status"
                );
            }
            let wide = cli.output == Output::Wide;
            format(cli.output, &list, || show::links(&list.items, wide, jiff::Timestamp::now()))
        }
        CtlCommand::Sessions { pod, link } => {
            sessions::run(cli, &client, pod.as_deref(), link.as_deref()).await
        }
        CtlCommand::Explain(args) => explained(cli, &client, args).await,
        CtlCommand::Check { file, proxies } => {
            check(cli, file, folder::proxies(proxies.sidecars, &client).await)
        }
        CtlCommand::Render(args) => render::render(args),
        CtlCommand::Crds => crds(),
        CtlCommand::Reasons => Ok(reasons::table()),
        CtlCommand::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut CtlCli::command(), "clovisorctl", &mut script);
            Ok(String::from_utf8_lossy(&script).into_owned())
        }
    }
}

async fn status(cli: &CtlCli, client: &AgentClient, wait: Option<Duration>) -> Result<String, CtlError> {
    let until = wait.map(|wait| Instant::now() + wait);
    loop {
        let asked = client.get::<Status>("/v1/status").await;
        let late = until.is_none_or(|until| Instant::now() >= until);
        match asked {
            Ok(status) if status.ready => return format(cli.output, &status, || text(cli, &status)),
            Ok(status) if late && wait.is_some() => {
                let message =
                    format!("the agent is not ready: waiting for {}", status.waiting_for.join(", "));
                return Err(CtlError::new(
                    Code::Failed,
                    message,
                    "look into its log, or wait longer: --timeout",
                ));
            }
            Ok(status) if late => return format(cli.output, &status, || text(cli, &status)),
            Err(error) if late || error.code != Code::NoAgent => return Err(error),
            _ => sleep(Duration::from_millis(100)).await,
        }
    }
}

fn text(cli: &CtlCli, status: &Status) -> String {
    show::status(status, style(cli.color), jiff::Timestamp::now())
}

async fn explained(cli: &CtlCli, client: &AgentClient, args: &ExplainArgs) -> Result<String, CtlError> {
    let (namespace, pod) = args.pod.split_once('/').ok_or_else(|| {
        CtlError::new(Code::Usage, format!("--pod {} names no namespace", args.pod), "write NAMESPACE/POD")
    })?;
    let request = ExplainRequest {
        namespace: namespace.into(),
        pod: pod.into(),
        host: args.host.clone(),
        method: args.method.clone(),
        path: args.path.clone(),
        headers: args.headers.clone(),
        protocol: args.protocol,
    };
    let answer: Explanation = match &args.file {
        None => client.post("/v1/explain", &request).await?,
        Some(dir) => {
            let compiled = folder::policy(dir, folder::proxies(args.proxies.sidecars, client).await)?;
            let problems = problems::documents(&compiled.problems);
            eprint!("{}", show::problems(&problems));
            explain::explain(&compiled.policy, &request, None).map_err(|e| CtlError {
                code: Code::BadInput,
                message: e.error,
                fix: e.fix,
            })?
        }
    };
    format(cli.output, &answer, || show::explanation(&request, &answer, style(cli.color)))
}

fn check(cli: &CtlCli, dir: &Path, proxies: Proxies) -> Result<String, CtlError> {
    let compiled = folder::policy(dir, proxies)?;
    let problems = problems::documents(&compiled.problems);
    let notes = problems::documents(&compiled.notes);
    if !notes.is_empty() {
        eprint!(
            "not served by managed proxies, and not the target of a mapping:\n{}",
            show::problems(&notes)
        );
    }
    if problems.is_empty() {
        let policy = &compiled.policy;
        let mappings: usize = policy.namespaces.values().map(|ns| ns.mappings.len()).sum();
        eprintln!(
            "no problems: {} in force for {}",
            counted(mappings, "mapping"),
            counted(policy.pods.len(), "pod")
        );
        return format(cli.output, &problems, String::new);
    }
    print!("{}", format(cli.output, &problems, || show::problems(&problems))?);
    let message = format!("{} in {}", counted(problems.len(), "problem"), dir.display());
    Err(CtlError { code: Code::ProblemsFound, message, fix: None })
}

/// The schemas; without `nullable`, which old servers show as an empty type in `kubectl explain`.
fn crds() -> Result<String, CtlError> {
    let mut texts = Vec::new();
    for crd in [WanLink::crd(), WanMapping::crd(), WanNode::crd()] {
        let mut document = serde_json::to_value(crd).map_err(|e| unprintable(&e))?;
        strip(&mut document, "nullable");
        texts.push(yaml(&document)?);
    }
    Ok(texts.join("---\n"))
}

fn strip(document: &mut Value, field: &str) {
    match document {
        Value::Object(map) => {
            if map.get(field).is_some_and(Value::is_boolean) {
                map.remove(field);
            }
            map.values_mut().for_each(|value| strip(value, field));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| strip(value, field)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths of fields without a description.
    fn bare(schema: &Value, path: &str, found: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if field["description"].as_str().is_none_or(str::is_empty) {
                found.push(path.clone());
            }
            bare(field, &path, found);
            bare(&field["items"], &path, found);
        }
    }

    #[test]
    fn every_field_of_the_schemas_says_what_it_is() {
        for crd in [WanLink::crd(), WanMapping::crd(), WanNode::crd()] {
            let crd = serde_json::to_value(crd).unwrap_or_default();
            let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            let mut found = Vec::new();
            bare(&schema["properties"]["spec"], "spec", &mut found);
            bare(&schema["properties"]["status"], "status", &mut found);
            assert_eq!(found, Vec::<String>::new());
        }
        let text = crds().unwrap_or_else(|e| panic!("{e}"));
        assert!(
            !text.contains("nullable") && !text.contains("uint") && !text.contains("format: ip\n"),
            "{text}"
        );
    }
}
