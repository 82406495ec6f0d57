//! The answer to one message of the proxy.

use super::counters::AnswerReason;
use clovisor_policy::callout::{CLASS_HEADER, DEFAULT_ANSWER, MAPPING_KEY, NAMESPACE_KEY};
use clovisor_policy::class::ClassId;
use clovisor_policy::decide::{DecisionReason, decide};
use clovisor_policy::matcher::Request;
use clovisor_policy::model::{Mapping, Policy};
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Phase;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Reply;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyResponse, CommonResponse, HeaderMutation, HeadersResponse, HttpHeaders, ProcessingRequest,
    ProcessingResponse, TrailersResponse,
};
use tonic::Status;
use tonic::metadata::MetadataMap;
use tracing::field::Empty;

/// Header lines that the agent looks at.
const MAX_HEADERS: usize = 128;
/// Bytes of names and values that the agent looks at.
const MAX_BYTES: usize = 32 << 10;

/// The namespace and mapping of a stream, from the metadata that the proxy's route sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    pub namespace: String,
    pub mapping: String,
}

impl Asker {
    /// Reads the stream's metadata.
    ///
    /// # Errors
    /// A key is absent or unreadable; the status closes the stream.
    pub fn of(metadata: &MetadataMap) -> Result<Self, Status> {
        let value = |key: &'static str| {
            let text = metadata.get(key).and_then(|value| value.to_str().ok());
            text.map(str::to_owned).ok_or_else(|| {
                Status::invalid_argument(format!(
                    "stream without a readable {key}; use the routes that clovisor-agent writes"
                ))
            })
        };
        Ok(Self { namespace: value(NAMESPACE_KEY)?, mapping: value(MAPPING_KEY)? })
    }
}

/// What is decided about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Class(ClassId),
    Default,
    /// As if the agent were not there: the route's own behaviour.
    None,
}

/// Answers one message.
///
/// # Errors
/// The message cannot be answered; the status closes the stream.
pub fn answer(
    policy: &Policy,
    asker: &Asker,
    message: &ProcessingRequest,
) -> Result<(ProcessingResponse, AnswerReason), Status> {
    let other = |reply| Ok((respond(reply), AnswerReason::OtherPhase));
    match &message.request {
        Some(Phase::RequestHeaders(headers)) => {
            let (verdict, reason) = verdict(policy, asker, headers);
            Ok((respond(Reply::RequestHeaders(headers_response(verdict))), reason))
        }
        Some(Phase::ResponseHeaders(_)) => other(Reply::ResponseHeaders(HeadersResponse::default())),
        Some(Phase::RequestBody(_)) => other(Reply::RequestBody(BodyResponse::default())),
        Some(Phase::ResponseBody(_)) => other(Reply::ResponseBody(BodyResponse::default())),
        Some(Phase::RequestTrailers(_)) => other(Reply::RequestTrailers(TrailersResponse::default())),
        Some(Phase::ResponseTrailers(_)) => other(Reply::ResponseTrailers(TrailersResponse::default())),
        None => Err(Status::invalid_argument("message of no known phase; use Envoy's ext_proc v3")),
    }
}

fn verdict(policy: &Policy, asker: &Asker, message: &HttpHeaders) -> (Verdict, AnswerReason) {
    let known = policy
        .namespaces
        .get_key_value(&asker.namespace)
        .and_then(|(namespace, policy)| Some((namespace, policy.mappings.get(&asker.mapping)?)));
    let Some((namespace, mapping)) = known else {
        // The names come from the peer: not for the log.
        tracing::debug!(reason = AnswerReason::UnknownMapping.name(), "callout");
        return (Verdict::None, AnswerReason::UnknownMapping);
    };
    let span =
        tracing::debug_span!("callout", namespace, mapping = mapping.name, class = Empty, reason = Empty);
    let (verdict, reason) = match lines(message.headers.as_ref()) {
        Some(lines) => decision(mapping, &lines),
        None => (Verdict::None, AnswerReason::TooLarge),
    };
    if let Verdict::Class(ClassId(class)) = verdict {
        span.record("class", class);
    }
    span.record("reason", reason.name());
    span.in_scope(|| tracing::debug!("answered"));
    (verdict, reason)
}

/// Header lines as name and raw value; none if there are more than the agent looks at.
fn lines(headers: Option<&HeaderMap>) -> Option<Vec<(&str, &[u8])>> {
    let headers = headers.map(|map| map.headers.as_slice()).unwrap_or_default();
    let lines: Vec<_> = headers.iter().map(|line| (line.key.as_str(), value(line))).collect();
    let bytes: usize = lines.iter().map(|(name, value)| name.len() + value.len()).sum();
    (lines.len() <= MAX_HEADERS && bytes <= MAX_BYTES).then_some(lines)
}

fn value(line: &HeaderValue) -> &[u8] {
    if line.raw_value.is_empty() { line.value.as_bytes() } else { &line.raw_value }
}

fn respond(reply: Reply) -> ProcessingResponse {
    ProcessingResponse { response: Some(reply), ..ProcessingResponse::default() }
}

/// Sets or removes the class. Never an empty answer: Envoy would look at no route again.
fn headers_response(verdict: Verdict) -> HeadersResponse {
    let header_mutation = match verdict {
        Verdict::Class(ClassId(class)) => set(class.to_string()),
        Verdict::Default => set(DEFAULT_ANSWER.to_owned()),
        Verdict::None => {
            HeaderMutation { remove_headers: vec![CLASS_HEADER.to_owned()], ..HeaderMutation::default() }
        }
    };
    HeadersResponse {
        response: Some(CommonResponse {
            header_mutation: Some(header_mutation),
            clear_route_cache: true,
            ..CommonResponse::default()
        }),
    }
}

fn set(answer: String) -> HeaderMutation {
    let header = HeaderValue {
        key: CLASS_HEADER.to_owned(),
        raw_value: answer.into_bytes(),
        ..HeaderValue::default()
    };
    HeaderMutation {
        set_headers: vec![HeaderValueOption {
            header: Some(header),
            append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
            ..HeaderValueOption::default()
        }],
        ..HeaderMutation::default()
    }
}

fn decision(mapping: &Mapping, lines: &[(&str, &[u8])]) -> (Verdict, AnswerReason) {
    let pseudo = |name| {
        let line = lines.iter().find(|(key, _)| *key == name);
        line.and_then(|(_, value)| std::str::from_utf8(value).ok()).unwrap_or_default()
    };
    let request = Request {
        method: pseudo(":method"),
        authority: pseudo(":authority"),
        path: pseudo(":path"),
        headers: lines,
    };
    let decision = decide(mapping, &request);
    let reason = match decision.reason {
        DecisionReason::Rule(_) => AnswerReason::Rule,
        DecisionReason::NoRuleMatches => AnswerReason::NoRule,
        DecisionReason::Undecidable { .. } => AnswerReason::UnclearHeader,
    };
    (decision.class.map_or(Verdict::Default, Verdict::Class), reason)
}
