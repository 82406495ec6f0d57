//! `kubectl clovisor`: the agents of a cluster, asked through its API server with the user's own rights.

/// The words.
pub mod cli;

/// Runs `clovisorctl` in the agents' pods.
mod agents;

/// What is wrong with an installation, or would be.
mod check;

/// Everything that a report of a fault needs, in a folder.
mod sysdump;

use super::outcome::{Code, CtlError};
use super::run::formed;
use super::table::{bytes, table};
use crate::admin::api::{LinkStatus, List, Session, Status};
use agents::{Agents, Answers};
use cli::{Cli, Command};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Carries out one command; the text is for stdout.
///
/// # Errors
/// What failed, with the exit code; what could be had of the other nodes is printed before.
pub async fn run(cli: &Cli) -> Result<String, CtlError> {
    let agents = Agents::connect(cli).await?;
    match &cli.command {
        Command::Status => {
            let answers = agents.ask(&["status", "-o", "json"]).await?;
            tell(cli, answers, status)
        }
        Command::Links => {
            let answers = agents.ask(&["links", "-o", "json"]).await?;
            tell(cli, answers, links)
        }
        Command::Sessions => {
            let pods = agents.clients(cli).await?;
            let mut answers: Answers<List<Session>> = agents.ask(&["sessions", "-o", "json"]).await?;
            for (_, list) in &mut answers.got {
                list.items.retain(|s| pods.contains(&(s.namespace.clone(), s.pod.clone())));
            }
            tell(cli, answers, sessions)
        }
        Command::Explain { pod, words } => agents.explain(cli, pod, words).await,
        Command::Check { pre } => check::run(cli, &agents, *pre).await,
        Command::Sysdump { folder } => sysdump::run(cli, &agents, folder.as_deref()).await,
    }
}

/// Prints what was got; nodes that did not answer are an error after that.
fn tell<T: Serialize>(
    cli: &Cli,
    answers: Answers<T>,
    show: impl Fn(&[(String, T)]) -> String,
) -> Result<String, CtlError> {
    let items: Vec<Value> =
        answers.got.iter().map(|(node, answer)| json!({ "node": node, "answer": answer })).collect();
    let text = formed(cli.output, &json!({ "items": items }), || show(&answers.got))?;
    if answers.failed.is_empty() {
        return Ok(text);
    }
    print!("{text}");
    let failed: Vec<_> = answers.failed.iter().map(|(node, why)| format!("{node}: {why}")).collect();
    let message = format!(
        "{} of {} nodes did not answer: {}",
        failed.len(),
        failed.len() + answers.got.len(),
        failed.join("; ")
    );
    Err(CtlError::new(Code::NoAgent, message, "see `kubectl clovisor check`; the other nodes are shown"))
}

fn status(all: &[(String, Status)]) -> String {
    let row = |(node, s): &(String, Status)| {
        let state = match (s.ready, &s.stale_since) {
            (false, _) => format!("waiting for {}", s.waiting_for.join(", ")),
            (true, Some(since)) => format!("stale since {since}"),
            (true, None) => "ready".into(),
        };
        let links = format!("{}/{}", s.links_up, s.links_total);
        let found = s.pods.iter().filter(|pod| pod.device.is_some()).count();
        let pods = format!("{found}/{}", s.pods.len());
        vec![
            node.clone(),
            state,
            links,
            s.sessions.to_string(),
            pods,
            s.problems.len().to_string(),
            s.version.clone(),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let mut text = table(&["NODE", "STATE", "LINKS", "SESSIONS", "PODS", "PROBLEMS", "VERSION"], &rows);
    let lines: BTreeSet<_> = all
        .iter()
        .flat_map(|(_, s)| &s.problems)
        .map(|p| format!("  {} {}: {}: {}: {}\n", p.kind, p.object, p.reason, p.field, p.message))
        .collect();
    text.extend(lines);
    text
}

fn links(all: &[(String, List<LinkStatus>)]) -> String {
    let rows = all.iter().flat_map(|(node, list)| {
        list.items.iter().map(move |l| {
            let reason = l.reason.clone().unwrap_or_default();
            vec![
                node.clone(),
                l.name.clone(),
                l.state.clone(),
                l.wanted.clone(),
                bytes(l.tx_bytes),
                bytes(l.rx_bytes),
                l.sessions.to_string(),
                reason,
            ]
        })
    });
    table(&["NODE", "LINK", "STATE", "WANTED", "TX", "RX", "SESSIONS", "REASON"], &rows.collect::<Vec<_>>())
}

fn sessions(all: &[(String, List<Session>)]) -> String {
    let rows = all.iter().flat_map(|(node, list)| {
        list.items.iter().map(move |s| {
            let class = format!("{} ({})", s.class, s.class_name);
            vec![
                node.clone(),
                s.namespace.clone(),
                s.pod.clone(),
                s.source.clone(),
                s.destination.clone(),
                class,
                s.link.clone(),
                bytes(s.tx_bytes),
                bytes(s.rx_bytes),
            ]
        })
    });
    table(
        &["NODE", "NAMESPACE", "POD", "SOURCE", "DESTINATION", "CLASS", "LINK", "TX", "RX"],
        &rows.collect::<Vec<_>>(),
    )
}

/// JSON of an agent.
fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text)
        .map_err(|e| format!("an answer that is not understood ({e}); are the versions the same?"))
}
