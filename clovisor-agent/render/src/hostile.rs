//! Objects that somebody broke, by accident or not: each costs itself only.
//!
//! `CLOVISOR_HOSTILE_OBJECTS` sets how many; 100,000 are for every run, a million for a release.

use super::istio::object::IstioConfig;
use super::istio::objects;
use super::namespace::render;
use super::proxy::RenderConfig;
use clovisor_objects::document::{Document, read};
use clovisor_objects::object::insert;
use clovisor_objects::snapshot::Snapshot;
use clovisor_policy::allocation::{Allocation, Numbering};
use clovisor_policy::compile::{Proxies, Purpose, compile};
use clovisor_policy::model::NamespacePolicy;
use serde_json::{Value, json};
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

/// Somebody else's, which must go on.
const GOOD: &str = include_str!("hostile/good.yaml");
/// What is broken, one object a document.
const WILD: &str = include_str!("hostile/wild.yaml");

/// A small generator: the same objects in every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % below.max(1)
    }
}

/// What people, generators and attackers write.
fn hostile(random: &mut Random) -> Value {
    // Not by `json!`, which copies what it is given: of each depth all that is deeper.
    let deep = |depth: usize| (0..depth).fold(json!(1), |inner, _| Value::Array(vec![inner]));
    match random.next(22) {
        0 => Value::Null,
        1 => json!(-1),
        2 => json!(u64::MAX),
        3 => json!(1e308),
        4 => json!(true),
        5 => json!(""),
        6 => json!("x".repeat(70_000)),
        7 => json!([]),
        8 => json!({}),
        9 => json!("*"),
        10 => json!("(a*)*b"),
        11 => json!("(".repeat(500)),
        12 => json!("\u{0}\u{202e}é\u{1f4a3}"),
        13 => json!(vec!["a"; 2000]),
        14 => deep(200),
        15 => json!("255.255.255.255/32"),
        16 => json!("::ffff:1.2.3.4"),
        17 => json!("reviews.shop.svc.cluster.local"),
        18 => json!("99999999999999999999h"),
        19 => json!({ "exact": "a", "regex": ".*" }),
        20 => json!(65_536),
        _ => json!("..%2f\"}],\n---\n"),
    }
}

/// Replaces, removes, doubles or renames something somewhere.
fn mutate(value: &mut Value, random: &mut Random) {
    let goes_on = random.next(4) > 0;
    match value {
        Value::Object(map) if goes_on && !map.is_empty() => {
            let key = map.keys().nth(random.next(map.len())).cloned().unwrap_or_default();
            match random.next(12) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(format!("{key}x"), hostile(random))),
                _ => map.get_mut(&key).into_iter().for_each(|inner| mutate(inner, random)),
            }
        }
        Value::Array(list) if goes_on && !list.is_empty() => {
            let place = random.next(list.len());
            match random.next(8) {
                0 => drop(list.remove(place)),
                1 => list.extend(list.get(place).cloned()),
                _ => list.get_mut(place).into_iter().for_each(|inner| mutate(inner, random)),
            }
        }
        other => *other = hostile(random),
    }
}

fn documents(text: &str) -> Vec<String> {
    text.split("\n---\n").map(str::to_owned).collect()
}

fn add(snapshot: &mut Snapshot, text: &str) -> bool {
    let found = read("f.yaml", text);
    let good = found.iter().filter_map(|found| match &found.document {
        Document::Object(identity, object) => Some((identity, object)),
        Document::Refused(..) => None,
    });
    good.map(|(identity, object)| insert(snapshot, identity, object)).count() > 0
}

/// The good namespace as every purpose sees it.
fn good(snapshot: &Snapshot, proxies: Proxies) -> (NamespacePolicy, usize) {
    let purpose = Purpose { proxies, numbering: Numbering::Controller, local: false };
    let (compiled, _) = compile(snapshot, &Allocation::default(), 1, purpose);
    let istio = objects(snapshot, &compiled.sidecars, &IstioConfig::default());
    let ours = istio.iter().filter(|object| object.key.namespace == "shop").count();
    let _wild = render("wild", &compiled.policy, &RenderConfig::default());
    let mut ns = compiled.policy.namespaces.get("shop").cloned().unwrap_or_default();
    // Others may export services of their own to it, and further ports of its own, as in Istio.
    ns.services.retain(|service| service.host.starts_with("reviews") && service.port == 8000);
    ns.destinations.clear();
    (ns, ours)
}

/// How it goes with one object.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    understood: usize,
    slowest: Duration,
}

impl Cost {
    fn with(self, other: Self) -> Self {
        Self { understood: self.understood + other.understood, slowest: self.slowest.max(other.slowest) }
    }
}

/// Adds a broken object to good ones, which must stay as they are. `expected`: of managed proxies and of sidecars.
fn cost(round: usize, object: &Value, base: &Snapshot, expected: &[(NamespacePolicy, usize); 2]) -> Cost {
    let text = object.to_string();
    let begin = Instant::now();
    let mut snapshot = base.clone();
    let is_understood = add(&mut snapshot, &text);
    if is_understood {
        let proxies = if round.is_multiple_of(2) { Proxies::Managed } else { Proxies::Sidecars };
        let now = good(&snapshot, proxies);
        let same = &expected[round % 2];
        assert!(
            now == *same,
            "{} of {text}",
            if now.1 == same.1 { "another policy" } else { "other objects" }
        );
    }
    Cost { understood: usize::from(is_understood), slowest: begin.elapsed() }
}

#[test]
fn a_hundred_thousand_broken_objects_cost_themselves() {
    let count = std::env::var("CLOVISOR_HOSTILE_OBJECTS").ok().and_then(|text| text.parse().ok());
    let count: usize = count.unwrap_or(100_000);
    let mut base = Snapshot::default();
    assert!(documents(GOOD).iter().all(|text| add(&mut base, text)));
    let wild: Vec<Value> = documents(WILD)
        .iter()
        .map(|text| serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{e}")))
        .collect();
    let expected = [Proxies::Managed, Proxies::Sidecars].map(|proxies| good(&base, proxies));
    assert!(expected.iter().all(|(ns, _)| ns.mappings.len() == 1) && expected[1].1 == 3);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut objects = wild.iter().cycle().enumerate().take(count).map(|(round, object)| {
        let mut object = object.clone();
        for _ in 0..=random.next(3) {
            mutate(&mut object["spec"], &mut random);
        }
        (round, object)
    });
    let (mut sum, threads) = (Cost::default(), thread::available_parallelism().map_or(1, usize::from));
    // One after the other come the objects, as they depend on each other; what they cost does not.
    loop {
        let some: Vec<(usize, Value)> = objects.by_ref().take(1000).collect();
        if some.is_empty() {
            break;
        }
        sum = thread::scope(|scope| {
            let of = |part: &[(usize, Value)]| {
                let costs = part.iter().map(|(round, object)| cost(*round, object, &base, &expected));
                costs.fold(Cost::default(), Cost::with)
            };
            let parts: Vec<_> = some.chunks(1000_usize.div_ceil(threads)).collect();
            let running: Vec<_> = parts.into_iter().map(|part| scope.spawn(move || of(part))).collect();
            let done = running.into_iter().map(|part| part.join().unwrap_or_else(|e| resume_unwind(e)));
            done.fold(sum, Cost::with)
        });
    }
    let Cost { understood, slowest } = sum;
    println!("{count} objects, {understood} understood; the slowest took {slowest:?}");
    assert!(understood > count / 10 && understood < count, "{understood} of {count} were understood");
}
