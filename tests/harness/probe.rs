//! One request by hand: any uid, any DSCP, any source address, and every byte of the request as written.

use crate::far_end::Observation;
use crate::netns::Netns;
use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A connection for one request.
#[derive(Clone, Debug)]
pub struct Probe {
    pub target: SocketAddr,
    /// Owner of the socket; 1337 is the proxy's.
    pub uid: u32,
    pub dscp: u8,
    /// Own address; none: the kernel's choice.
    pub source: Option<IpAddr>,
    /// The request, from its first line to the empty one.
    pub request: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub observed: Option<Observation>,
}

impl Answer {
    /// The link by which the request came.
    pub fn link(&self) -> Result<&str> {
        let observed =
            self.observed.as_ref().with_context(|| format!("status {} without observed", self.status))?;
        Ok(&observed.link)
    }
}

impl Probe {
    /// A plain GET of an application.
    #[must_use]
    pub fn new(target: SocketAddr, host: &str) -> Self {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        Self { target, uid: 1000, dscp: 0, source: None, request: request.into_bytes() }
    }

    /// The same from a socket of this uid.
    #[must_use]
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = uid;
        self
    }

    /// The same with this DSCP on every packet.
    #[must_use]
    pub fn dscp(mut self, dscp: u8) -> Self {
        self.dscp = dscp;
        self
    }

    /// The same from this address.
    #[must_use]
    pub fn source(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Sends it from inside the namespace; two seconds to connect, five to answer.
    pub fn ask(self, netns: &Netns) -> Result<Answer> {
        netns.within(move || self.send())?
    }

    fn send(&self) -> Result<Answer> {
        // Of this thread only, which ends with the request; the socket's owner is set when it is made.
        let _ = setfsgid(Gid::from_raw(self.uid));
        let _ = setfsuid(Uid::from_raw(self.uid));
        let socket =
            Socket::new(Domain::for_address(self.target), Type::STREAM, None).context("no socket")?;
        let tos = u32::from(self.dscp) << 2;
        match self.target {
            SocketAddr::V4(_) => socket.set_tos_v4(tos),
            SocketAddr::V6(_) => socket.set_tclass_v6(tos),
        }
        .context("cannot set the DSCP")?;
        if let Some(source) = self.source {
            socket
                .bind(&SocketAddr::new(source, 0).into())
                .with_context(|| format!("cannot bind {source}"))?;
        }
        let limit = Duration::from_secs(5);
        socket.connect_timeout(&self.target.into(), Duration::from_secs(2)).context("cannot connect")?;
        socket.set_read_timeout(Some(limit)).context("cannot set a timeout")?;
        let mut stream = std::net::TcpStream::from(socket);
        stream.write_all(&self.request).context("cannot send")?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text).context("cannot read the answer")?;
        read(&text)
    }
}

/// Status and body of an HTTP/1.1 answer that ends with its connection.
fn read(text: &[u8]) -> Result<Answer> {
    let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else {
        bail!("not an HTTP answer: {:?}", String::from_utf8_lossy(text));
    };
    let head = String::from_utf8_lossy(&text[..end]);
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).context("no status")?;
    let body = &text[end + 4..];
    // A chunked body has its length on a line of its own before the object.
    let object = body.iter().position(|byte| *byte == b'{').zip(body.iter().rposition(|byte| *byte == b'}'));
    let observed = object.and_then(|(from, to)| serde_json::from_slice(&body[from..=to]).ok());
    Ok(Answer { status, observed })
}
