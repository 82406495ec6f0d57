//! Health and metrics over TCP, the only endpoint outside the node.

use super::metrics::{self, Moment};
use super::serve::{CONNECTIONS, QUESTION, Sources};
use crate::connection::Limited;
use crate::ready::Ready;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clovisor_render::problems;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Binds the address.
///
/// # Errors
/// It is in use, or not one of this machine.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers `/healthz`, `/readyz` and `/metrics` until `shutdown` is ready.
///
/// # Errors
/// The listener failed for good.
pub async fn run(
    listener: TcpListener,
    sources: Sources,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router =
        health(sources.ready.clone()).merge(Router::new().route("/metrics", get(scrape)).with_state(sources));
    let listener = Limited::new(listener, CONNECTIONS, QUESTION);
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

/// The same without metrics, for a process without a node.
///
/// # Errors
/// The listener failed for good.
pub async fn run_health(listener: TcpListener, ready: Ready) -> io::Result<()> {
    axum::serve(Limited::new(listener, CONNECTIONS, QUESTION), health(ready)).await
}

fn health(ready: Ready) -> Router {
    let readyz = async |State(ready): State<Ready>| match ready.waiting_for().as_slice() {
        [] => (StatusCode::OK, "ok\n".to_owned()),
        waiting => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", waiting.join(", "))),
    };
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(readyz)).with_state(ready)
}

async fn scrape(State(sources): State<Sources>) -> Response {
    let Some(dump) = sources.kernel.dump().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the kernel task has ended\n").into_response();
    };
    let compiled = sources.policy.borrow().clone();
    let envoy = sources.envoy.borrow().clone();
    let kernel = sources.kernel.state().borrow().clone();
    let moment = Moment {
        dump,
        links: sources.links.borrow().clone(),
        callouts: sources.counters.counts(),
        problems: problems::documents(compiled.problems.iter().chain(&envoy.problems)),
        generation: kernel.generation,
        pods: sources.pods.borrow().values().filter(|found| found.is_ok()).count(),
        stale: compiled.stale_since.is_some(),
    };
    match metrics::text(moment) {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
