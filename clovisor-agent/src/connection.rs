//! Connections with limits: how many at a time, and how long a peer may keep its server waiting.
//!
//! **In**: streams of a listener. **Out**: the same streams, which fail when their time is over. **Owns**: the limit of a listener.
//! **Never**: knows a protocol.

use axum::serve::Listener;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// How long a server waits for its peer.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    within: Duration,
    /// Bytes that the peer has to send within the time; after them it may take any.
    opening: Option<usize>,
}

impl Patience {
    /// For each question, from the answer before it.
    #[must_use]
    pub const fn for_questions(within: Duration) -> Self {
        Self { within, opening: None }
    }

    /// For the first bytes of a connection.
    #[must_use]
    pub const fn for_opening(bytes: usize, within: Duration) -> Self {
        Self { within, opening: Some(bytes) }
    }
}

/// How many connections a listener may have at a time.
#[derive(Clone, Debug)]
pub struct ConnectionLimit(Arc<Semaphore>);

impl ConnectionLimit {
    /// Connections at a time; the next ones wait until one ends.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self(Arc::new(Semaphore::new(connections)))
    }

    /// Waits until there is room. Never none: the limit is not closed.
    pub async fn take(&self) -> Option<ConnectionPermit> {
        self.0.clone().acquire_owned().await.ok().map(ConnectionPermit)
    }
}

/// Room for one connection, free again when it is dropped.
#[derive(Debug)]
pub struct ConnectionPermit(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

/// A stream that counts against the limit, and whose peer has a time.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    patience: Patience,
    read: usize,
    /// When the patience ends; none: it does not.
    end: Option<Pin<Box<Sleep>>>,
    _place: Option<ConnectionPermit>,
}

impl<S> Connection<S> {
    /// The time begins now.
    pub fn new(stream: S, place: Option<ConnectionPermit>, patience: Patience) -> Self {
        Self { stream, patience, read: 0, end: Some(Box::pin(sleep(patience.within))), _place: place }
    }

    /// The stream itself.
    pub const fn stream(&self) -> &S {
        &self.stream
    }

    fn note_read(&mut self, bytes: usize) {
        self.read = self.read.saturating_add(bytes);
        if self.patience.opening.is_some_and(|opening| self.read >= opening) {
            self.end = None;
        }
    }

    fn note_answer(&mut self) {
        if let (None, Some(end)) = (self.patience.opening, &mut self.end) {
            end.as_mut().reset(Instant::now() + self.patience.within);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            self.note_read(buffer.filled().len() - before);
            return Poll::Ready(result);
        }
        match self.end.as_mut().map(|end| end.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            _ => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.note_answer();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A listener for HTTP whose connections are limited in number and time.
#[derive(Debug)]
pub struct Limited<L> {
    listener: L,
    places: ConnectionLimit,
    patience: Patience,
}

impl<L> Limited<L> {
    /// `connections` at a time, each with `within` for a question.
    pub fn new(listener: L, connections: usize, within: Duration) -> Self {
        Self {
            listener,
            places: ConnectionLimit::new(connections),
            patience: Patience::for_questions(within),
        }
    }
}

impl<L: Listener> Listener for Limited<L> {
    type Io = Connection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let place = self.places.take().await;
        let (stream, address) = self.listener.accept().await;
        (Connection::new(stream, place, self.patience), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    const SHORT: Duration = Duration::from_millis(200);

    async fn server(connections: usize) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = axum::Router::new().route("/", axum::routing::get(async || "ok"));
        tokio::spawn(async move { axum::serve(Limited::new(listener, connections, SHORT), router).await });
        Ok(address)
    }

    async fn answered(address: SocketAddr) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    #[tokio::test]
    async fn who_does_not_finish_a_question_loses_the_place() -> io::Result<()> {
        let address = server(2).await?;
        let mut half = Vec::new();
        for _ in 0..8 {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(b"GET / HT").await?;
            half.push(stream);
        }
        let text = answered(address).await?;
        assert!(text.starts_with("HTTP/1.0 200"), "{text}");
        for mut stream in half {
            // Closed, by a FIN or by a RST.
            let _closed = stream.read_to_end(&mut Vec::new()).await;
        }
        Ok(())
    }

    #[tokio::test]
    async fn who_asks_again_in_time_stays() -> io::Result<()> {
        let mut stream = TcpStream::connect(server(1).await?).await?;
        let start = Instant::now();
        while start.elapsed() < 3 * SHORT {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await?;
            let mut answer = [0; 512];
            let length = stream.read(&mut answer).await?;
            assert!(answer.get(..length).is_some_and(|answer| answer.starts_with(b"HTTP/1.1 200")));
        }
        Ok(())
    }

    #[tokio::test]
    async fn an_opening_has_a_time_and_the_rest_has_not() -> io::Result<()> {
        let (mut peer, stream) = tokio::io::duplex(64);
        let mut connection = Connection::new(stream, None, Patience::for_opening(3, SHORT));
        peer.write_all(b"ab").await?;
        let mut buffer = [0; 8];
        assert_eq!(connection.read(&mut buffer).await?, 2);
        let error = connection.read(&mut buffer).await.map_err(|error| error.kind());
        assert_eq!(error, Err(io::ErrorKind::TimedOut));
        let (mut peer, stream) = tokio::io::duplex(64);
        let mut connection = Connection::new(stream, None, Patience::for_opening(3, SHORT));
        peer.write_all(b"abc").await?;
        assert_eq!(connection.read(&mut buffer).await?, 3);
        let silent = tokio::time::timeout(2 * SHORT, connection.read(&mut buffer)).await;
        assert!(silent.is_err(), "ended though it had opened: {silent:?}");
        Ok(())
    }
}
