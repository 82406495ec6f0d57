//! Datagrams larger than a path, between real stacks: cut and put together, and errors that tell the sender.

use anyhow::{Context as _, Result, bail, ensure};
use harness::eventually::eventually;
use harness::netns::Netns;
use harness::talk::{PATIENCE, socket};
use harness::wire::{BEYOND, FAR, NARROW, POD, SOURCE, TOS, Translation, Wire};
use socket2::Type;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::attached::modes;

/// A socket of the pod that is connected to one in `place`.
fn connected(wire: &Wire, place: &Netns, address: IpAddr) -> Result<(UdpSocket, UdpSocket)> {
    let far = place.within(|| UdpSocket::bind(SocketAddr::new(address, 0)))??;
    far.set_read_timeout(Some(PATIENCE))?;
    let target = far.local_addr()?;
    let pod = UdpSocket::from(wire.pod.within(|| socket(target, Type::DGRAM, TOS))??);
    pod.set_read_timeout(Some(PATIENCE))?;
    pod.connect(target)?;
    Ok((pod, far))
}

#[test]
fn datagrams_in_pieces_arrive_whole_both_ways() -> Result<()> {
    if let Some(&mode) = modes()?.last() {
        let wire = Wire::build()?;
        let attached = wire.steer(mode, Translation::Nat)?;
        for family in [0, 1] {
            let (pod, far) = connected(&wire, &wire.far, FAR[family])?;
            for size in [4000, 9001, 60_000] {
                let sent: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
                let mut buffer = vec![0; 65_536];
                pod.send(&sent)?;
                let (length, from) = far.recv_from(&mut buffer).with_context(|| format!("{size} bytes"))?;
                ensure!(
                    buffer.get(..length) == Some(&sent),
                    "{mode:?}: {size} bytes became {length}, or others"
                );
                ensure!(from.ip() == SOURCE[family], "{mode:?}: {size} bytes came from {from}");
                far.send_to(&sent, from)?;
                let length = pod.recv(&mut buffer).with_context(|| format!("{size} bytes back"))?;
                ensure!(
                    buffer.get(..length) == Some(&sent),
                    "{mode:?}: {size} bytes became {length} on the way back"
                );
            }
        }
        drop(attached);
    }
    Ok(())
}

#[test]
fn a_pod_learns_how_narrow_the_path_beyond_its_link_is() -> Result<()> {
    if let Some(&mode) = modes()?.last() {
        let wire = Wire::build()?;
        let attached = wire.steer(mode, Translation::Nat)?;
        for family in [0, 1] {
            let (pod, far) = connected(&wire, &wire.beyond, BEYOND[family])?;
            let headers = if family == 0 { 28 } else { 48 };
            let fits = vec![7; NARROW as usize - headers];
            pod.send(&fits)?;
            let mut buffer = [0; 2000];
            let (length, from) = far.recv_from(&mut buffer).context("what fits")?;
            ensure!(length == fits.len() && from.ip() == SOURCE[family], "{length} bytes from {from}");
            let large = vec![7; 1450 - headers];
            eventually("the router's answer", PATIENCE, || match pod.send(&large) {
                // The stack cuts what is too large for the path from now on, instead of having it dropped.
                Ok(_) => {
                    far.set_read_timeout(Some(std::time::Duration::from_millis(100)))?;
                    let (length, from) = far.recv_from(&mut buffer)?;
                    ensure!(
                        length == large.len() && from.ip() == SOURCE[family],
                        "{length} bytes from {from}"
                    );
                    Ok(())
                }
                Err(error) => bail!("{error}"),
            })
            .with_context(|| format!("{mode:?}, from {}", POD[family]))?;
        }
        drop(attached);
    }
    Ok(())
}
