//! The gRPC service and its limits.

use super::answer::{self, Asker};
use super::counters::{AnswerCounters, AnswerReason};
use super::listen::connections;
use clovisor_policy::model::Policy;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::{ProcessingRequest, ProcessingResponse};
use futures_util::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// Streams of one connection at a time; Envoy opens another connection when it needs more.
const STREAMS: u32 = 128;
/// Bytes of one HTTP/2 frame, and of one header list.
const FRAME: u32 = 16 << 10;
/// Bytes of one message: the headers that Envoy is configured to send.
const MESSAGE: usize = 64 << 10;
/// How long a stream may be silent.
const IDLE: Duration = Duration::from_secs(5);

/// Answers callouts until `shutdown` is ready, then ends the open streams.
///
/// The value of `policy` at the start counts: start this after the first compilation.
///
/// # Errors
/// The server failed on its socket.
pub async fn run(
    listener: UnixListener,
    policy: watch::Receiver<Arc<Policy>>,
    counters: Arc<AnswerCounters>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    serve(listener, Callout { policy, counters, idle: IDLE }, shutdown).await
}

async fn serve(
    listener: UnixListener,
    callout: Callout,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let service = ExternalProcessorServer::new(callout).max_decoding_message_size(MESSAGE);
    Server::builder()
        .max_concurrent_streams(STREAMS)
        .max_frame_size(FRAME)
        .http2_max_header_list_size(FRAME)
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_max_local_error_reset_streams(Some(128))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_service(service)
        .serve_with_incoming_shutdown(connections(listener), shutdown)
        .await
}

struct Callout {
    policy: watch::Receiver<Arc<Policy>>,
    counters: Arc<AnswerCounters>,
    idle: Duration,
}

#[tonic::async_trait]
impl ExternalProcessor for Callout {
    type ProcessStream = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let asker = Asker::of(request.metadata()).inspect_err(|_| {
            self.counters.count(AnswerReason::Malformed);
        })?;
        let stream = Conversation {
            asker,
            inbound: request.into_inner(),
            policy: self.policy.clone(),
            counters: self.counters.clone(),
            idle: self.idle,
            over: false,
        };
        let answers = futures_util::stream::unfold(stream, |mut stream| async move {
            stream.next().await.map(|answer| (answer, stream))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// One stream: the callouts of one request.
struct Conversation {
    asker: Asker,
    inbound: Streaming<ProcessingRequest>,
    policy: watch::Receiver<Arc<Policy>>,
    counters: Arc<AnswerCounters>,
    idle: Duration,
    over: bool,
}

impl Conversation {
    async fn next(&mut self) -> Option<Result<ProcessingResponse, Status>> {
        if self.over {
            return None;
        }
        let message = match timeout(self.idle, self.inbound.message()).await {
            Ok(Ok(message)) => message?,
            Ok(Err(status)) => return self.fail(AnswerReason::Malformed, status),
            Err(_) => {
                return self.fail(AnswerReason::Idle, Status::deadline_exceeded("stream was idle"));
            }
        };
        let policy = self.policy.borrow().clone();
        match answer::answer(&policy, &self.asker, &message) {
            Ok((response, reason)) => {
                self.counters.count(reason);
                Some(Ok(response))
            }
            Err(status) => self.fail(AnswerReason::Malformed, status),
        }
    }

    fn fail(&mut self, reason: AnswerReason, status: Status) -> Option<Result<ProcessingResponse, Status>> {
        self.over = true;
        // A proxy that goes away in the middle is no fault of its message.
        if status.code() != tonic::Code::Cancelled {
            self.counters.count(reason);
        }
        Some(Err(status))
    }
}

#[cfg(test)]
mod tests;
