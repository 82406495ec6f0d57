//! A link of both address families of which one dies while the other lives.

use crate::shop::{self, SERVICES, Service};
use anyhow::{Context as _, Result, ensure};
use harness::agent::ctl;
use harness::eventually::eventually;
use harness::load::{Caller, Http, Load};
use harness::objects;
use harness::site::Site;
use harness::summary::summarize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const NAMES: [&str; 2] = ["IPv4", "IPv6"];

/// The edge finds out within seconds, not minutes, that a gateway does not answer.
const HASTE: [(&str, &str); 6] = [
    ("net/ipv4/neigh/s9/base_reachable_time_ms", "1000"),
    ("net/ipv4/neigh/s9/delay_first_probe_time", "1"),
    ("net/ipv4/neigh/s9/retrans_time_ms", "100"),
    ("net/ipv6/neigh/s9/base_reachable_time_ms", "1000"),
    ("net/ipv6/neigh/s9/delay_first_probe_time", "1"),
    ("net/ipv6/neigh/s9/retrans_time_ms", "100"),
];

/// The router of s9 loses a family: neither its packets nor its ARP or neighbour discovery come through any more.
fn kill(site: &Site, v6: bool) -> Result<()> {
    let types = if v6 { "ip6" } else { "{ ip, arp }" };
    site.cloud.nft(&format!(
        "table netdev dead {{\nchain s9 {{\ntype filter hook ingress device \"s9\" priority 0;\n\
         ether type {types} drop;\n}}\n}}\n"
    ))
}

fn revive(site: &Site) -> Result<()> {
    site.cloud.nft("delete table netdev dead\n")
}

/// Requests of the minions to a service, who must arrive by `link`.
fn minions(site: &Site, service: Service, http: Http, link: &str) -> Result<()> {
    let callers = vec![Caller::user("minions", link)];
    let target = SocketAddr::new(Site::service(service.ipv6, 0).ip(), service.port);
    let load = Load::new(target, service.host, callers.clone()).over(http).requests(100);
    let summary = summarize(&callers, &load.run(&site.pods[0].netns)?);
    ensure!(summary.clean() && summary.requests == 100, "{service:?} by {link}: {summary:#?}");
    Ok(())
}

/// Of both families and HTTP versions, each family by its own link.
fn everybody(site: &Site, links: [&str; 2]) -> Result<()> {
    for service in SERVICES {
        let http = if service.protocol == "HTTP" { Http::H1 } else { Http::H2 };
        minions(site, service, http, links[usize::from(service.ipv6)])?;
    }
    Ok(())
}

/// Links of open connections of a family to the far end.
fn in_use(site: &mut Site, v6: bool) -> Result<BTreeSet<String>> {
    let sessions = site.agent()?.sessions()?;
    let of = |session: &&Value| session["destination"].as_str().is_some_and(|to| to.starts_with('[') == v6);
    Ok(sessions
        .iter()
        .filter(of)
        .map(|session| session["link"].as_str().unwrap_or_default().to_owned())
        .collect())
}

fn s9(site: &mut Site) -> Result<Value> {
    site.agent()?.links()?.into_iter().find(|link| link["name"] == "s9").context("no s9")
}

const METRICS: &str = "127.0.0.1:9464";

fn metrics(site: &Site) -> Result<String> {
    site.edge.within(|| {
        let mut stream = TcpStream::connect(METRICS).context("no metrics")?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?
}

/// What people and machines are told while one family of s9 is dead.
fn told(site: &mut Site, dead: usize) -> Result<()> {
    let (gone, lives) = (NAMES[dead], NAMES[1 - dead]);
    let link = s9(site)?;
    let family = |name: &str| {
        let all = link["families"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().find(|family| family["family"] == name).cloned().unwrap_or_default()
    };
    ensure!(family(gone)["state"] == "Down" && family(lives)["state"] == "Up", "{link:#}");
    let reason = format!("{gone}: the gateway does not answer");
    ensure!(link["reason"].as_str().is_some_and(|said| said.starts_with(&reason)), "{link:#}");
    let table = ctl(&site.path(""), &["links"])?;
    ensure!(table.contains("Partial") && table.contains(&reason), "{table}");
    let status = site.agent()?.json("/v1/status")?;
    let problems = status["problems"].to_string();
    ensure!(problems.contains("LinkDown") && problems.contains(&reason), "{status:#}");
    for service in SERVICES {
        let host = format!("{}:{}", service.host, service.port);
        let said = ctl(
            &site.path(""),
            &["explain", "--pod", "shop/client-0", "--host", &host, "--header", "user=minions"],
        )?;
        let own = NAMES[usize::from(service.ipv6)];
        let wanted = if own == gone { "s8" } else { "s9" };
        let line = said.lines().find(|line| line.starts_with("Link ")).unwrap_or_default();
        ensure!(line.contains(wanted), "{host}: {said}");
        ensure!(own != gone || said.contains("the gateway does not answer"), "{host}: {said}");
    }
    let metrics = metrics(site)?;
    for (name, up) in [(gone, 0), (lives, 1)] {
        let line = format!("clovisor_link_family_up{{link=\"s9\",family=\"{name}\"}} {up}");
        ensure!(metrics.contains(&line), "no {line} in {metrics}");
    }
    ensure!(metrics.contains("clovisor_link_up{link=\"s9\"} 1"), "{metrics}");
    Ok(())
}

/// Requests of the dead family arrive by s8, those of the other one by s9 all the time; everybody is told. A restart of the agent
/// changes nothing of this; when the family is back, new connections are on s9 again.
fn one_family_dies(v6: bool) -> Result<()> {
    let dead = usize::from(v6);
    Site::builder(&format!("half-dead-{}", NAMES[dead].to_lowercase())).listen(METRICS).run(|site| {
        site.edge.sysctl(&HASTE)?;
        shop::open(site)?;
        ["s8", "s9"].into_iter().try_for_each(|link| site.agent()?.wait_gateways(link, 2))?;
        everybody(site, ["s9", "s9"])?;
        kill(site, v6)?;
        let mut links = ["s9"; 2];
        links[dead] = "s8";
        eventually("one family is down", Duration::from_secs(20), || {
            // Packets make the kernel ask for the gateway; those of the living family arrive meanwhile.
            let (service, other) = (SERVICES[2 * dead], SERVICES[2 - 2 * dead]);
            let _fails_before = minions(site, service, Http::H1, "s8");
            minions(site, other, Http::H1, "s9")?;
            let link = s9(site)?;
            ensure!(link["state"] == "Partial", "{link:#}");
            Ok(())
        })?;
        eventually("connections of the dead family leave", Duration::from_secs(5), || {
            let used = in_use(site, v6)?;
            ensure!(!used.contains("s9"), "{used:?}");
            Ok(())
        })?;
        for restarted in [false, true] {
            if restarted {
                site.kill_agent()?;
                site.start_agent()?;
                site.agent()?.wait_link("s9", "Partial")?;
            }
            everybody(site, links).with_context(|| format!("restarted: {restarted}"))?;
            told(site, dead).with_context(|| format!("restarted: {restarted}"))?;
            ensure!(in_use(site, !v6)?.contains("s9"), "the living family is not on s9");
        }
        revive(site)?;
        site.agent()?.wait_gateways("s9", 2)?;
        shop::reconnect(site)?;
        everybody(site, ["s9", "s9"])
    })
}

#[test]
fn ipv4_dies_and_ipv6_stays() -> Result<()> {
    one_family_dies(false)
}

#[test]
fn ipv6_dies_and_ipv4_stays() -> Result<()> {
    one_family_dies(true)
}

/// The node's routes gave s9 its gateways. A family that is gone when the agent starts again is missed; the control: an agent that
/// remembers nothing takes the link for one that never had it.
#[test]
fn a_family_that_was_there_is_missed_after_a_restart() -> Result<()> {
    Site::builder("missed").listen(METRICS).run(|site| {
        shop::apply(site)?;
        site.apply("1-links.yaml", &(objects::link("s8", "") + &objects::link_by_routes("s9")))?;
        site.edge
            .ip("route add default via 10.9.0.1 metric 200\nroute add ::/0 via fd00:9::1 metric 2000\n")?;
        site.start_agent()?;
        site.agent()?.wait_gateways("s9", 2)?;
        ensure!(site.stop_agent()?, "the agent did not end");
        site.edge.ip("addr del fd00:9::2/64 dev s9\n")?;
        site.start_agent()?;
        let link = s9(site)?;
        ensure!(
            link["state"] == "Partial" && link["reason"] == "IPv6: the device has no global address",
            "{link:#}"
        );
        let metrics = metrics(site)?;
        ensure!(metrics.contains("clovisor_link_family_up{link=\"s9\",family=\"IPv6\"} 0"), "{metrics}");
        ensure!(site.stop_agent()?, "the agent did not end");
        std::fs::remove_file(site.path("state").join("numbers.json"))?;
        site.start_agent()?;
        let link = s9(site)?;
        ensure!(link["state"] == "Up" && link["families"][1]["state"] == "Unused", "{link:#}");
        Ok(())
    })
}
