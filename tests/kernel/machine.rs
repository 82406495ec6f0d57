//! The loaded programs with their maps, for one test.

use crate::loaded::Loaded;
use anyhow::{Context as _, Result, ensure};
use aya::Pod as Plain;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use clovisor_common::abi::{
    Addr, ClassKey, Counter, DestKey, Flow, FlowKey, LINK_NAT, LINK_UP, Link, LinkCounters, NO_LINK, Peer,
    PeerKey, Pod, Reason, Slot, Traffic, TrafficKey,
};
use harness::programs::Variant;

/// A test run's packets come in by the loopback device.
pub(crate) const VETH: u32 = 1;
pub(crate) const ZONE: u16 = 7;
pub(crate) const CLASS: u8 = 5;
pub(crate) const SPORT: u16 = 40_001;
pub(crate) const SLOT: u32 = 40;
/// A test run's socket belongs to root.
pub(crate) const UID: u32 = 0;
pub(crate) const MTU: u16 = 1500;
pub(crate) const PORT_BE: u16 = 443_u16.to_be();
pub(crate) const LINK: u8 = 3;

pub(crate) const PASS: i32 = -1;
pub(crate) const DROP: i32 = 2;
pub(crate) const REDIRECT: i32 = 7;

pub(crate) const POD4: [u8; 4] = [10, 1, 0, 5];
pub(crate) const PEER4: [u8; 4] = [198, 51, 100, 9];
pub(crate) const REAL4: [u8; 4] = [203, 0, 113, 77];
pub(crate) const SOURCE4: [u8; 4] = [192, 0, 2, 31];
pub(crate) const POD6: [u8; 16] = [0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
pub(crate) const PEER6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
pub(crate) const REAL6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
pub(crate) const SOURCE6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 31];

/// The address as `ADDRS`, `DESTS` and `PEERS` hold it.
pub(crate) fn mapped(addr: [u8; 4]) -> [u8; 16] {
    std::net::Ipv4Addr::from(addr).to_ipv6_mapped().octets()
}

/// What a program made of a packet.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) verdict: i32,
    pub(crate) frame: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Machine {
    loaded: Loaded,
}

impl Machine {
    /// Loads the programs with a small pod, class, slot and NAT link that is up.
    pub(crate) fn ready() -> Result<Self> {
        Self::with_flows(64)
    }

    /// The same with room for `flows` entries of each family.
    pub(crate) fn with_flows(flows: u32) -> Result<Self> {
        Self::loaded(Loaded::with_flows(flows)?)
    }

    /// The same, where packets may go the fast path or not.
    pub(crate) fn by(variant: Variant) -> Result<Self> {
        Self::loaded(Loaded::with(64, variant)?)
    }

    fn loaded(loaded: Loaded) -> Result<Self> {
        let mut machine = Self { loaded };
        machine.put("PODS", VETH, Pod { zone: ZONE, traffic: 0, proxy_uid: UID })?;
        for addr in [mapped(POD4), POD6] {
            machine.put("ADDRS", addr, Addr { veth: VETH, zone: ZONE, pad: 0 })?;
        }
        machine.put("CLASSES", ClassKey { zone: ZONE, class: CLASS, pad: 0 }, SLOT)?;
        for addr in [mapped(PEER4), PEER6] {
            machine.put("DESTS", dest(addr), 1_u32 << (CLASS - 1))?;
        }
        machine.put("LINK_OF", VETH, u32::from(LINK))?;
        machine.link(LINK, link())?;
        machine.slot(Slot::of(LINK))?;
        Ok(machine)
    }

    pub(crate) fn put<K: Plain, V: Plain>(&mut self, map: &str, key: K, value: V) -> Result<()> {
        let map = self.map_mut(map)?;
        Ok(HashMap::try_from(map)?.insert(key, value, 0)?)
    }

    pub(crate) fn remove<K: Plain, V: Plain>(&mut self, map: &str, key: K) -> Result<()> {
        let mut map: HashMap<&mut MapData, K, V> = self.map_mut(map)?.try_into()?;
        Ok(map.remove(&key)?)
    }

    pub(crate) fn link(&mut self, index: u8, link: Link) -> Result<()> {
        Ok(Array::try_from(self.map_mut("LINKS")?)?.set(index.into(), link, 0)?)
    }

    pub(crate) fn slot(&mut self, slot: Slot) -> Result<()> {
        self.slot_at(SLOT, slot)
    }

    pub(crate) fn slot_at(&mut self, index: u32, slot: Slot) -> Result<()> {
        Ok(Array::try_from(self.map_mut("SLOTS")?)?.set(index, slot, 0)?)
    }

    /// Rules for the first `bits` of the key's address.
    pub(crate) fn traffic(&mut self, bits: u32, key: TrafficKey, traffic: Traffic) -> Result<()> {
        let mut map: LpmTrie<&mut MapData, TrafficKey, Traffic> = self.map_mut("TRAFFIC")?.try_into()?;
        Ok(map.insert(&Key::new(TrafficKey::HEAD + bits, key), traffic, 0)?)
    }

    /// The first `bits` of the address are local, or an exception from what is.
    pub(crate) fn local(&mut self, bits: u32, address: [u8; 16], value: u32) -> Result<()> {
        let mut map: LpmTrie<&mut MapData, [u8; 16], u32> = self.map_mut("LOCAL")?.try_into()?;
        Ok(map.insert(&Key::new(bits, address), value, 0)?)
    }

    /// The slot loses its link.
    pub(crate) fn no_link(&mut self, flags: u8) -> Result<()> {
        self.slot(Slot { flags, ..Slot::of(NO_LINK) })
    }

    /// The entries of a family's flows: of `FLOW4` those of `UNREPLIED4` too.
    pub(crate) fn flows<A>(&self, map: &str) -> Result<Vec<(FlowKey<A>, Flow<A>)>>
    where
        FlowKey<A>: Plain,
        Flow<A>: Plain,
    {
        let mut flows = self.entries(map)?;
        flows.extend(self.entries(&map.replace("FLOW", "UNREPLIED"))?);
        Ok(flows)
    }

    /// The entries of one table.
    pub(crate) fn entries<A>(&self, map: &str) -> Result<Vec<(FlowKey<A>, Flow<A>)>>
    where
        FlowKey<A>: Plain,
        Flow<A>: Plain,
    {
        let map: HashMap<&MapData, FlowKey<A>, Flow<A>> = self.map(map)?.try_into()?;
        Ok(map.iter().collect::<Result<_, _>>()?)
    }

    /// Packets counted under `reason`.
    pub(crate) fn counted(&self, reason: Reason) -> Result<u64> {
        let stats: PerCpuArray<&MapData, Counter> = self.map("STATS")?.try_into()?;
        Ok(stats.get(&(reason as u32), 0)?.iter().map(|counter| counter.packets).sum())
    }

    /// Packets and bytes counted on the link, sent and received.
    pub(crate) fn carried(&self) -> Result<(Counter, Counter)> {
        let stats: PerCpuArray<&MapData, LinkCounters> = self.map("LINK_STATS")?.try_into()?;
        let sum =
            |a: Counter, b: Counter| Counter { packets: a.packets + b.packets, bytes: a.bytes + b.bytes };
        let all = stats.get(&u32::from(LINK), 0)?;
        let zero = (Counter::default(), Counter::default());
        Ok(all.iter().fold(zero, |(tx, rx), cpu| (sum(tx, cpu.tx), sum(rx, cpu.rx))))
    }

    /// Fails unless exactly these reasons were counted, once each, in any order.
    pub(crate) fn expect_counted(&self, expected: &[Reason]) -> Result<()> {
        for reason in Reason::ALL {
            let times = expected.iter().filter(|wanted| *wanted == reason).count() as u64;
            let counted = self.counted(*reason)?;
            ensure!(counted == times, "{} counted {counted} times, not {times}", reason.name());
        }
        Ok(())
    }

    /// Runs a program on a packet that is for the device that it comes in by.
    pub(crate) fn run(&self, name: &str, frame: &[u8]) -> Result<Ran> {
        if name != "wan_in" {
            return self.run_raw(name, frame);
        }
        // That is the loopback device, whose address is zero; tests see the frame's.
        let (mut own, mut address) = (frame.to_vec(), [0; 6]);
        let swap = |frame: &mut Vec<u8>, address: &mut [u8; 6]| {
            if let Some(place) = frame.first_chunk_mut() {
                std::mem::swap(place, address);
            }
        };
        swap(&mut own, &mut address);
        let mut ran = self.run_raw(name, &own)?;
        swap(&mut ran.frame, &mut address);
        Ok(ran)
    }

    pub(crate) fn program(&self, name: &str) -> Result<&SchedClassifier> {
        Ok(self.loaded.ebpf()?.program(name).context("no such program")?.try_into()?)
    }

    /// Runs a program on a packet as it is.
    pub(crate) fn run_raw(&self, name: &str, frame: &[u8]) -> Result<Ran> {
        let program = self.program(name)?;
        let mut out = vec![0; frame.len() + 256];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::new() };
        let ran = program.test_run(options)?;
        out.truncate(ran.data_size_out as usize);
        Ok(Ran { verdict: ran.return_value.cast_signed(), frame: out })
    }

    /// The same for a packet that has a mark; with the mark that it has afterwards.
    pub(crate) fn run_marked(&self, program: &str, frame: &[u8], mark: u32) -> Result<(Ran, u32)> {
        // `struct __sk_buff` begins with len, pkt_type, mark; the kernel takes a prefix of it.
        let mut context = [0; 192];
        context[8..12].copy_from_slice(&mark.to_ne_bytes());
        let (mut after, mut out) = (context, vec![0; frame.len() + 256]);
        let program = self.program(program)?;
        let ran = program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ctx_out: Some(&mut after),
            ..TestRunOptions::new()
        })?;
        out.truncate(ran.data_size_out as usize);
        let mark = after[8..12].try_into().map(u32::from_ne_bytes)?;
        Ok((Ran { verdict: ran.return_value.cast_signed(), frame: out }, mark))
    }

    pub(crate) fn map(&self, name: &str) -> Result<&Map> {
        self.loaded.ebpf()?.map(name).with_context(|| format!("the object has no map {name}"))
    }

    fn map_mut(&mut self, name: &str) -> Result<&mut Map> {
        self.loaded.ebpf_mut()?.map_mut(name).with_context(|| format!("the object has no map {name}"))
    }
}

/// A NAT link that is up; its only source port is that of the frames, so that their ports stay.
pub(crate) fn link() -> Link {
    Link {
        ifindex: 11,
        mtu: MTU,
        wire_dscp: 0,
        pad: 0,
        flags: LINK_UP | LINK_NAT,
        mark: 0,
        mark_mask: 0,
        port_min: SPORT,
        port_max: SPORT,
        gateway4: [192, 0, 2, 1],
        source4: SOURCE4,
        gateway6: [0; 16],
        source6: SOURCE6,
    }
}

pub(crate) fn dest(addr: [u8; 16]) -> DestKey {
    DestKey { addr, port_be: PORT_BE, zone: ZONE, proto: 6, pad: [0; 3] }
}

/// On `index`, the dialled address is `real` with port 8443.
pub(crate) fn peer(dialled: [u8; 16], real: [u8; 16], index: u8) -> (PeerKey, Peer) {
    let key = PeerKey { addr: dialled, port_be: PORT_BE, link: index, proto: 6 };
    (key, Peer { addr: real, port_be: 8443_u16.to_be(), pad: [0; 2] })
}
