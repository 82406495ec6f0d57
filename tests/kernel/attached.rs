//! The programs at work on devices: steered, replaced under load, taken over.

use crate::features::has_tcx;
use crate::loaded::on_maps_of;
use anyhow::{Context as _, Result, ensure};
use aya::programs::SchedClassifier;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::SchedClassifierLink;
use clovisor_agent::config::AttachMode;
use clovisor_agent::kernel::load::Origin;
use clovisor_common::abi::Reason;
use harness::wire::{FAR, POD, SOURCE, TOS, Wire};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const PORT: u16 = 7000;
const PATIENCE: Duration = Duration::from_secs(20);

/// The modes that this kernel has.
fn modes() -> Result<&'static [AttachMode]> {
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
        let (programs, tables) = wire.steer(mode)?;
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

fn stream(wire: &Wire, family: usize, tos: u32) -> Result<IpAddr> {
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

fn socket(target: SocketAddr, kind: Type, tos: u32) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), kind, None)?;
    match target {
        SocketAddr::V4(_) => socket.set_tos_v4(tos)?,
        SocketAddr::V6(_) => socket.set_tclass_v6(tos)?,
    }
    Ok(socket)
}

/// Datagrams a second of the load where [`PACE`] asks for no other number.
const RATE: u64 = 20_000;
/// For machines that cannot do that.
const PACE: &str = "CLOVISOR_LOAD_PPS";
/// How often the programs change under it.
const TIMES: u32 = 100;

#[test]
fn programs_are_replaced_under_load_without_a_packet_lost_or_astray() -> Result<()> {
    for &mode in modes()? {
        let wire = Wire::build()?;
        let (programs, tables) = wire.steer(mode)?;
        drop((programs, tables));
        let far = wire.far.within(|| receiver(FAR[0]))??;
        let target = far.local_addr()?;
        // Read as they come: a socket holds no more than the machine's memory allows.
        let counter = std::thread::spawn(move || count(&far));
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let sender = wire.pod.spawn("load", move || load(target, &stopped))?;
        let done = replace(&wire, mode);
        drop(stop);
        let sent = sender.join().map_err(|_| anyhow::anyhow!("the load panicked"))???;
        done?;
        ensure!(sent > u64::from(TIMES), "{mode:?}: no load, {sent} datagrams");
        let seen = counter.join().map_err(|_| anyhow::anyhow!("the counter panicked"))??;
        let steered = seen.get(&SOURCE[0]).copied().unwrap_or_default();
        ensure!(steered == sent && seen.len() == 1, "{mode:?}: {sent} datagrams sent, came: {seen:?}");
        ensure!(stream(&wire, 0, TOS)? == SOURCE[0], "{mode:?}: not steered afterwards");
    }
    Ok(())
}

/// Once as a new agent does, then many times by turns between two generations of the programs.
fn replace(wire: &Wire, mode: AttachMode) -> Result<()> {
    let (programs, tables) = wire.steer(mode)?;
    let origins = programs.attached().values().map(|attached| attached.origin);
    ensure!(origins.into_iter().all(|origin| origin == Origin::Replaced), "{mode:?}: not taken over");
    drop((programs, tables));
    wire.edge.within(|| {
        let mut generations = [on_maps_of(wire.bpffs())?, on_maps_of(wire.bpffs())?];
        for turn in 0..TIMES {
            let [one, other] = &mut generations;
            let ebpf = if turn % 2 == 0 { one } else { other };
            let program: &mut SchedClassifier =
                ebpf.program_mut("pod_in").context("no pod_in")?.try_into()?;
            take_over(program, wire, mode).with_context(|| format!("turn {turn}"))?;
        }
        Ok(())
    })?
}

fn take_over(program: &mut SchedClassifier, wire: &Wire, mode: AttachMode) -> Result<()> {
    let version = format!("clovisor/v{}", clovisor_common::abi::ABI_VERSION);
    let device = nix::net::if_::if_nametoindex("v0")?;
    let old: SchedClassifierLink = if mode == AttachMode::Tcx {
        let pin = wire.bpffs().join(version).join("links").join(format!("pod_in-{device}"));
        FdLink::from(PinnedLink::from_pin(pin)?).try_into()?
    } else {
        let ingress = aya::programs::TcAttachType::Ingress;
        SchedClassifierLink::attached("v0", ingress, 1, aya::programs::tc::TcHandle::new(0, 0xc10), None)?
    };
    let id = program.attach_to_link(old)?;
    let link = program.take_link(id)?;
    // Dropped, a clsact filter would be removed; a TCX link stays by its pin.
    if mode == AttachMode::Clsact {
        std::mem::forget(link);
    }
    Ok(())
}

fn receiver(address: IpAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(address, PORT))?;
    // Room for all that comes while the reader waits for its turn.
    setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    Ok(socket)
}

/// Sends at the rate, or as fast as this machine can, until told to stop; how many went.
fn load(target: SocketAddr, stopped: &std::sync::mpsc::Receiver<()>) -> Result<u64> {
    let socket = UdpSocket::from(socket(target, Type::DGRAM, TOS)?);
    socket.connect(target)?;
    let rate = std::env::var(PACE).ok().map_or(Ok(RATE), |rate| rate.parse())?;
    let (start, mut sent) = (Instant::now(), 0_u64);
    loop {
        let due = start.elapsed().as_micros() as u64 * rate / 1_000_000;
        while sent < due {
            socket.send(&sent.to_be_bytes())?;
            sent += 1;
        }
        let pause = stopped.recv_timeout(Duration::from_millis(1));
        if pause == Err(std::sync::mpsc::RecvTimeoutError::Disconnected) {
            return Ok(sent);
        }
    }
}

/// Datagrams by their source, until none comes any more.
fn count(far: &UdpSocket) -> Result<BTreeMap<IpAddr, u64>> {
    let mut seen = BTreeMap::new();
    let mut buffer = [0; 16];
    loop {
        match far.recv_from(&mut buffer) {
            Ok((_, from)) => *seen.entry(from.ip()).or_default() += 1,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(seen),
            Err(error) => return Err(error.into()),
        }
    }
}
