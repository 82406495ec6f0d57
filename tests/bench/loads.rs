//! Bursts of traffic from the pod to the far end. Both run on one CPU, so that the rate shows the cost of a packet.

use anyhow::{Context as _, Result, bail};
use harness::datapath_site::{DatapathSite, FAR, TOS};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const BURST: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);
const MESSAGE: usize = 64;

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Load {
    /// 64 bytes in each direction, over one connection.
    Requests,
    /// A connection for each request.
    Connections,
    /// As many bytes as one connection carries.
    Stream,
    /// Datagrams of 64 bytes; those that are sent count.
    Datagrams,
}

impl Load {
    pub(crate) const ALL: [Self; 4] = [Self::Requests, Self::Connections, Self::Stream, Self::Datagrams];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Requests => "request-response 64 B",
            Self::Connections => "connect-request-close",
            Self::Stream => "one stream",
            Self::Datagrams => "UDP 64 B",
        }
    }

    /// The first byte of a connection, by which the far end knows the load.
    const fn tag(self) -> u8 {
        match self {
            Self::Requests => b'r',
            Self::Connections => b'c',
            Self::Stream => b's',
            Self::Datagrams => b'd',
        }
    }
}

/// First byte of the connection that ends the far end.
const END: u8 = b'q';

/// Pins this thread to the second CPU, if there is one: the first one handles the interrupts.
fn pin_to_cpu() -> Result<()> {
    let last = std::thread::available_parallelism()?.get() - 1;
    let mut one = CpuSet::new();
    one.set(last.min(1))?;
    Ok(sched_setaffinity(Pid::from_raw(0), &one)?)
}

/// Sends one burst; its requests, connections, bytes or datagrams per second.
pub(crate) fn run(site: &DatapathSite, load: Load) -> Result<f64> {
    if load == Load::Datagrams {
        return datagrams(site);
    }
    let listener = site.far.within(|| TcpListener::bind(SocketAddr::new(FAR[0], 0)))??;
    let target = listener.local_addr()?;
    let far = site.far.spawn("far", move || far_end(&listener))?;
    let rate = site.pod.within(|| -> Result<f64> {
        pin_to_cpu()?;
        let rate = match load {
            Load::Requests => requests(target),
            Load::Connections => connections(target),
            _ => stream(target),
        }?;
        dial(target, TOS)?.write_all(&[END])?;
        Ok(rate)
    })??;
    let bytes = far.join().map_err(|_| anyhow::anyhow!("the far end panicked"))???;
    Ok(if load == Load::Stream { bytes } else { rate })
}

/// The source address that the far end sees.
pub(crate) fn source(site: &DatapathSite, tos: u32) -> Result<IpAddr> {
    let listener = site.far.within(|| TcpListener::bind(SocketAddr::new(FAR[0], 0)))??;
    let target = listener.local_addr()?;
    let stream = site.pod.within(|| dial(target, tos))??;
    let (_, from) = listener.accept()?;
    drop(stream);
    Ok(from.ip())
}

pub(crate) fn dial(target: SocketAddr, tos: u32) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_tos_v4(tos)?;
    socket.connect_timeout(&target.into(), PATIENCE).context("the far end does not answer")?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn requests(target: SocketAddr) -> Result<f64> {
    let mut stream = dial(target, TOS)?;
    let mut message = [Load::Requests.tag(); MESSAGE];
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < BURST {
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

fn connections(target: SocketAddr) -> Result<f64> {
    let mut message = [Load::Connections.tag(); MESSAGE];
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < BURST {
        let mut stream = dial(target, TOS)?;
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        // The far end closes first, so that TIME_WAIT does not hold the pod's ports.
        if stream.read(&mut message)? != 0 {
            bail!("the far end sent more bytes than the request had");
        }
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

fn stream(target: SocketAddr) -> Result<f64> {
    let mut stream = dial(target, TOS)?;
    let piece = vec![Load::Stream.tag(); 128 << 10];
    let start = Instant::now();
    while start.elapsed() < BURST {
        stream.write_all(&piece)?;
    }
    Ok(0.0)
}

/// Sent, not received: the sender's CPU does all the work up to the far socket.
fn datagrams(site: &DatapathSite) -> Result<f64> {
    let far = site.far.within(|| UdpSocket::bind(SocketAddr::new(FAR[0], 0)))??;
    far.set_read_timeout(Some(PATIENCE))?;
    let target = far.local_addr()?;
    let rate = site.pod.within(|| -> Result<f64> {
        pin_to_cpu()?;
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.set_tos_v4(TOS)?;
        socket.connect(&target.into())?;
        let (start, mut count) = (Instant::now(), 0_u32);
        while start.elapsed() < BURST {
            for _ in 0..32 {
                socket.send(&[Load::Datagrams.tag(); MESSAGE])?;
                count += 1;
            }
        }
        Ok(f64::from(count) / start.elapsed().as_secs_f64())
    })??;
    let mut buffer = [0; MESSAGE];
    let length = far.recv(&mut buffer).context("no datagram arrived")?;
    if length != MESSAGE {
        bail!("a datagram of {length} bytes arrived");
    }
    Ok(rate)
}

/// Serves connections until one begins with [`END`]; the rate of the last stream, in bytes per second.
fn far_end(listener: &TcpListener) -> Result<f64> {
    pin_to_cpu()?;
    let mut rate = 0.0;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let first = stream.read(&mut buffer)?;
        match buffer.first() {
            Some(&END) => return Ok(rate),
            Some(b's') => {
                let (start, mut bytes) = (Instant::now(), first as u64);
                loop {
                    match stream.read(&mut buffer)? {
                        0 => break,
                        more => bytes += more as u64,
                    }
                }
                rate = bytes as f64 / start.elapsed().as_secs_f64();
            }
            Some(b'c') => stream.write_all(buffer.get(..first).unwrap_or_default())?,
            _ => {
                stream.write_all(buffer.get(..first).unwrap_or_default())?;
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    stream.write_all(buffer.get(..length).unwrap_or_default())?;
                }
            }
        }
    }
}
