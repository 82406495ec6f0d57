//! Asks the agent over its socket.

use super::outcome::{Code, CtlError};
use bytes::Bytes;
use clovisor_render::api::ApiError;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The agent answers in milliseconds, or it hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer: a hundred thousand sessions.
const LARGEST: usize = 64 << 20;

/// The agent of this node.
#[derive(Clone, Debug)]
pub(super) struct AgentClient {
    socket: PathBuf,
}

impl AgentClient {
    pub(super) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// `GET path` as JSON.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CtlError> {
        self.json(Method::GET, path, Bytes::new()).await
    }

    /// `POST path` with a document, the answer as JSON.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CtlError> {
        let body = serde_json::to_vec(body).map_err(|e| self.odd(&e))?;
        self.json(Method::POST, path, body.into()).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, CtlError> {
        let asked = timeout(PATIENCE, self.ask(method, path, body)).await.map_err(|_| {
            let message = format!("the agent at {} does not answer", self.socket.display());
            CtlError::new(Code::NoAgent, message, "look into its log; a restart keeps the flows")
        })?;
        let (status, body) = asked?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|e| self.odd(&e));
        }
        let error: ApiError = serde_json::from_slice(&body)
            .unwrap_or_else(|_| ApiError { error: format!("{path}: {status}"), fix: None });
        let code = if status.is_client_error() { Code::BadInput } else { Code::Failed };
        Err(CtlError { code, message: error.error, fix: error.fix })
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), CtlError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.unreachable(&e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.odd(&e))?;
        tokio::spawn(async move {
            // An error shows in the answer.
            let _ended = connection.await;
        });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "agent")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|e| self.odd(&e))?;
        let answer = sender.send_request(request).await.map_err(|e| self.odd(&e))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        let body = body.map_err(|e| self.odd(&*e))?;
        Ok((status, body.to_bytes()))
    }

    fn unreachable(&self, error: &io::Error) -> CtlError {
        let socket = self.socket.display();
        match error.kind() {
            io::ErrorKind::PermissionDenied => CtlError::new(
                Code::NotPermitted,
                format!("{socket}: {error}"),
                "run clovisorctl as root, or as a member of the socket's group",
            ),
            _ => CtlError::new(
                Code::NoAgent,
                format!("no agent at {socket}: {error}"),
                "start clovisor-agent on this node, or give its socket with --socket",
            ),
        }
    }

    fn odd(&self, error: &(dyn std::error::Error + 'static)) -> CtlError {
        let message = format!("{}: {error}", self.socket.display());
        CtlError::new(Code::Failed, message, "agent and clovisorctl should be of one version")
    }
}
