//! Datagrams larger than a path, between real stacks: cut and put together, and errors that tell the sender.

use anyhow::{Context as _, Result, bail, ensure};
use harness::datapath_site::{BEYOND, DatapathSite, FAR, NARROW, POD, SOURCE, TOS};
use harness::eventually::eventually;
use harness::netns::Netns;
use harness::sockets::{PATIENCE, socket};
use socket2::Type;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// IP and UDP header.
pub(crate) const HEADERS: [usize; 2] = [28, 48];

/// A socket of the pod that is connected to one in `place`.
pub(crate) fn connected(
    wire: &DatapathSite,
    place: &Netns,
    address: IpAddr,
) -> Result<(UdpSocket, UdpSocket)> {
    let far = place.within(|| UdpSocket::bind(SocketAddr::new(address, 0)))??;
    far.set_read_timeout(Some(PATIENCE))?;
    let target = far.local_addr()?;
    let pod = UdpSocket::from(wire.pod.within(|| socket(target, Type::DGRAM, TOS))??);
    pod.set_read_timeout(Some(PATIENCE))?;
    pod.connect(target)?;
    Ok((pod, far))
}

/// Datagrams of several packets through NAT, there and back.
pub(crate) fn pieces(wire: &DatapathSite, family: usize) -> Result<()> {
    let (pod, far) = connected(wire, &wire.far, FAR[family])?;
    for size in [4000, 9001, 60_000] {
        let sent: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let mut buffer = vec![0; 65_536];
        pod.send(&sent)?;
        let (length, from) = far.recv_from(&mut buffer).with_context(|| format!("{size} bytes"))?;
        ensure!(buffer.get(..length) == Some(&sent), "{size} bytes became {length}, or others");
        ensure!(from.ip() == SOURCE[family], "{size} bytes came from {from}");
        far.send_to(&sent, from)?;
        let length = pod.recv(&mut buffer).with_context(|| format!("{size} bytes back"))?;
        ensure!(buffer.get(..length) == Some(&sent), "{size} bytes became {length} on the way back");
    }
    Ok(())
}

/// The pod sends a datagram that is one packet of `size` bytes until it knows the path and cuts it.
pub(crate) fn learned(wire: &DatapathSite, place: &Netns, address: IpAddr, size: usize) -> Result<()> {
    let family = usize::from(address.is_ipv6());
    let (pod, far) = connected(wire, place, address)?;
    let large = vec![7; size - HEADERS[family]];
    let mut buffer = [0; 2000];
    eventually("the router's answer", PATIENCE, || match pod.send(&large) {
        // The stack cuts what is too large for the path from now on, instead of having it dropped.
        Ok(_) => {
            far.set_read_timeout(Some(std::time::Duration::from_millis(100)))?;
            let (length, from) = far.recv_from(&mut buffer)?;
            ensure!(length == large.len() && from.ip() == SOURCE[family], "{length} bytes from {from}");
            Ok(())
        }
        Err(error) => bail!("{error}"),
    })
    .with_context(|| format!("from {} to {address}", POD[family]))
}

/// What fits the narrow path arrives, what does not is told.
pub(crate) fn narrow(wire: &DatapathSite, family: usize) -> Result<()> {
    let (pod, far) = connected(wire, &wire.beyond, BEYOND[family])?;
    let fits = vec![7; NARROW as usize - HEADERS[family]];
    pod.send(&fits)?;
    let mut buffer = [0; 2000];
    let (length, from) = far.recv_from(&mut buffer).context("what fits")?;
    ensure!(length == fits.len() && from.ip() == SOURCE[family], "{length} bytes from {from}");
    learned(wire, &wire.beyond, BEYOND[family], 1400)
}
