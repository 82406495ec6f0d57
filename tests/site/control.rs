//! Negative controls: without one of the pieces that make it exact, the same test must find wrong requests.

use crate::shop;
use anyhow::{Context, Result, ensure};
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Reply;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    CommonResponse, HeadersResponse, ProcessingRequest, ProcessingResponse,
};
use futures_util::{Stream, StreamExt as _};
use harness::load::Http;
use harness::site::Site;
use harness::summary::Summary;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::Pin;
use tonic::{Request, Response, Status, Streaming};

const REQUESTS: usize = 1200;

/// Class clusters without their socket options: every class leaves by the default route.
#[test]
fn without_socket_options_requests_go_wrong() -> Result<()> {
    Site::builder("bare").run(|site| {
        shop::apply(site)?;
        site.start_agent()?;
        let folder = site.path("bare");
        copy_without_options(&site.path("envoy/shop"), &folder)?;
        site.start_proxy_with(0, &folder)?;
        for service in shop::SERVICES {
            let summary = shop::run(site, service, Http::H1, REQUESTS)?;
            let lost = requests_of(&summary, "minions") + requests_of(&summary, "crew");
            ensure!(summary.errors == 0 && summary.wrong == lost && lost > 0, "{service:?}: {summary:#?}");
        }
        Ok(())
    })
}

/// An agent whose answers change no header: what only the agent can decide goes by the default route.
#[test]
fn without_the_answers_header_the_crew_goes_wrong() -> Result<()> {
    Site::builder("mute").run(|site| {
        shop::apply(site)?;
        site.start_agent()?;
        let _mute = mute_agent(&site.path("run/callout/callout.sock"))?;
        site.start_proxy(0)?;
        for service in shop::SERVICES {
            let summary = shop::run(site, service, Http::H2, REQUESTS)?;
            let crew = requests_of(&summary, "crew");
            ensure!(summary.errors == 0 && summary.wrong == crew && crew > 0, "{service:?}: {summary:#?}");
        }
        Ok(())
    })
}

fn requests_of(summary: &Summary, caller: &str) -> usize {
    summary.callers.iter().filter(|row| row.name == caller).map(|row| row.requests).sum()
}

/// The agent's own files, but for the options that mark a class's connections.
fn copy_without_options(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to).context("cannot make the folder")?;
    let mut removed = 0;
    for entry in std::fs::read_dir(from).context("no files of the agent")? {
        let entry = entry.context("no files of the agent")?;
        let text = std::fs::read_to_string(entry.path()).context("unreadable file of the agent")?;
        let text = text.replace(&from.display().to_string(), &to.display().to_string());
        let mut file: Value = serde_json::from_str(&text).context("a file that is not JSON")?;
        let resources = file.get_mut("resources").and_then(Value::as_array_mut);
        for resource in resources.into_iter().flatten().filter_map(Value::as_object_mut) {
            removed += usize::from(resource.remove("upstream_bind_config").is_some());
        }
        std::fs::write(to.join(entry.file_name()), file.to_string()).context("cannot write the copy")?;
    }
    ensure!(removed >= 12, "only {removed} clusters had options to remove");
    Ok(())
}

/// Answers every message without changing a header, at the agent's own socket.
fn mute_agent(socket: &Path) -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("cannot build a runtime")?;
    std::fs::remove_file(socket).context("the agent has no callout socket")?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::UnixListener::bind(socket).context("cannot take the callout's place")?
    };
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666)).context("cannot chmod")?;
    let connections = tokio_stream::wrappers::UnixListenerStream::new(listener);
    let server = tonic::transport::Server::builder().add_service(ExternalProcessorServer::new(Mute));
    runtime.spawn(server.serve_with_incoming(connections));
    Ok(runtime)
}

struct Mute;

#[tonic::async_trait]
impl ExternalProcessor for Mute {
    type ProcessStream = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let answers = request.into_inner().map(|message| {
            message.map(|_| ProcessingResponse {
                response: Some(Reply::RequestHeaders(HeadersResponse {
                    response: Some(CommonResponse { clear_route_cache: true, ..CommonResponse::default() }),
                })),
                ..ProcessingResponse::default()
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
