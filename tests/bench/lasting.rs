//! Connections at an ordinary rate for a minute: what the far end remembers of earlier ones shows only then.
//!
//! The far end closes first and keeps each tuple for 60 s (TIME_WAIT). A tuple that comes back meanwhile as somebody else's is refused,
//! and its SYN is sent again after milliseconds, or a second.

use crate::checks::Counts;
use crate::datapaths::{Attached, Datapath, set_up};
use crate::loads::dial;
use crate::report::{Lasting, Report};
use anyhow::{Context as _, Result, ensure};
use clovisor_common::abi::Addr;
use clovisor_datapath::kernel::diff::diff;
use clovisor_datapath::kernel::image::wide;
use clovisor_datapath::kernel::plan::{AttachPoint, Hook};
use clovisor_datapath::kernel::state::NamedDevice;
use harness::datapath_site::{DatapathSite, FAR, Steered, TOS};
use harness::netns::{Netns, run};
use nix::net::if_::if_nametoindex;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Connections a second of each pod.
const RATE: u32 = 200;
const TIME: Duration = Duration::from_secs(75);
/// The agent sweeps as often.
const SWEEP: Duration = Duration::from_secs(5);
const LATE: Duration = Duration::from_millis(5);

const WAYS: [(Datapath, usize); 4] = [
    (Datapath::PlainRouting, 1),
    (Datapath::Fwmark, 1),
    (Datapath::SteeredNat, 1),
    (Datapath::SteeredNat, 2),
];

/// One way with its pods and its far end at work.
struct Way {
    name: String,
    site: DatapathSite,
    attached: Attached,
    pods: Vec<Netns>,
    before: Counts,
}

/// What a pod saw.
#[derive(Default)]
struct Opened {
    connections: usize,
    late: usize,
    worst: Duration,
}

/// All ways at once, so that what disturbs the machine disturbs all of them.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let mut ways = WAYS.into_iter().map(|(path, pods)| Way::build(path, pods)).collect::<Result<Vec<_>>>()?;
    eprintln!("{RATE} connections a second of each pod, for {} s", TIME.as_secs());
    let mut running = Vec::new();
    let mut stops: Vec<Sender<()>> = Vec::new();
    for way in &ways {
        let listener = way.site.far.within(|| TcpListener::bind(SocketAddr::new(FAR[0], 0)))??;
        let target = listener.local_addr()?;
        let count = way.pods.len() + 1;
        let far = way.site.far.spawn("far", move || far_end(&listener, count))?;
        let mut pods = Vec::new();
        for pod in std::iter::once(&way.site.pod).chain(&way.pods) {
            let (stop, stopped) = channel();
            stops.push(stop);
            pods.push(pod.spawn("pod", move || opens(target, &stopped))?);
        }
        running.push((far, pods));
    }
    let start = Instant::now();
    while start.elapsed() < TIME {
        // Nobody sends: a timer.
        let (_timer, expires) = channel::<()>();
        let _expired = expires.recv_timeout(SWEEP);
        ways.iter_mut().try_for_each(|way| way.attached.sweep())?;
    }
    drop(stops);
    for (way, (far, pods)) in ways.iter().zip(running) {
        let mut all = Opened::default();
        for pod in pods {
            let one = pod.join().map_err(|_| anyhow::anyhow!("a pod panicked"))???;
            all.connections += one.connections;
            all.late += one.late;
            all.worst = all.worst.max(one.worst);
        }
        far.join().map_err(|_| anyhow::anyhow!("the far end panicked"))???;
        let after = Counts::read(&way.site, way.attached.steered())?;
        report.lasting(Lasting {
            name: way.name.clone(),
            connections: all.connections,
            late: all.late,
            worst_ms: all.worst.as_secs_f64() * 1000.0,
            syns_again: after.grown_since(&way.before, "TCPSynRetrans"),
        });
        if way.attached.steered().is_some() {
            after.unchanged_since(&way.before).with_context(|| way.name.clone())?;
        }
    }
    Ok(())
}

impl Way {
    fn build(path: Datapath, count: usize) -> Result<Self> {
        let site = DatapathSite::build()?;
        let mut attached = set_up(path, &site)?;
        let pods =
            (1..count).map(|number| another_pod(&site, &mut attached, number)).collect::<Result<_>>()?;
        let plural = if count == 1 { "" } else { "s" };
        let name = format!("{}, {count} pod{plural}", path.name());
        let before = Counts::read(&site, attached.steered())?;
        Ok(Self { name, site, attached, pods, before })
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        for pod in &self.pods {
            let _gone = run(Command::new("ip").args(["netns", "del", pod.name()]), None);
        }
    }
}

/// One more pod behind the same links.
fn another_pod(site: &DatapathSite, attached: &mut Attached, number: usize) -> Result<Netns> {
    let pod = Netns::create(&format!("{}{number}", site.pod.name()))?;
    let (subnet, device) = (format!("10.9.{}", 30 + number), format!("v{number}"));
    site.edge.ip(&format!(
        "link add {device} type veth peer name eth0 netns {}\naddr add {subnet}.1/24 dev {device}\nlink set {device} up\n",
        pod.name()
    ))?;
    pod.ip(&format!(
        "addr add {subnet}.2/24 dev eth0\nlink set eth0 up\nroute add default via {subnet}.1\n"
    ))?;
    site.far.ip(&format!("route add {subnet}.0/24 via 10.9.10.1\n"))?;
    let address: Ipv4Addr = format!("{subnet}.2").parse()?;
    let steered = attached.steered_mut().context("a pod more is for Clovisor's ways only")?;
    site.edge.within(|| steer_also(steered, &device, address.into()))??;
    Ok(pod)
}

fn steer_also(steered: &mut Steered, device: &str, address: IpAddr) -> Result<()> {
    let (first, veth) = (if_nametoindex("v0")?, if_nametoindex(device)?);
    let old = steered.tables.read()?;
    let mut image = old.clone();
    let pod = *image.pods.get(&first).context("no pod in the maps")?;
    image.pods.insert(veth, pod);
    image.addrs.insert(wide(address), Addr { veth, zone: pod.zone, pad: 0 });
    diff(&old, &image).iter().try_for_each(|op| steered.tables.apply(op))?;
    let mut places: BTreeSet<AttachPoint> = steered.programs.attached().keys().copied().collect();
    places.insert(AttachPoint { hook: Hook::PodIn, ifindex: veth });
    let named = NamedDevice { name: device.to_owned(), epoch: 0 };
    Ok(steered.programs.converge(&places, &BTreeMap::from([(veth, named)]))?)
}

/// Opens connections at the rate until told to stop.
fn opens(target: SocketAddr, stopped: &Receiver<()>) -> Result<Opened> {
    let (mut opened, start) = (Opened::default(), Instant::now());
    let mut message = [b'c'; 64];
    loop {
        let due = start + Duration::from_secs(1) * opened.connections as u32 / RATE;
        let pause = due.saturating_duration_since(Instant::now());
        if stopped.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
            dial(target, TOS)?.write_all(b"q")?;
            return Ok(opened);
        }
        let began = Instant::now();
        let mut stream = dial(target, TOS)?;
        let took = began.elapsed();
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        ensure!(stream.read(&mut message)? == 0, "more bytes than the request had");
        opened.connections += 1;
        opened.late += usize::from(took > LATE);
        opened.worst = opened.worst.max(took);
    }
}

/// Answers and closes, until all pods have said that they end.
fn far_end(listener: &TcpListener, pods: usize) -> Result<()> {
    let mut left = pods;
    let mut message = [0; 64];
    while left > 0 {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.read_exact(&mut message[..1])?;
        if message[0] == b'q' {
            left -= 1;
            continue;
        }
        stream.read_exact(&mut message[1..])?;
        stream.write_all(&message)?;
    }
    Ok(())
}
