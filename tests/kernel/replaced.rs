//! Programs that change under load: taken over by a new agent, then many times more.

use crate::attached::modes;
use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::programs::SchedClassifier;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::SchedClassifierLink;
use clovisor_datapath::kernel::plan::AttachMode;
use clovisor_datapath::kernel::plan::AttachOrigin;
use harness::datapath_site::{DatapathSite, FAR, SOURCE, Steered, TOS, Translation};
use harness::programs::on_maps_of;
use harness::sockets::{Connection, connect, socket};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::Type;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::{Duration, Instant};

const PORT: u16 = 7000;
/// Datagrams a second of the load where [`PACE`] asks for no other number.
const RATE: u64 = 20_000;
/// For machines that cannot do that.
const PACE: &str = "CLOVISOR_LOAD_PPS";
/// Bytes of the stream that go each way before it is looked at whether the programs have been changed.
const ROUND: usize = 2_000_000;
/// How often the programs change under it.
const TIMES: u32 = 100;

#[test]
fn programs_are_replaced_under_load_without_a_packet_lost_or_astray() -> Result<()> {
    for &mode in modes()? {
        let wire = DatapathSite::build()?;
        let Steered { programs, tables, .. } = wire.steer(mode, Translation::Nat)?;
        drop((programs, tables));
        let mut generations = [on_maps_of(wire.bpffs(), "pod_in")?, on_maps_of(wire.bpffs(), "pod_in")?];
        let far = wire.far.within(|| receiver(FAR[0]))??;
        let target = far.local_addr()?;
        // Read as they come: a socket holds no more than the machine's memory allows.
        let counter = std::thread::spawn(move || count(&far));
        let ((stop_load, load_stopped), (stop_stream, stream_stopped)) = (channel(), channel());
        let sender = wire.pod.spawn("load", move || load(target, &load_stopped))?;
        // A stream that is under way all the time.
        let connection = connect(&wire, 0, TOS)?;
        let source = connection.source.ip();
        let stream = std::thread::spawn(move || stream(connection, &stream_stopped));
        let replaced = replace(&wire, mode, &mut generations);
        drop((stop_load, stop_stream));
        let sent = sender.join().map_err(|_| anyhow::anyhow!("the load panicked"))???;
        stream.join().map_err(|_| anyhow::anyhow!("the stream panicked"))??;
        replaced?;
        ensure!(sent > u64::from(TIMES), "{mode:?}: no load, {sent} datagrams");
        let seen = counter.join().map_err(|_| anyhow::anyhow!("the counter panicked"))??;
        let steered = seen.get(&SOURCE[0]).copied().unwrap_or_default();
        ensure!(steered == sent && seen.len() == 1, "{mode:?}: {sent} datagrams sent, came: {seen:?}");
        ensure!(source == SOURCE[0], "{mode:?}: the stream came from {source}");
    }
    Ok(())
}

/// Once as a new agent does, then many times more by turns between two generations of the pods' program.
fn replace(wire: &DatapathSite, mode: AttachMode, generations: &mut [Ebpf; 2]) -> Result<()> {
    let Steered { programs, tables, .. } = wire.steer(mode, Translation::Nat)?;
    let origins = programs.attached().values().map(|attached| attached.origin);
    ensure!(origins.into_iter().all(|origin| origin == AttachOrigin::Replaced), "{mode:?}: not taken over");
    drop((programs, tables));
    wire.edge.within(|| {
        for turn in 0..TIMES {
            let [one, other] = &mut *generations;
            let ebpf = if turn % 2 == 0 { one } else { other };
            let program: &mut SchedClassifier =
                ebpf.program_mut("pod_in").context("no pod_in")?.try_into()?;
            take_over(program, wire, mode).with_context(|| format!("turn {turn}"))?;
        }
        Ok(())
    })?
}

fn take_over(program: &mut SchedClassifier, wire: &DatapathSite, mode: AttachMode) -> Result<()> {
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

/// Rounds on one connection until told to stop.
fn stream(mut connection: Connection, stopped: &Receiver<()>) -> Result<()> {
    while stopped.try_recv() == Err(TryRecvError::Empty) {
        connection.round(ROUND)?;
    }
    // Once more, after the last change.
    connection.round(ROUND)
}

/// Sends at the rate, or as fast as this machine can, until told to stop; how many went.
fn load(target: SocketAddr, stopped: &Receiver<()>) -> Result<u64> {
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
        if pause == Err(RecvTimeoutError::Disconnected) {
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
