//! The fast path through the programs against the long one: the same packets, the same maps, the same outcome.

use anyhow::{Context as _, Result, ensure};
use aya::Pod as Plain;
use clovisor_common::abi::{
    Counter, Flow, FlowKey, FlowState, LINK_MARK, LINK_NAT, LINK_UP, LINK_UP4, LINK_UP6, Link, NO_LINK, Pod,
    Reason, SLOT_FOLLOW, Slot, dscp_of_class,
};
use harness::programs::Variant;
use std::fmt::Debug;

use crate::datagrams::{UDP, datagram};
use crate::frames::{Shape, data, syn};
use crate::machine::{
    CLASS, LINK, Machine, PASS, PEER4, PEER6, POD4, POD6, REDIRECT, SOURCE4, SOURCE6, SPORT, VETH, link,
};
use crate::traffic::govern;

const OTHER: u8 = 9;
const STORIES: u32 = 24;
const STEPS: usize = 120;
/// Steps after which all that the machines remember is compared.
const LOOK: usize = 20;

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn of<T: Clone>(&mut self, some: &[T]) -> Result<T> {
        some.get(self.roll(some.len())).cloned().context("nothing to choose from")
    }
}

/// What happens to a machine.
#[derive(Clone, Debug)]
enum Step {
    Packet(&'static str, Vec<u8>),
    Slot(Slot),
    Link(u8, Link),
}

/// One flow's surroundings.
#[derive(Clone, Copy, Debug)]
struct Story {
    v6: bool,
    udp: bool,
    flags: u32,
}

impl Story {
    fn frame(&self, dice: &mut Dice, out: bool) -> Result<Vec<u8>> {
        let nat = self.flags & (LINK_NAT | LINK_MARK) == LINK_NAT;
        let (pod, peer) =
            if self.v6 { (POD6.to_vec(), PEER6.to_vec()) } else { (POD4.to_vec(), PEER4.to_vec()) };
        let source = if self.v6 { SOURCE6.to_vec() } else { SOURCE4.to_vec() };
        let (from, to) = if out { (pod, peer) } else { (peer, if nat { source } else { pod }) };
        let (dscp, ttl) =
            (dice.of(&[dscp_of_class(CLASS), 0, 46, dscp_of_class(2)])?, dice.of(&[64, 64, 64, 2, 1, 0])?);
        let payload = dice.of(&[0, 1, 20, 700, 1420, 1460, 1480])?;
        let (sport, dport) = if out { (SPORT, 443) } else { (443, SPORT) };
        let mut frame = if self.udp {
            let mut sent = datagram(UDP, self.v6);
            sent.kind = crate::datagrams::Kind::Udp { sport, dport };
            (sent.from, sent.to, sent.dscp, sent.ttl, sent.payload) = (from, to, dscp, ttl, payload);
            sent.frame()?
        } else {
            let flags = dice.of(&["A", "A", "A", "A", "SA", "S", "FA", "RA", ""])?;
            let (from, to) = (Some(from), Some(to));
            Shape { from, to, sport, dport, dscp, ttl, flags, payload, ..data(self.v6, 0) }.frame()?
        };
        // Now and then a byte of the headers is another, or the end is missing.
        match dice.roll(12) {
            0 => {
                let at = 14 + dice.roll(60);
                if let Some(byte) = frame.get_mut(at) {
                    *byte = dice.roll(256) as u8;
                }
            }
            // The kernel runs nothing on less than an IP header.
            1 => frame.truncate(if self.v6 { 54 } else { 34 } + dice.roll(40)),
            _ => {}
        }
        Ok(frame)
    }

    fn step(&self, dice: &mut Dice) -> Result<Step> {
        let up = self.link();
        Ok(match dice.roll(14) {
            0 => {
                let flags = dice.of(&[0, SLOT_FOLLOW])?;
                Step::Slot(Slot {
                    link4: dice.of(&[LINK, LINK, OTHER, NO_LINK])?,
                    link6: dice.of(&[LINK, LINK, OTHER, NO_LINK])?,
                    flags,
                    wire_dscp: dice.of(&[0, 46])?,
                    forbidden: dice.of(&[0, 0, 1 << LINK, 1 << OTHER])?,
                    ..Slot::NONE
                })
            }
            1 => {
                let downs = [LINK_UP, LINK_UP4, LINK_UP6].map(|down| self.flags & !down);
                let flags = dice.of(&[&[self.flags; 3][..], &downs].concat())?;
                Step::Link(LINK, Link { flags, mtu: dice.of(&[1500, 1500, 1280])?, ..up })
            }
            2 => Step::Link(OTHER, Link { ifindex: 12, ..up }),
            3..8 => Step::Packet("wan_in", self.frame(dice, false)?),
            _ => Step::Packet("pod_in", self.frame(dice, true)?),
        })
    }

    /// A link whose mode is Mark from its first flow on has no source ports.
    fn link(&self) -> Link {
        let ports = if self.flags & LINK_MARK == 0 || self.udp { link().port_min } else { 0 };
        Link { flags: self.flags, port_min: ports, port_max: ports, ..link() }
    }

    fn machine(&self, variant: Variant) -> Result<Machine> {
        let mut machine = Machine::by(variant)?;
        machine.link(LINK, self.link())?;
        govern(&mut machine)?;
        Ok(machine)
    }
}

/// All that a machine remembers, but not when.
fn memory<A: Copy + Debug>(machine: &Machine, map: &str) -> Result<Vec<String>>
where
    FlowKey<A>: Plain,
    Flow<A>: Plain,
{
    let mut all = Vec::new();
    for table in [map.to_owned(), map.replace("FLOW", "UNREPLIED")] {
        for (key, flow) in machine.entries::<A>(&table)? {
            let state = FlowState { created_ns: 0, last_seen_ns: 0, jiffies: 0, ..flow.state };
            all.push(format!("{table} {key:?} {:?}", Flow { state, ..flow }));
        }
    }
    all.sort();
    Ok(all)
}

type Memory = (Vec<String>, Vec<u64>, (Counter, Counter));

fn all_of(machine: &Machine) -> Result<Memory> {
    let mut flows = memory::<[u8; 4]>(machine, "FLOW4")?;
    flows.extend(memory::<[u8; 16]>(machine, "FLOW6")?);
    let counts = Reason::ALL.iter().map(|reason| machine.counted(*reason)).collect::<Result<_>>()?;
    Ok((flows, counts, machine.carried()?))
}

fn taken(machine: &mut Machine, step: &Step) -> Result<(i32, Vec<u8>)> {
    match step {
        Step::Packet(program, frame) => machine.run(program, frame).map(|ran| (ran.verdict, ran.frame)),
        Step::Slot(slot) => machine.slot(*slot).map(|()| (0, Vec::new())),
        Step::Link(index, link) => machine.link(*index, *link).map(|()| (0, Vec::new())),
    }
}

/// Generated packets both ways, broken ones among them, while slot, link and MTU change.
#[test]
fn the_short_way_does_what_the_long_way_does() -> Result<()> {
    let mut dice = Dice(2020);
    let mut steered = 0;
    for number in 0..STORIES {
        let flags = dice.of(&[link().flags, LINK_UP, link().flags | LINK_MARK])?;
        let story = Story { v6: number % 2 == 0, udp: number % 3 == 0, flags };
        let mut machines = [story.machine(Variant::Shipped)?, story.machine(Variant::SlowPath)?];
        // A flow, answered: what most packets meet.
        let mut steps = Vec::new();
        if !story.udp {
            steps.push(Step::Packet("pod_in", syn(story.v6).frame()?));
        }
        for _ in 0..STEPS {
            steps.push(story.step(&mut dice)?);
        }
        for (at, step) in steps.iter().enumerate() {
            let [short, long] = &mut machines;
            let (one, other) = (taken(short, step)?, taken(long, step)?);
            ensure!(
                one == other,
                "{story:?}, step {at}, {step:02x?}: {one:02x?}, by the slow path {other:02x?}"
            );
            if at % LOOK == 0 || at + 1 == steps.len() {
                let (one, other) = (all_of(short)?, all_of(long)?);
                ensure!(one == other, "{story:?}, step {at}: {one:#?}, by the slow path {other:#?}");
            }
        }
        steered += machines[0].counted(Reason::Steered)? + machines[0].counted(Reason::Returned)?;
    }
    ensure!(steered > 300, "only {steered} packets were steered");
    Ok(())
}

/// The control: the two are not the same code. Only the slow path looks the pod up for every packet.
#[test]
fn the_short_way_is_taken() -> Result<()> {
    for v6 in [false, true] {
        for (way, verdict) in [(Variant::Shipped, REDIRECT), (Variant::SlowPath, PASS)] {
            let story = Story { v6, udp: false, flags: link().flags };
            let mut machine = story.machine(way)?;
            let answer = Shape { flags: "SA", ..data(v6, 0) };
            let (from, to) =
                if v6 { (PEER6.to_vec(), SOURCE6.to_vec()) } else { (PEER4.to_vec(), SOURCE4.to_vec()) };
            let answer = Shape { from: Some(from), to: Some(to), sport: 443, dport: SPORT, ..answer };
            for (program, frame) in [("pod_in", syn(v6)), ("wan_in", answer)] {
                ensure!(
                    machine.run(program, &frame.frame()?)?.verdict == REDIRECT,
                    "{program} does not steer"
                );
            }
            machine.remove::<u32, Pod>("PODS", VETH)?;
            let ran = machine.run("pod_in", &data(v6, 9).frame()?)?;
            ensure!(ran.verdict == verdict, "{way:?}, v6 {v6}: {}", ran.verdict);
        }
    }
    Ok(())
}
