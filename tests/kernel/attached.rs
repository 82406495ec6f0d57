//! The programs at work on devices.

use crate::features::has_tcx;
use anyhow::{Context as _, Result, ensure};
use clovisor_agent::config::AttachMode;
use clovisor_agent::kernel::load::Origin;
use clovisor_common::abi::Reason;
use harness::wire::{FAR, POD, SOURCE, Steered, TOS, Translation, Wire};
use socket2::{Domain, Socket, Type};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The modes that this kernel has, the preferred one last.
pub(crate) fn modes() -> Result<&'static [AttachMode]> {
    let all = &[AttachMode::Clsact, AttachMode::Tcx];
    Ok(if has_tcx()? { all } else { &all[..1] })
}

#[test]
fn connections_and_datagrams_take_the_link_both_ways() -> Result<()> {
    for &mode in modes()? {
        let wire = Wire::build()?;
        for family in [0, 1] {
            let seen = exchange(&wire, family, TOS).with_context(|| format!("{mode:?}, before"))?;
            ensure!(seen == POD[family], "{mode:?}: {seen} without programs");
        }
        let Steered { programs, tables, .. } = wire.steer(mode, Translation::Nat)?;
        ensure!(
            programs.attached().values().all(|a| a.mode == mode && a.origin == Origin::Fresh),
            "{mode:?}"
        );
        for family in [0, 1] {
            let seen = exchange(&wire, family, TOS).with_context(|| format!("{mode:?}, {}", FAR[family]))?;
            ensure!(seen == SOURCE[family], "{mode:?}: {seen} with the class");
            let seen = exchange(&wire, family, 0)?;
            ensure!(seen == POD[family], "{mode:?}: {seen} without a class");
        }
        let counters = tables.counters()?;
        let opened = counters.get(&Reason::FlowOpened).map_or(0, |counter| counter.packets);
        ensure!(opened == 4, "{mode:?}: {opened} flows opened, not a connection and a datagram each");
    }
    Ok(())
}

/// 200 kB there and back on one connection, and one datagram; the source that the far end saw of both.
fn exchange(wire: &Wire, family: usize, tos: u32) -> Result<IpAddr> {
    let by_tcp = stream(wire, family, tos)?;
    let by_udp = datagram(wire, family, tos)?;
    ensure!(by_tcp == by_udp, "TCP came from {by_tcp}, UDP from {by_udp}");
    Ok(by_tcp)
}

pub(crate) fn stream(wire: &Wire, family: usize, tos: u32) -> Result<IpAddr> {
    let listener = wire.far.within(|| TcpListener::bind(SocketAddr::new(FAR[family], 0)))??;
    let target = listener.local_addr()?;
    let far = wire.far.spawn("far", move || -> Result<IpAddr> {
        let (mut stream, from) = listener.accept()?;
        std::io::copy(&mut stream.try_clone()?, &mut stream)?;
        Ok(from.ip())
    })?;
    wire.pod.within(|| -> Result<()> {
        let socket = socket(target, Type::STREAM, tos)?;
        socket.connect_timeout(&target.into(), PATIENCE)?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        let sent: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
        let mut half = stream.try_clone()?;
        let all = sent.clone();
        let writer = std::thread::spawn(move || {
            half.write_all(&all).and_then(|()| half.shutdown(std::net::Shutdown::Write))
        });
        let mut got = Vec::new();
        stream.read_to_end(&mut got)?;
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        ensure!(got == sent, "{} bytes came back, or others", got.len());
        Ok(())
    })??;
    far.join().map_err(|_| anyhow::anyhow!("the far end panicked"))??
}

fn datagram(wire: &Wire, family: usize, tos: u32) -> Result<IpAddr> {
    let far = wire.far.within(|| UdpSocket::bind(SocketAddr::new(FAR[family], 0)))??;
    far.set_read_timeout(Some(PATIENCE))?;
    let target = far.local_addr()?;
    let pod = UdpSocket::from(wire.pod.within(|| socket(target, Type::DGRAM, tos))??);
    pod.set_read_timeout(Some(PATIENCE))?;
    pod.connect(target)?;
    pod.send(b"there")?;
    let mut buffer = [0; 16];
    let (_, from) = far.recv_from(&mut buffer)?;
    far.send_to(b"back", from)?;
    ensure!(pod.recv(&mut buffer)? == 4, "a wrong answer");
    Ok(from.ip())
}

pub(crate) fn socket(target: SocketAddr, kind: Type, tos: u32) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), kind, None)?;
    match target {
        SocketAddr::V4(_) => socket.set_tos_v4(tos)?,
        SocketAddr::V6(_) => socket.set_tclass_v6(tos)?,
    }
    Ok(socket)
}
