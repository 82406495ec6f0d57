//! A proxy's view of the service, over a real socket.

use super::*;
use crate::session::listen::bind;
use clovisor_policy::class::ClassId;
use clovisor_policy::model::{Mapping, NamespacePolicy};
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
use envoy_types::pb::envoy::service::ext_proc::v3::HttpHeaders;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_client::ExternalProcessorClient;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Phase;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Reply;
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

type Outcome = Result<(), Box<dyn Error>>;

/// A running service and the folder of its socket.
struct Site {
    _root: TempDir,
    socket: PathBuf,
    counters: Arc<AnswerCounters>,
    _policy: watch::Sender<Arc<Policy>>,
}

/// Mapping `m` of `shop` is class 3, `d` the default route.
fn policy() -> Arc<Policy> {
    let mapping = |name: &str, class: Option<u8>| {
        let mapping = Mapping {
            name: name.to_owned(),
            class: class.map(ClassId),
            on_agent_loss: Default::default(),
            rules: Vec::new(),
        };
        (name.to_owned(), Arc::new(mapping))
    };
    let shop = NamespacePolicy {
        zone: 1,
        mappings: [mapping("m", Some(3)), mapping("d", None)].into(),
        ..NamespacePolicy::default()
    };
    Arc::new(Policy { namespaces: [("shop".to_owned(), shop)].into(), ..Policy::default() })
}

fn site(idle: Duration) -> Result<Site, Box<dyn Error>> {
    let root = tempfile::tempdir()?;
    let socket = root.path().join("callout/callout.sock");
    let (sender, policy) = watch::channel(policy());
    let counters = Arc::new(AnswerCounters::default());
    let callout = Callout { policy, counters: counters.clone(), idle };
    tokio::spawn(serve(bind(&socket, None)?, callout, std::future::pending()));
    Ok(Site { _root: root, socket, counters, _policy: sender })
}

impl Site {
    async fn client(&self) -> Result<ExternalProcessorClient<Channel>, Box<dyn Error>> {
        let socket = self.socket.clone();
        let connect = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://agent").connect_with_connector(connect).await?;
        Ok(ExternalProcessorClient::new(channel))
    }

    fn count(&self, reason: AnswerReason) -> u64 {
        self.counters.counts()[reason as usize].1
    }

    /// What the service answers to a request of mapping `m`, on a connection of its own.
    async fn still_serves(&self) -> Outcome {
        let mut client = self.client().await?;
        assert_eq!(ask(&mut client, "m", vec![headers(&[])]).await?, [Some("3".to_owned())]);
        Ok(())
    }
}

fn headers(lines: &[(&str, &[u8])]) -> ProcessingRequest {
    let line = |(key, value): &(&str, &[u8])| HeaderValue {
        key: (*key).to_owned(),
        raw_value: value.to_vec(),
        ..HeaderValue::default()
    };
    let map = HeaderMap { headers: lines.iter().map(line).collect() };
    let message = HttpHeaders { headers: Some(map), ..HttpHeaders::default() };
    ProcessingRequest { request: Some(Phase::RequestHeaders(message)), ..Default::default() }
}

/// The class of each answer; none where the header is removed.
async fn ask(
    client: &mut ExternalProcessorClient<Channel>,
    mapping: &str,
    messages: Vec<ProcessingRequest>,
) -> Result<Vec<Option<String>>, Status> {
    let mut request = Request::new(tokio_stream::iter(messages));
    let value = |text: &str| text.parse().map_err(|_| Status::internal("no metadata value"));
    request.metadata_mut().insert("x-clovisor-namespace", value("shop")?);
    request.metadata_mut().insert("x-clovisor-mapping", value(mapping)?);
    let mut stream = client.process(request).await?.into_inner();
    let mut answers = Vec::new();
    while let Some(answer) = stream.message().await? {
        answers.push(class_of(answer)?);
    }
    Ok(answers)
}

fn class_of(answer: ProcessingResponse) -> Result<Option<String>, Status> {
    let Some(Reply::RequestHeaders(headers)) = answer.response else {
        return Err(Status::internal("answer of another phase"));
    };
    let mutation = headers.response.and_then(|r| r.header_mutation).unwrap_or_default();
    assert!(
        !mutation.set_headers.is_empty() || mutation.remove_headers == ["x-clovisor-class"],
        "an empty answer would change no route"
    );
    let set = mutation.set_headers.into_iter().next().and_then(|option| option.header);
    Ok(set.map(|header| String::from_utf8_lossy(&header.raw_value).into_owned()))
}

#[tokio::test]
async fn every_request_gets_its_class() -> Outcome {
    let site = site(IDLE)?;
    let mut client = site.client().await?;
    assert_eq!(ask(&mut client, "m", vec![headers(&[])]).await?, [Some("3".to_owned())]);
    assert_eq!(ask(&mut client, "d", vec![headers(&[])]).await?, [Some("default".to_owned())]);
    assert_eq!(ask(&mut client, "gone", vec![headers(&[])]).await?, [None]);
    assert_eq!(site.count(AnswerReason::NoRule), 2);
    assert_eq!(site.count(AnswerReason::UnknownMapping), 1);
    Ok(())
}

#[tokio::test]
async fn values_may_be_any_bytes() -> Outcome {
    let site = site(IDLE)?;
    let mut client = site.client().await?;
    let answers = ask(&mut client, "m", vec![headers(&[("user", b"\xff\xfe\x00")])]).await?;
    assert_eq!(answers, [Some("3".to_owned())]);
    Ok(())
}

#[tokio::test]
async fn too_many_headers_are_left_to_the_route() -> Outcome {
    let site = site(IDLE)?;
    let mut client = site.client().await?;
    let many = vec![("a", b"b".as_slice()); 200];
    assert_eq!(ask(&mut client, "m", vec![headers(&many)]).await?, [None]);
    assert_eq!(site.count(AnswerReason::TooLarge), 1);
    let huge = vec![0_u8; 1 << 20];
    let refused = ask(&mut client, "m", vec![headers(&[("a", &huge)])]).await;
    assert_eq!(refused.map_err(|status| status.code()), Err(Code::OutOfRange));
    assert_eq!(ask(&mut client, "m", vec![headers(&[])]).await?, [Some("3".to_owned())]);
    Ok(())
}

#[tokio::test]
async fn a_malformed_message_costs_its_stream_only() -> Outcome {
    let site = site(IDLE)?;
    let mut client = site.client().await?;
    let nothing = ProcessingRequest::default();
    let refused = ask(&mut client, "m", vec![nothing, headers(&[])]).await;
    assert_eq!(refused.map_err(|status| status.code()), Err(Code::InvalidArgument));
    let anonymous = client.process(Request::new(tokio_stream::iter([headers(&[])]))).await;
    assert_eq!(anonymous.map(|_| ()).map_err(|s| s.code()), Err(Code::InvalidArgument));
    assert_eq!(site.count(AnswerReason::Malformed), 2);
    assert_eq!(ask(&mut client, "m", vec![headers(&[])]).await?, [Some("3".to_owned())]);
    Ok(())
}

#[tokio::test]
async fn garbage_on_the_socket_costs_its_connection_only() -> Outcome {
    let site = site(IDLE)?;
    let mut raw = UnixStream::connect(&site.socket).await?;
    raw.write_all(&[0xff; 4096]).await?;
    let mut rest = Vec::new();
    // Closed or reset, but ended.
    let _ended = timeout(Duration::from_secs(10), raw.read_to_end(&mut rest)).await?;
    site.still_serves().await
}

#[tokio::test]
async fn a_silent_stream_is_closed() -> Outcome {
    let site = site(Duration::from_millis(20))?;
    let mut client = site.client().await?;
    let mut request = Request::new(tokio_stream::pending());
    request.metadata_mut().insert("x-clovisor-namespace", "shop".parse()?);
    request.metadata_mut().insert("x-clovisor-mapping", "m".parse()?);
    let mut stream = client.process(request).await?.into_inner();
    let ended = timeout(Duration::from_secs(10), stream.message()).await?;
    assert_eq!(ended.map_err(|status| status.code()), Err(Code::DeadlineExceeded));
    assert_eq!(site.count(AnswerReason::Idle), 1);
    site.still_serves().await
}

#[tokio::test]
async fn one_connection_cannot_have_all_streams() -> Outcome {
    let site = site(IDLE)?;
    let client = site.client().await?;
    let mut open = Vec::new();
    for _ in 0..STREAMS {
        let mut request = Request::new(tokio_stream::pending());
        request.metadata_mut().insert("x-clovisor-namespace", "shop".parse()?);
        request.metadata_mut().insert("x-clovisor-mapping", "m".parse()?);
        open.push(client.clone().process(request).await?);
    }
    let mut waiting = client.clone();
    let more = ask(&mut waiting, "m", vec![headers(&[])]);
    assert!(timeout(Duration::from_millis(100), more).await.is_err(), "stream over the limit");
    site.still_serves().await
}
