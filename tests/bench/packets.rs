//! Time of the program for one packet, by `BPF_PROG_TEST_RUN`, less the time of an empty program.
//!
//! Each repetition of a run gets the packet that the previous one returned. The flows therefore form rings, in which the
//! translated tuple of a flow is the tuple of the next flow. A ring of two flows stays in the caches; a ring of all flows
//! in a random order never does.

use crate::report::Report;
use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, HashMap, MapData};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, Pod as PlainData};
use clovisor_common::abi::{
    DestKey, FLOW_AS_IS, FLOW_NAT, Flow, FlowKey, FlowState, LINK_NAT, LINK_UP, Link, Pod, SLOT_FOLLOW, Slot,
};
use clovisor_common::packet::{Address, TCP};
use clovisor_common::rule;
use clovisor_datapath::kernel::flows::Flows;
use etherparse::PacketBuilder;
use harness::programs::{Variant, load, object};
use std::time::Instant;

/// Test runs use the loopback device.
const VETH: u32 = 1;
const ZONE: u16 = 1;
/// Repetitions of a run; each one decrements the hop limit.
const REPEAT: u32 = 250;
const RUNS: usize = 300;

/// An address family of the bench.
trait Family: Address + Ord {
    const TABLE: &'static str;
    const NAME: &'static str;
    /// The n-th address of the pods, or of the peers if bit 31 is set.
    fn numbered(n: u32) -> Self;
    fn frame(saddr: Self, daddr: Self, sport: u16) -> Result<Vec<u8>>;
}

impl Family for [u8; 4] {
    const TABLE: &'static str = "FLOW4";
    const NAME: &'static str = "IPv4";

    fn numbered(n: u32) -> Self {
        (0x0a00_0000 | n >> 14 | (n >> 31) << 23).to_be_bytes()
    }

    fn frame(saddr: Self, daddr: Self, sport: u16) -> Result<Vec<u8>> {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(saddr, daddr, 255);
        builder.tcp(sport, 443, 1, 60_000).ack(1).write(&mut frame, &[7; 64])?;
        Ok(frame)
    }
}

impl Family for [u8; 16] {
    const TABLE: &'static str = "FLOW6";
    const NAME: &'static str = "IPv6";

    fn numbered(n: u32) -> Self {
        let mut address = [0xfd; 16];
        address[12..].copy_from_slice(&(n >> 14 | (n >> 31) << 23).to_be_bytes());
        address
    }

    fn frame(saddr: Self, daddr: Self, sport: u16) -> Result<Vec<u8>> {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6(saddr, daddr, 255);
        builder.tcp(sport, 443, 1, 60_000).ack(1).write(&mut frame, &[7; 64])?;
        Ok(frame)
    }
}

/// The tuple of flow `n`.
fn key<A: Family>(n: u32) -> FlowKey<A> {
    let sport_be = (1024 + (n & 0x3fff) as u16).to_be();
    let daddr = A::numbered(1 << 31);
    FlowKey {
        saddr: A::numbered(n),
        daddr,
        sport_be,
        dport_be: 443_u16.to_be(),
        scope: VETH,
        proto: TCP.into(),
        pad: 0,
    }
}

/// The flow `from`, translated to the tuple of `to`.
fn flow<A: Family>(from: &FlowKey<A>, to: &FlowKey<A>, flags: u16) -> Flow<A> {
    let state = FlowState {
        created_ns: 1,
        last_seen_ns: 1,
        packets: 1,
        bytes: 1,
        veth: VETH,
        slot: 0,
        link: 0,
        class: 1,
        zone: ZONE,
        flags,
        tcp_flags: 0,
        pad: [0; 3],
        jiffies: 0,
        ack_be: 0,
    };
    let (saddr, daddr) = (to.saddr, to.daddr);
    let mut flow = Flow { saddr, daddr, sport_be: 0, dport_be: 0, addr_delta: 0, port_delta: 0, state };
    rule::translate(&mut flow, from, saddr, daddr);
    rule::translate_ports(&mut flow, from, to.sport_be, to.dport_be);
    flow
}

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    eprintln!("packet by packet");
    let empty = Empty::load()?;
    let runs: Vec<_> = (0..RUNS).map(|_| empty.run()).collect::<Result<_>>()?;
    report.runs("an empty program (subtracted below)", &runs, &vec![0.0; RUNS]);
    empty.floor(report)?;
    for entries in [1_000, 100_000, 1_000_000] {
        family::<[u8; 4]>(report, entries, &empty)?;
    }
    family::<[u8; 16]>(report, 1_000, &empty)
}

fn family<A: Family>(report: &mut Report, entries: u32, empty: &Empty) -> Result<()>
where
    FlowKey<A>: PlainData,
    Flow<A>: PlainData,
{
    let size = format!("{}, {entries} flows", A::NAME);
    let mut ebpf = prepared(entries + 8)?;
    let start = Instant::now();
    fill::<A>(&mut ebpf, &(0..entries).collect::<Vec<_>>(), 0)?;
    let each = start.elapsed().as_nanos() as f64 / f64::from(entries);
    report.time(format!("{size}: the agent writes one"), each);
    let mut runs = |name: &str, ebpf: &Ebpf, starts: &mut dyn Iterator<Item = u32>| -> Result<()> {
        let (mut all, mut base) = (Vec::new(), Vec::new());
        for start in starts.take(RUNS) {
            base.push(empty.run()?);
            all.push(once::<A>(ebpf, start)?);
        }
        report.runs(format!("{size}{name}"), &all, &base);
        Ok(())
    };
    runs(": no NAT, hot", &ebpf, &mut std::iter::repeat(0))?;
    if entries == 1_000 {
        mappings(&mut ebpf)?;
        runs(", 10,000 destinations of mappings: no NAT, hot", &ebpf, &mut std::iter::repeat(0))?;
    }
    // Two flows, each translated to the other's tuple, in address and port.
    let [a, b] = [entries, entries + 1];
    fill::<A>(&mut ebpf, &[a, b], 1)?;
    runs(": NAT, address and port, hot", &ebpf, &mut std::iter::repeat(a))?;
    fill::<A>(&mut ebpf, &shuffled(entries), 1)?;
    let mut starts = (0..).map(|n: u32| n.wrapping_mul(2_654_435_761) % entries);
    runs(": NAT, address and port, a random flow each time", &ebpf, &mut starts)?;
    if entries == 100_000 {
        agent(report, &size, ebpf)?;
    }
    Ok(())
}

/// Times of the agent's work on so many flows.
fn agent(report: &mut Report, size: &str, mut ebpf: Ebpf) -> Result<()> {
    let mut flows = Flows::take(&mut ebpf)?;
    let start = Instant::now();
    let read = flows.read()?.0.len();
    report.time(format!("{size}: the agent reads all"), start.elapsed().as_nanos() as f64);
    ensure!(read >= 100_000, "{read} flows read");
    let start = Instant::now();
    // At the time of their creation no flow has ended.
    flows.sweep(1, &|_| true)?;
    report.time(format!("{size}: the agent looks for ended flows"), start.elapsed().as_nanos() as f64);
    Ok(())
}

/// All numbers below `count`, in an order that defeats caches and prefetching.
fn shuffled(count: u32) -> Vec<u32> {
    let mut order: Vec<_> = (0..count).collect();
    order.sort_by_key(|n| n.wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(40_503));
    order
}

/// Writes flows. Each is translated to the tuple of the flow `ahead` of it; the ring closes at the end.
fn fill<A: Family>(ebpf: &mut Ebpf, order: &[u32], ahead: usize) -> Result<()>
where
    FlowKey<A>: PlainData,
    Flow<A>: PlainData,
{
    let map = ebpf.map_mut(A::TABLE).context("no flow table")?;
    let mut map: HashMap<&mut MapData, FlowKey<A>, Flow<A>> = map.try_into()?;
    let next = order.iter().cycle().skip(ahead);
    for (from, to) in order.iter().zip(next) {
        let from = key::<A>(*from);
        map.insert(from, flow(&from, &key(*to), if ahead == 0 { FLOW_AS_IS } else { FLOW_NAT }), 0)?;
    }
    Ok(())
}

/// Nanoseconds per packet, on a ring that begins at flow `n`.
fn once<A: Family>(ebpf: &Ebpf, n: u32) -> Result<f64> {
    let key = key::<A>(n);
    let frame = A::frame(key.saddr, key.daddr, u16::from_be(key.sport_be))?;
    let program: &SchedClassifier = ebpf.program("pod_in").context("no pod_in")?.try_into()?;
    let (verdict, ns) = timed(program, &frame, REPEAT)?;
    ensure!(verdict == 7, "the last packet was not redirected: {verdict}");
    Ok(ns)
}

fn timed(program: &SchedClassifier, frame: &[u8], repeat: u32) -> Result<(u32, f64)> {
    let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
    let ran = program.test_run(options)?;
    Ok((ran.return_value, ran.duration.as_nanos() as f64))
}

/// A program that does nothing: its time is the overhead of a run.
struct Empty {
    ebpf: Ebpf,
    frame: Vec<u8>,
}

impl Empty {
    fn load() -> Result<Self> {
        let mut ebpf = aya::EbpfLoader::new().load(&std::fs::read(object("baseline")?)?)?;
        let program: &mut SchedClassifier =
            ebpf.program_mut("empty").context("no empty program")?.try_into()?;
        program.load()?;
        let floor: &mut SchedClassifier =
            ebpf.program_mut("floor").context("no program floor")?.try_into()?;
        floor.load()?;
        let mut flows: HashMap<_, [u32; 6], u64> = ebpf.map_mut("FLOWS").context("no FLOWS")?.try_into()?;
        let (saddr, daddr) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let [s0, s1, d0, d1] =
            [1_u16.to_be_bytes(), 443_u16.to_be_bytes()].concat().try_into().ok().context("ports")?;
        let ports = u32::from_ne_bytes([s0, s1, d0, d1]);
        flows.insert(
            [u32::from_ne_bytes(saddr), u32::from_ne_bytes(daddr), ports, 1, 6, 0],
            u64::from(VETH),
            0,
        )?;
        Ok(Self { ebpf, frame: <[u8; 4]>::frame(saddr, daddr, 1)? })
    }

    /// The time of a program that only looks a flow up and redirects: a lower bound.
    fn floor(&self, report: &mut Report) -> Result<()> {
        let program: &SchedClassifier = self.ebpf.program("floor").context("no program floor")?.try_into()?;
        let (mut all, mut base) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            base.push(self.run()?);
            let (verdict, ns) = timed(program, &self.frame, REPEAT)?;
            ensure!(verdict == 7, "the floor does not redirect: {verdict}");
            all.push(ns);
        }
        report.runs("the floor: one lookup, one redirection", &all, &base);
        Ok(())
    }

    fn run(&self) -> Result<f64> {
        let program: &SchedClassifier = self.ebpf.program("empty").context("no empty program")?.try_into()?;
        Ok(timed(program, &self.frame, REPEAT)?.1)
    }
}

/// The programs, with a pod and a link that is up.
fn prepared(flows: u32) -> Result<Ebpf> {
    let mut ebpf = load(flows, 512, Variant::Shipped)?;
    let pod = Pod { zone: ZONE, traffic: 0, proxy_uid: 0 };
    HashMap::<_, u32, Pod>::try_from(ebpf.map_mut("PODS").context("no PODS")?)?.insert(VETH, pod, 0)?;
    let link = Link {
        ifindex: VETH,
        mtu: 1500,
        wire_dscp: 0,
        pad: 0,
        flags: LINK_UP | LINK_NAT,
        mark: 0,
        mark_mask: 0,
        port_min: 20_000,
        port_max: 59_999,
        gateway4: [10, 9, 9, 9],
        source4: [10, 9, 9, 1],
        gateway6: [0xfd; 16],
        source6: [0xfd; 16],
    };
    Array::try_from(ebpf.map_mut("LINKS").context("no LINKS")?)?.set(0, link, 0)?;
    let slot = Slot { flags: SLOT_FOLLOW, ..Slot::of(0) };
    Array::try_from(ebpf.map_mut("SLOTS").context("no SLOTS")?)?.set(0, slot, 0)?;
    Ok(ebpf)
}

/// Destinations of many mappings.
fn mappings(ebpf: &mut Ebpf) -> Result<()> {
    let map = ebpf.map_mut("DESTS").context("no DESTS")?;
    let mut map: HashMap<&mut MapData, DestKey, u32> = map.try_into()?;
    for n in 0..10_000_u32 {
        let addr = <[u8; 4]>::numbered(n << 14).mapped();
        map.insert(DestKey { addr, port_be: 443, zone: ZONE, proto: TCP, pad: [0; 3] }, 1, 0)?;
    }
    Ok(())
}
