//! Ratios of the figures, and their output as tables or JSON.

use crate::datapaths::Datapath;
use crate::loads::Load;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Ratios that are printed: dividend and divisor.
const PAIRS: [(Datapath, Datapath); 7] = [
    (Datapath::Baseline, Datapath::PlainRouting),
    (Datapath::Steered, Datapath::PlainRouting),
    (Datapath::SteeredNat, Datapath::PlainRouting),
    (Datapath::Steered, Datapath::Baseline),
    (Datapath::SteeredNat, Datapath::Masquerade),
    (Datapath::SteeredNat, Datapath::Fwmark),
    (Datapath::SteeredMark, Datapath::Fwmark),
];

/// All figures.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// One figure per round.
    bursts: BTreeMap<(Load, Datapath), Vec<f64>>,
    lasting: Vec<Lasting>,
    times: Vec<Time>,
    memory: Vec<Memory>,
}

/// Connections at an ordinary rate over a minute.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Lasting {
    pub(crate) name: String,
    pub(crate) connections: usize,
    /// Later than 5 ms.
    pub(crate) late: usize,
    pub(crate) worst_ms: f64,
    /// SYNs that were sent again.
    pub(crate) syns_again: u64,
}

/// Median of the rounds' rates.
#[derive(Clone, Debug, Serialize)]
struct Rate {
    name: String,
    per_second: f64,
}

/// Median of the rounds' ratios, and half of their interquartile range.
#[derive(Clone, Debug, Serialize)]
struct Ratio {
    name: String,
    ratio: f64,
    spread: f64,
    rounds: usize,
}

#[derive(Clone, Debug, Serialize)]
struct Time {
    name: String,
    ns: f64,
    /// The fifth percentile of many runs: the time on an undisturbed machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    quiet_ns: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
struct Memory {
    name: String,
    bytes: u64,
}

/// The quantile of the values: 0.5 is the median.
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len().saturating_sub(1)) as f64 * part;
    sorted.get(at.round() as usize).copied().unwrap_or(f64::NAN)
}

fn tenth(ns: f64) -> f64 {
    (ns * 10.0).round() / 10.0
}

pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

impl Report {
    /// Adds the rate of a burst.
    pub(crate) fn burst(&mut self, load: Load, datapath: Datapath, rate: f64) {
        self.bursts.entry((load, datapath)).or_default().push(rate);
    }

    /// Adds a way of the lasting run.
    pub(crate) fn lasting(&mut self, way: Lasting) {
        self.lasting.push(way);
    }

    fn rates(&self) -> Vec<Rate> {
        let all = Load::ALL.into_iter().flat_map(|load| Datapath::ALL.map(|datapath| (load, datapath)));
        let rate = |(load, datapath): (Load, Datapath)| {
            let name = format!("{}: {}", load.name(), datapath.name());
            Some(Rate { name, per_second: median(self.bursts.get(&(load, datapath))?).round() })
        };
        all.filter_map(rate).collect()
    }

    /// Adds a time.
    pub(crate) fn time(&mut self, name: impl Into<String>, ns: f64) {
        self.times.push(Time { name: name.into(), ns: tenth(ns), quiet_ns: None });
    }

    /// Adds the times of many runs: median and fifth percentile, each less that of `base`, the interleaved runs of the
    /// empty program.
    pub(crate) fn runs(&mut self, name: impl Into<String>, runs: &[f64], base: &[f64]) {
        let net = |part| tenth(quantile(runs, part) - quantile(base, part));
        self.times.push(Time { name: name.into(), ns: net(0.5), quiet_ns: Some(net(0.05)) });
    }

    /// Adds the memory of a map.
    pub(crate) fn memory(&mut self, name: impl Into<String>, bytes: u64) {
        self.memory.push(Memory { name: name.into(), bytes });
    }

    fn ratio(&self, load: Load, over: Datapath, under: Datapath) -> Option<Ratio> {
        let (over_all, under_all) = (self.bursts.get(&(load, over))?, self.bursts.get(&(load, under))?);
        let each: Vec<_> = over_all.iter().zip(under_all).map(|(a, b)| a / b).collect();
        let spread = (quantile(&each, 0.75) - quantile(&each, 0.25)) / 2.0;
        let name = format!("{}: {} / {}", load.name(), over.name(), under.name());
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        Some(Ratio { name, ratio: round(median(&each)), spread: round(spread), rounds: each.len() })
    }

    fn ratios(&self) -> Vec<Ratio> {
        let all =
            PAIRS.iter().flat_map(|(over, under)| Load::ALL.map(|load| self.ratio(load, *over, *under)));
        all.flatten().collect()
    }
}

impl Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut out = serializer.serialize_struct("Report", 5)?;
        out.serialize_field("rates", &self.rates())?;
        out.serialize_field("ratios", &self.ratios())?;
        out.serialize_field("lasting", &self.lasting)?;
        out.serialize_field("times", &self.times)?;
        out.serialize_field("memory", &self.memory)?;
        out.end()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.bursts.is_empty() {
            writeln!(
                f,
                "{:<46} {}",
                "median per second",
                Load::ALL.map(|l| format!("{:>22}", l.name())).concat()
            )?;
            for datapath in Datapath::ALL {
                let cell = |load| self.bursts.get(&(load, datapath)).map_or(f64::NAN, |all| median(all));
                let cells = Load::ALL.map(|load| format!("{:>22.0}", cell(load))).concat();
                writeln!(f, "{:<46} {cells}", datapath.name())?;
            }
            writeln!(
                f,
                "\n{:<46} {}",
                "ratio ± spread",
                Load::ALL.map(|l| format!("{:>22}", l.name())).concat()
            )?;
            for (over, under) in PAIRS {
                let cell = |load| {
                    let ratio = self.ratio(load, over, under);
                    ratio.map_or(String::new(), |r| format!("{:>15.2} ± {:.2}", r.ratio, r.spread))
                };
                let name = format!("{} / {}", over.name(), under.name());
                let name = name.replace("rule + fwmark + conntrack + masquerade", "policy routing by hand");
                writeln!(f, "{name:<46} {}", Load::ALL.map(|load| format!("{:>22}", cell(load))).concat())?;
            }
        }
        if !self.lasting.is_empty() {
            let [count, late, worst, again] = ["connections", "> 5 ms", "worst, ms", "SYNs again"];
            writeln!(
                f,
                "\n{:<46} {count:>12} {late:>10} {worst:>10} {again:>11}",
                "200 a second of each pod"
            )?;
            for Lasting { name, connections, late, worst_ms, syns_again } in &self.lasting {
                writeln!(f, "{name:<46} {connections:>12} {late:>10} {worst_ms:>10.1} {syns_again:>11}")?;
            }
        }
        writeln!(f, "\n{:<70} {:>10} {:>10}", "time in ns", "median", "quiet")?;
        for Time { name, ns, quiet_ns } in &self.times {
            let quiet = quiet_ns.map_or(String::new(), |ns| format!("{ns:.1}"));
            writeln!(f, "{name:<70} {ns:>10.1} {quiet:>10}")?;
        }
        writeln!(f, "\n{:<70} {:>10}", "memory of the maps", "kB")?;
        for Memory { name, bytes } in &self.memory {
            writeln!(f, "{name:<70} {:>10}", bytes / 1000)?;
        }
        Ok(())
    }
}
