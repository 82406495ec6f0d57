//! The agent's view of the node's network: events give what a dump gives, on nodes with many routes and many changes.

use crate::shop;
use anyhow::{Context as _, Result, ensure};
use clovisor_datapath::host::dump;
use clovisor_datapath::host::net::HostNet;
use clovisor_datapath::host::routes::HostRoute;
use clovisor_datapath::host::watch;
use harness::site::Site;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// Numbers that are the same in each run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }
}

/// One line of `ip -batch`, which may well be refused.
fn change(random: &mut Random) -> String {
    let device = random.pick(&["d0", "d1", "d2", "d3", "b0"]);
    let other = random.pick(&["d0", "d1", "d2", "d3"]);
    let verb =
        random.pick(&["add", "add", "append", "prepend", "replace", "replace", "change", "del", "del"]);
    let add = random.pick(&["add", "add", "replace", "del"]);
    let n = random.below(4);
    let metric = random.pick(&["", "", " metric 7"]);
    match random.below(20) {
        0 => format!("link set {device} down"),
        1..=3 => format!("link set {device} up"),
        4 => format!("link del {other}"),
        5 | 6 => format!("link add {other} type veth peer name p{other}"),
        7 => format!("link set {other} {}", random.pick(&["master b0", "nomaster"])),
        8 | 9 => format!("addr {add} 10.7.{n}.{}/24 dev {device}", 1 + random.below(3)),
        10 => format!("addr {add} fd00:{n}::{}/64 dev {device} nodad", 1 + random.below(3)),
        11 => format!("addr {add} fd00:{n}::9/64 dev {device} nodad preferred_lft {}", random.below(2) * 900),
        12 | 13 => format!("route {verb} 198.51.{n}.0/24 via 10.7.{}.1{metric}", random.below(4)),
        14 => format!("route {verb} {} 198.51.{n}.0/24{metric}", random.pick(&["blackhole", "unreachable"])),
        15 => format!("route {verb} 0.0.0.0/0 dev {device}{metric} src 10.7.{n}.1"),
        16 => format!(
            "route {verb} 198.51.{n}.0/24 nexthop via 10.7.0.1 nexthop via 10.7.{}.1 dev {device}",
            1 + random.below(3)
        ),
        17 => format!("-6 route {verb} 2001:db8:{n}::/48 via fd00:{}::1{metric}", random.below(4)),
        18 => format!("-6 route {verb} 2001:db8:{n}::/48 dev {device}{metric}"),
        _ => format!("neigh {add} 10.7.{n}.77 lladdr 02:00:00:00:00:0{n} dev {device} nud stale"),
    }
}

/// Without what only one of the two knows.
fn comparable(net: &HostNet) -> HostNet {
    let mut net = HostNet { forward_policy: None, ..net.clone() };
    net.devices.values_mut().for_each(|device| device.epoch = 0);
    // Of IPv6 routes with the same destination and metric the kernel takes now this one, now that one.
    let mut routes: Vec<_> = net.routes.iter().copied().collect();
    routes.sort_by_key(|route| (route.destination, route.prefix, route.metric, v6_device(route)));
    net.routes = routes.into();
    net
}

fn v6_device(route: &HostRoute) -> Option<(u32, Option<IpAddr>)> {
    route.destination.is_ipv6().then_some((route.ifindex, route.gateway))
}

async fn ip(script: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-force", "-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().context("cannot run ip")?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    stdin.write_all(script.as_bytes()).await?;
    drop(stdin);
    child.wait().await?;
    Ok(())
}

async fn follow_churn() -> Result<()> {
    // Of kinds that every kernel has.
    let veth = |n: u32| format!("link add d{n} type veth peer name pd{n}\nlink set pd{n} up\n");
    ip(&("link add b0 type bridge\n".to_owned() + &veth(0) + &veth(1) + &veth(2))).await?;
    let mut host = watch::watch().await?;
    let mut random = Random(0x5eed);
    let mut seen = 0;
    for round in 0..60 {
        let script: String = (0..40).map(|_| change(&mut random) + "\n").collect();
        ip(&script).await?;
        let same = async {
            loop {
                let now = comparable(&dump::read().await?);
                if comparable(&host.borrow_and_update()) == now {
                    return anyhow::Ok(now.routes.len());
                }
                // A snapshot of calm changes is a second away at most.
                if let Ok(changed) = timeout(Duration::from_millis(300), host.changed()).await {
                    changed?;
                }
            }
        };
        match timeout(Duration::from_secs(6), same).await {
            Ok(routes) => seen += routes?,
            Err(_) => {
                let (told, now) = (comparable(&host.borrow()), comparable(&dump::read().await?));
                anyhow::bail!("round {round}:\n{}\n{script}", difference(&told, &now));
            }
        }
    }
    ensure!(seen > 300, "the changes left only {seen} routes to compare");
    Ok(())
}

/// Lines that only one of the two has.
fn difference(told: &HostNet, now: &HostNet) -> String {
    let lines = |net: &HostNet| -> Vec<String> {
        let devices = net.devices.values().map(|device| format!("{device:?}"));
        let routes = net.routes.iter().map(|route| format!("{route:?}"));
        let neighbours = net.neighbours.iter().map(|neighbour| format!("{neighbour:?}"));
        let ports = net.fdb.iter().map(|port| format!("{port:?}"));
        devices.chain(routes).chain(neighbours).chain(ports).chain([format!("{:?}", net.fwmark)]).collect()
    };
    let (told, now) = (lines(told), lines(now));
    let mut text = String::new();
    for line in told.iter().filter(|line| !now.contains(line)) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "told: {line}");
    }
    for line in now.iter().filter(|line| !told.contains(line)) {
        let _ = writeln!(text, "is:   {line}");
    }
    if text.is_empty() { "another order".to_owned() } else { text }
}

/// Whatever happens to devices, addresses, routes and neighbours: the events lead to what a dump shows.
#[test]
fn events_lead_to_what_a_dump_shows() -> Result<()> {
    Site::builder("events").run(|site| {
        let follow = || -> Result<()> {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(follow_churn())
        };
        site.edge.within(follow)?
    })
}

/// So many routes have nodes that take part in others' routing.
const ROUTES: u32 = 100_000;

fn routes(verb: &str, numbers: impl Iterator<Item = u32>) -> String {
    let address = |n: u32| Ipv4Addr::from((100 << 24) + (n << 4));
    numbers.map(|n| format!("route {verb} {}/28 via 10.8.0.1\n", address(n))).collect()
}

#[expect(clippy::disallowed_methods, reason = "the pace of the changes, which no state tells")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A node with 100,000 routes loses a carrier, and its routes change 200 times a second: the loss is acted on at once, and
/// the agent has little to do.
#[test]
fn many_routes_and_many_changes_cost_little() -> Result<()> {
    Site::builder("many-routes").run(|site| {
        site.edge.ip(&routes("add", 0..ROUTES))?;
        shop::open(site)?;
        let mut took = Vec::new();
        for _ in 0..5 {
            site.agent()?.wait_link("s9", "Up")?;
            site.carrier("s9", false)?;
            let start = Instant::now();
            site.agent()?.wait_link("s9", "Down")?;
            took.push(start.elapsed());
            site.carrier("s9", true)?;
            site.agent()?.wait_link("s9", "Up")?;
            // The kernel tells of a device's carrier once a second.
            pause(Duration::from_millis(1200));
        }
        took.sort();
        println!("carrier losses with {ROUTES} routes: {took:?}");
        ensure!(took[2] < Duration::from_millis(100), "{took:?}");
        site.agent()?.wait_link("s9", "Up")?;
        let changes = |site: &mut Site, pace: Option<Duration>| -> Result<f64> {
            let (start, cpu) = (Instant::now(), site.agent()?.cpu()?);
            let mut n = 0;
            while start.elapsed() < Duration::from_secs(10) {
                let due = start + pace.unwrap_or(Duration::from_millis(100)) * (n + 1);
                if pace.is_some() {
                    let verb = if n % 2 == 0 { "del" } else { "add" };
                    site.edge.ip(&routes(verb, (0..20).map(|k| n / 2 * 20 + k)))?;
                }
                n += 1;
                pause(due.saturating_duration_since(Instant::now()));
            }
            Ok((site.agent()?.cpu()? - cpu).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0)
        };
        let idle = changes(site, None)?;
        let busy = changes(site, Some(Duration::from_millis(100)))?;
        println!("CPU of the agent: {idle:.1} % of a core idle, {busy:.1} % with 200 changes a second");
        ensure!(busy - idle <= 5.0, "{busy:.1} % of a core, {idle:.1} % idle");
        Ok(())
    })
}
