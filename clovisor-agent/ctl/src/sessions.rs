//! `clovisorctl sessions`: the connections of a pod or a link.

use super::cli::{CtlCli, Output};
use super::client::AgentClient;
use super::outcome::{Code, CtlError};
use super::output::format;
use super::show;
use super::table::counted;
use clovisor_objects::near::remedy;
use clovisor_render::api::{LinkStatus, List, Session, Status};

/// Asks the agent; a pod or link that does not exist is an error.
pub(super) async fn run(
    cli: &CtlCli,
    client: &AgentClient,
    pod: Option<&str>,
    link: Option<&str>,
) -> Result<String, CtlError> {
    if let Some(pod) = pod.filter(|pod| !pod.contains('/')) {
        let message = format!("--pod {pod} names no namespace");
        return Err(CtlError::new(Code::Usage, message, "write NAMESPACE/POD"));
    }
    let mut list: List<Session> = client.get("/v1/sessions").await?;
    let all = list.items.len();
    let is_pod = |s: &Session| pod.is_none_or(|p| p == format!("{}/{}", s.namespace, s.pod));
    list.items.retain(|s| is_pod(s) && link.is_none_or(|l| l == s.link));
    if list.items.is_empty() {
        if let Some(link) = link {
            let links: List<LinkStatus> = client.get("/v1/links").await?;
            known("link", link, &links.items.into_iter().map(|link| link.name).collect::<Vec<_>>())?;
        }
        if let Some(pod) = pod {
            let pods = client.get::<Status>("/v1/status").await?.pods;
            let names: Vec<_> = pods.iter().map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect();
            known("pod", pod, &names)?;
        }
        eprintln!("{}", match all {
            0 => "no steered connections; `clovisorctl status` counts packets by verdict, `explain` shows what a request would do".into(),
            n => format!("none of the {} matches --pod and --link", counted(n, "steered connection")),
        });
    }
    let wide = cli.output == Output::Wide;
    format(cli.output, &list, || show::sessions(&list.items, wide))
}

/// The name is one of those that there are.
pub(super) fn known(what: &str, name: &str, all: &[String]) -> Result<(), CtlError> {
    if all.iter().any(|known| known == name) {
        return Ok(());
    }
    let fix = remedy(name, all.iter().map(String::as_str));
    Err(CtlError::new(Code::BadInput, format!("there is no {what} {name} here"), fix))
}
