//! One command of `kubectl clovisor` from its arguments to its output.

use super::agents::{Agents, NodeAnswers};
use super::cli::{FleetCli, FleetCommand};
use super::failures::summary;
use super::{check, show, sysdump};
use crate::outcome::{Code, CtlError};
use crate::output::format;
use clovisor_render::api::{List, Session};
use serde::Serialize;
use serde_json::{Value, json};

/// Carries out one command; the text is for stdout.
///
/// # Errors
/// What failed, with the exit code; what could be had of the other nodes is printed before.
pub async fn run(cli: &FleetCli) -> Result<String, CtlError> {
    let agents = Agents::connect(cli).await?;
    match &cli.command {
        FleetCommand::Status => {
            let answers = agents.ask(&["status", "-o", "json"]).await?;
            print(cli, answers, show::status)
        }
        FleetCommand::Links => {
            let answers = agents.ask(&["links", "-o", "json"]).await?;
            print(cli, answers, show::links)
        }
        FleetCommand::Sessions => {
            let pods = agents.clients(cli).await?;
            let mut answers: NodeAnswers<List<Session>> = agents.ask(&["sessions", "-o", "json"]).await?;
            for (_, list) in &mut answers.got {
                list.items.retain(|s| pods.contains(&(s.namespace.clone(), s.pod.clone())));
            }
            print(cli, answers, show::sessions)
        }
        FleetCommand::Explain { pod, words } => agents.explain(cli, pod, words).await,
        FleetCommand::Check { pre } => check::run(cli, &agents, *pre).await,
        FleetCommand::Sysdump { folder } => sysdump::run(cli, &agents, folder.as_deref()).await,
    }
}

/// Prints the answers; nodes that did not answer are an error after that.
fn print<T: Serialize>(
    cli: &FleetCli,
    answers: NodeAnswers<T>,
    show: impl Fn(&[(String, T)]) -> String,
) -> Result<String, CtlError> {
    let items: Vec<Value> =
        answers.got.iter().map(|(node, answer)| json!({ "node": node, "answer": answer })).collect();
    let text = format(cli.output, &json!({ "items": items }), || show(&answers.got))?;
    if answers.failed.is_empty() {
        return Ok(text);
    }
    print!("{text}");
    let message = summary(&answers.failed, answers.failed.len() + answers.got.len());
    Err(CtlError::new(Code::NoAgent, message, "see `kubectl clovisor check`; the other nodes are shown"))
}
