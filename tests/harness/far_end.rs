//! The far end: an HTTP/1.1 and h2c server that answers with the observed about its connection.

use crate::netns::Netns;
use crate::saved_syn;
use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Header in which a gateway passes on the address and port that its client had.
pub const SEEN_REMOTE: &str = "x-seen-remote";
/// Header in which a gateway passes on the server name that its client asked for.
pub const SEEN_SNI: &str = "x-seen-sni";

/// What the far end says of the connection that carried a request.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// One connection of the pod's proxy, as the far end tells connections apart.
    pub connection: String,
    /// The link it came by, or the address that no link owns.
    pub link: String,
    /// TOS or traffic class byte of its SYN; none behind a gateway, which keeps no SYN.
    pub tos: Option<u8>,
    /// Source address and port as they arrived.
    pub source: SocketAddr,
    pub user: Option<String>,
    /// Any `x-clovisor-*` header that arrived: there must be none.
    pub leaked: Option<String>,
    pub sni: Option<String>,
    pub path: String,
}

/// How the far end knows a link: the MAC of its own device there, and the addresses that a node has on it.
#[derive(Clone, Debug)]
pub struct LinkIdentity {
    pub name: String,
    pub mac: [u8; 6],
    pub sources: Vec<IpAddr>,
}

/// The running server; ends with drop.
#[derive(Debug)]
pub struct FarEnd {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<Result<()>>>>,
}

impl FarEnd {
    /// Listens on `[::]:port` (IPv4 too) inside the namespace; returns when it accepts connections.
    pub fn start(netns: &Netns, port: u16, links: Vec<LinkIdentity>) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready_tx, ready) = std::sync::mpsc::channel();
        let thread = netns.spawn("far-end", move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("cannot build a runtime")?;
            runtime.block_on(serve(port, links.into(), ready_tx, stopped))
        })?;
        match ready.recv() {
            Ok(()) => Ok(Self { stop: Some(stop), thread: Some(thread) }),
            Err(_) => Err(match thread.join() {
                Ok(Ok(Err(error)) | Err(error)) => error,
                _ => anyhow!("the far end ended before it listened"),
            }),
        }
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its result does not matter any more.
            let _ = thread.join();
        }
    }
}

async fn serve(
    port: u16,
    links: Arc<[LinkIdentity]>,
    ready: std::sync::mpsc::Sender<()>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<()> {
    let listener = tokio::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .await
        .with_context(|| format!("cannot listen on port {port}"))?;
    saved_syn::keep(listener.as_fd()).context("the kernel does not keep SYNs")?;
    ready.send(()).context("nobody waits for the far end")?;
    let mut number = 0_u64;
    loop {
        let (stream, peer) = tokio::select! {
            _ = &mut stopped => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => continue,
            },
        };
        number += 1;
        let Ok(syn) = saved_syn::take(stream.as_fd()) else {
            continue;
        };
        let Some(header) = SynHeader::read(&syn) else {
            continue;
        };
        let observed = header.observed(number, unmapped(peer), &links);
        let links = Arc::clone(&links);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, observed.clone(), links.clone()));
            // A client that goes away is its own business.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    connection: Observation,
    links: Arc<[LinkIdentity]>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut observed = connection;
    let headers = request.headers();
    observed.user = text(headers, "user");
    observed.path = request.uri().path().to_owned();
    observed.leaked = headers
        .iter()
        .find(|(name, _)| name.as_str().starts_with("x-clovisor-"))
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    if let Some(remote) = text(headers, SEEN_REMOTE).and_then(|r| r.parse::<SocketAddr>().ok()) {
        let remote = unmapped(remote);
        observed.link = link_of_source(&links, remote.ip());
        observed.connection = remote.to_string();
        observed.source = remote;
        observed.tos = None;
        observed.sni = text(headers, SEEN_SNI);
    }
    let body = serde_json::to_vec(&observed).unwrap_or_default();
    Ok(Response::new(Full::new(Bytes::from(body))))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// IPv4 clients of a dual-stack socket look like `::ffff:a.b.c.d`.
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn link_of_source(links: &[LinkIdentity], source: IpAddr) -> String {
    let link = links.iter().find(|link| link.sources.contains(&source));
    link.map_or_else(|| source.to_string(), |link| link.name.clone())
}

/// What a SYN tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynHeader {
    /// Destination MAC: the device of the far end on which it arrived.
    pub mac: [u8; 6],
    pub tos: u8,
}

impl SynHeader {
    /// Reads an Ethernet frame, or a bare packet of a device without link layer, whose MAC is zero then; none if it is
    /// neither IPv4 nor IPv6.
    #[must_use]
    pub fn read(frame: &[u8]) -> Option<Self> {
        // A MAC of these sites begins with 2.
        let bare = matches!(frame.first()? >> 4, 4 | 6);
        let mac = if bare { [0; 6] } else { frame.get(..6)?.try_into().ok()? };
        let ip = if bare { frame.get(..2)? } else { frame.get(14..16)? };
        let tos = match ip[0] >> 4 {
            4 => ip[1],
            6 => ip[0] << 4 | ip[1] >> 4,
            _ => return None,
        };
        Some(Self { mac, tos })
    }

    fn observed(self, number: u64, source: SocketAddr, links: &[LinkIdentity]) -> Observation {
        let link = links.iter().find(|link| link.mac == self.mac);
        Observation {
            connection: number.to_string(),
            link: link.map_or_else(|| format!("{:02x?}", self.mac), |link| link.name.clone()),
            tos: Some(self.tos),
            source,
            user: None,
            leaked: None,
            sni: None,
            path: String::new(),
        }
    }
}
