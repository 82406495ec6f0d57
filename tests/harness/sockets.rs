//! What sockets say to each other across a [`DatapathSite`], checked byte by byte.

use crate::datapath_site::{DatapathSite, FAR};
use anyhow::{Context as _, Result, anyhow, ensure};
use socket2::{Domain, Socket, Type};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A socket that sends with this type of service byte.
pub fn socket(target: SocketAddr, kind: Type, tos: u32) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), kind, None)?;
    match target {
        SocketAddr::V4(_) => socket.set_tos_v4(tos)?,
        SocketAddr::V6(_) => socket.set_tclass_v6(tos)?,
    }
    Ok(socket)
}

/// A connection of the pod to an echo of the far end.
#[derive(Debug)]
pub struct Connection {
    pub pod: TcpStream,
    /// As the far end sees the pod.
    pub source: SocketAddr,
}

/// Connects; the far end answers with what it gets until the pod shuts down.
pub fn connect(site: &DatapathSite, family: usize, tos: u32) -> Result<Connection> {
    let listener = site.far.within(|| TcpListener::bind(SocketAddr::new(FAR[family], 0)))??;
    let target = listener.local_addr()?;
    let far =
        site.far.spawn("echo", move || -> Result<(TcpStream, SocketAddr)> { Ok(listener.accept()?) })?;
    let pod = site.pod.within(|| -> Result<TcpStream> {
        let socket = socket(target, Type::STREAM, tos)?;
        socket.connect_timeout(&target.into(), PATIENCE)?;
        Ok(socket.into())
    })??;
    let (stream, source) = far.join().map_err(|_| anyhow!("the far end panicked"))???;
    // Ends with its connection.
    std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
    pod.set_read_timeout(Some(PATIENCE))?;
    Ok(Connection { pod, source })
}

impl Connection {
    /// Sends so many bytes and gets them back while it sends; the connection stays.
    pub fn round(&mut self, bytes: usize) -> Result<()> {
        let sent = pattern(bytes);
        let (mut half, all) = (self.pod.try_clone()?, sent.clone());
        let writer = std::thread::spawn(move || half.write_all(&all));
        let mut got = vec![0; bytes];
        self.pod.read_exact(&mut got).context("stands still")?;
        writer.join().map_err(|_| anyhow!("the writer panicked"))??;
        ensure!(got == sent, "other bytes came back");
        Ok(())
    }

    /// Sends so many bytes and gets them back while it sends, then ends the connection; `after`: runs when a third came.
    pub fn echo(mut self, bytes: usize, after: impl FnOnce() -> Result<()>) -> Result<()> {
        let sent = pattern(bytes);
        let (mut half, all) = (self.pod.try_clone()?, sent.clone());
        let writer =
            std::thread::spawn(move || half.write_all(&all).and_then(|()| half.shutdown(Shutdown::Write)));
        let mut got = vec![0; bytes / 3];
        self.pod.read_exact(&mut got).context("the first third")?;
        after()?;
        self.pod.read_to_end(&mut got).with_context(|| format!("stands still after {} bytes", got.len()))?;
        writer.join().map_err(|_| anyhow!("the writer panicked"))??;
        ensure!(got == sent, "{} of {bytes} bytes came back, or others", got.len());
        Ok(())
    }
}

/// So many bytes, with a period that no buffer's size is a multiple of.
fn pattern(bytes: usize) -> Vec<u8> {
    let mut pattern = (0..251).collect::<Vec<u8>>().repeat(bytes.div_ceil(251));
    pattern.truncate(bytes);
    pattern
}

/// So many bytes there and back on one connection; the source that the far end saw.
pub fn stream(site: &DatapathSite, family: usize, tos: u32, bytes: usize) -> Result<IpAddr> {
    let connection = connect(site, family, tos)?;
    let source = connection.source.ip();
    connection.echo(bytes, || Ok(())).map(|()| source)
}

/// So many datagrams of this size there and back; the source that the far end saw.
pub fn datagrams(site: &DatapathSite, family: usize, tos: u32, count: usize, size: usize) -> Result<IpAddr> {
    let far = site.far.within(|| UdpSocket::bind(SocketAddr::new(FAR[family], 0)))??;
    far.set_read_timeout(Some(PATIENCE))?;
    let target = far.local_addr()?;
    let pod = UdpSocket::from(site.pod.within(|| socket(target, Type::DGRAM, tos))??);
    pod.set_read_timeout(Some(PATIENCE))?;
    pod.connect(target)?;
    let mut source = None;
    for n in 0..count {
        let sent = pattern(size + n).split_off(n);
        let mut buffer = vec![0; 65_536];
        pod.send(&sent)?;
        let (length, from) = far.recv_from(&mut buffer).with_context(|| format!("datagram {n} there"))?;
        ensure!(buffer.get(..length) == Some(&sent), "datagram {n}: other bytes there");
        far.send_to(&sent, from)?;
        let length = pod.recv(&mut buffer).with_context(|| format!("datagram {n} back"))?;
        ensure!(buffer.get(..length) == Some(&sent), "datagram {n}: other bytes back");
        ensure!(source.replace(from.ip()).is_none_or(|old| old == from.ip()), "from several addresses");
    }
    source.context("no datagram")
}
