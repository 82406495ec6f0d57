use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// HTTP version between the client and its proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// One keep-alive connection per concurrent client.
    H1,
    /// Two connections in all, many streams each.
    H2,
}

/// A connection to the proxy that is made when needed and made again when it was closed between requests.
pub(super) struct Client {
    target: SocketAddr,
    http: Http,
    sender: Mutex<Option<Sender>>,
}

enum Sender {
    H1(http1::SendRequest<Empty<Bytes>>),
    H2(http2::SendRequest<Empty<Bytes>>),
}

impl Client {
    pub(super) fn new(target: SocketAddr, http: Http) -> Self {
        Self { target, http, sender: Mutex::new(None) }
    }

    /// Status and body of the answer, within ten seconds.
    pub(super) async fn send(&self, request: Request<Empty<Bytes>>) -> Result<(u16, Bytes)> {
        tokio::time::timeout(Duration::from_secs(10), self.exchange(request))
            .await
            .context("no answer within 10 s")?
    }

    async fn exchange(&self, request: Request<Empty<Bytes>>) -> Result<(u16, Bytes)> {
        let mut held = self.sender.lock().await;
        let usable = match held.as_mut() {
            None => false,
            Some(Sender::H1(sender)) => sender.ready().await.is_ok(),
            Some(Sender::H2(sender)) => sender.ready().await.is_ok(),
        };
        if !usable {
            *held = None;
        }
        let sender = match held.as_mut() {
            Some(sender) => sender,
            None => held.insert(self.connect().await?),
        };
        let response = match sender {
            Sender::H1(sender) => sender.send_request(request).await.context("the proxy hung up")?,
            Sender::H2(sender) => {
                let mut sender = sender.clone();
                drop(held);
                sender.send_request(request).await.context("the proxy ended the stream")?
            }
        };
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.context("the answer broke off")?;
        Ok((status, body.to_bytes()))
    }

    async fn connect(&self) -> Result<Sender> {
        let stream = TcpStream::connect(self.target)
            .await
            .with_context(|| format!("cannot connect to {}", self.target))?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        let io = TokioIo::new(stream);
        Ok(match self.http {
            Http::H1 => {
                let (sender, connection) = http1::handshake(io).await.context("no HTTP/1.1")?;
                tokio::spawn(connection);
                Sender::H1(sender)
            }
            Http::H2 => {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), io).await.context("no HTTP/2")?;
                tokio::spawn(connection);
                Sender::H2(sender)
            }
        })
    }
}
