//! Pods that dial past any proxy, and a far end that sends back what it got, or says who asked.

use anyhow::{Context as _, Result, ensure};
use harness::objects;
use harness::site::Site;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// Where the far end sends back what it got.
pub(crate) const PORT: u16 = 9100;
/// Where the far end says by which address the pod came, over TCP and UDP.
const WHO: u16 = 9101;

/// Everything of every pod to the service by s9, else s8.
pub(crate) const MAPPING: &str = "---
apiVersion: clovisor.io/v1alpha1
kind: WanMapping
metadata: {name: till, namespace: shop}
spec:
  traffic:
    destinations:
    - {cidr: 203.0.113.0/24}
    - {cidr: 203.0.113.0/24, protocol: UDP}
    - {cidr: \"2001:db8:cafe::/48\"}
    - {cidr: \"2001:db8:cafe::/48\", protocol: UDP}
  links: [s9, s8]
";

/// Starts the agent with both links, and the far end. `extra`: lines of both links' specs.
pub(crate) fn open(site: &mut Site, extra: &str) -> Result<()> {
    open_with(site, &(objects::link("s8", extra) + &objects::link("s9", extra)))
}

/// The same with these links.
pub(crate) fn open_with(site: &mut Site, links: &str) -> Result<()> {
    site.apply("1-links.yaml", links)?;
    site.apply("3-pods.yaml", &objects::pods(&site.pods))?;
    site.apply("4-mappings.yaml", MAPPING)?;
    site.start_agent()?;
    for ipv6 in [false, true] {
        let (echo, who) = (Site::service(ipv6, PORT), Site::service(ipv6, WHO));
        serve(site, echo, |stream, _| std::io::copy(&mut &stream, &mut &stream).map(drop))?;
        serve(site, who, |mut stream, from| stream.write_all(from.ip().to_string().as_bytes()))?;
        let socket = site.cloud.within(move || UdpSocket::bind(who))?.context("no UDP socket")?;
        std::thread::spawn(move || {
            // Ends with the process.
            while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
                if socket.send_to(from.ip().to_string().as_bytes(), from).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

/// Each thread ends with its connection, all with the process.
fn serve(
    site: &Site,
    address: SocketAddr,
    answer: impl Fn(TcpStream, SocketAddr) -> std::io::Result<()> + Copy + Send + 'static,
) -> Result<()> {
    let listener = site.cloud.within(move || TcpListener::bind(address))?.context("cannot listen")?;
    std::thread::spawn(move || {
        while let Ok((stream, from)) = listener.accept() {
            std::thread::spawn(move || answer(stream, from));
        }
    });
    Ok(())
}

pub(crate) fn dial(site: &Site, pod: usize, ipv6: bool, own_port: u16) -> Result<TcpStream> {
    let target = Site::service(ipv6, PORT);
    site.pods[pod].netns.within(|| -> Result<TcpStream> {
        let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if own_port != 0 {
            socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::UNSPECIFIED, own_port))))?;
        }
        socket.connect_timeout(&target.into(), Duration::from_secs(5)).context("no connection")?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(stream)
    })?
}

pub(crate) fn says(stream: &mut TcpStream, word: &[u8]) -> Result<()> {
    stream.write_all(word)?;
    let mut got = vec![0; word.len()];
    stream.read_exact(&mut got)?;
    ensure!(got == word, "another answer");
    Ok(())
}

/// The address by which a new connection of pod 0 reaches the far end.
pub(crate) fn seen_as(site: &Site, ipv6: bool) -> Result<IpAddr> {
    let target = Site::service(ipv6, WHO);
    let connect = move || TcpStream::connect_timeout(&target, Duration::from_secs(2));
    let mut stream = site.pods[0].netns.within(connect)?.context("no connection")?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.parse()?)
}

/// A socket of pod 0 whose datagrams the far end answers with the address that they come from.
pub(crate) fn datagrams(site: &Site, ipv6: bool) -> Result<UdpSocket> {
    let (target, any) = (Site::service(ipv6, WHO), if ipv6 { "[::]:0" } else { "0.0.0.0:0" });
    let socket = site.pods[0].netns.within(move || UdpSocket::bind(any))??;
    socket.connect(target)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(socket)
}

/// The address by which a datagram of this socket reaches the far end.
pub(crate) fn datagram_seen_as(socket: &UdpSocket) -> Result<IpAddr> {
    socket.send(b"who")?;
    let mut text = [0; 64];
    let length = socket.recv(&mut text).context("no answer")?;
    Ok(std::str::from_utf8(&text[..length])?.parse()?)
}

pub(crate) fn by_link(site: &mut Site, link: &str) -> Result<usize> {
    Ok(site.agent()?.sessions()?.iter().filter(|s| s["link"] == link && s["protocol"] == "TCP").count())
}
