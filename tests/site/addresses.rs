//! Source addresses and gateways that change: which address new connections have, and what becomes of those that there are.

use crate::echo::{by_link, datagram_seen_as, datagrams, dial, open, open_with, says, seen_as};
use crate::shop;
use anyhow::{Context as _, Result, ensure};
use harness::eventually::eventually;
use harness::objects;
use harness::site::Site;
use harness::summary::summarize;
use std::io::{ErrorKind, Read as _};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Time enough for the agent to hear of a change of the network; nothing is waited for where it comes sooner.
const SOON: Duration = Duration::from_secs(5);

fn is_seen_as(site: &Site, ipv6: bool, address: &str) -> Result<()> {
    let address: IpAddr = address.parse()?;
    eventually("the source address", SOON, || {
        let seen = seen_as(site, ipv6)?;
        ensure!(seen == address, "{seen}, not {address}");
        Ok(())
    })
}

/// The far end asks for link-layer addresses in the name of its address on the link, as routers do; strict nodes do not answer the
/// service's.
fn ask_by_own_address(site: &Site) -> Result<()> {
    site.cloud.sysctl(&[("net/ipv4/conf/all/arp_announce", "2")])
}

#[expect(clippy::disallowed_methods, reason = "the time for which something is away is what is tested")]
fn for_a_while(time: Duration) {
    std::thread::sleep(time);
}

/// What the far end sees is the address that the kernel would choose, and it follows the addresses.
#[test]
fn new_connections_have_the_address_that_the_kernel_would_choose() -> Result<()> {
    Site::builder("sources").run(|site| {
        // A global address for the far end's way back.
        ask_by_own_address(site)?;
        site.cloud.ip("addr add 2001:db8:9::1/64 dev s9 nodad\naddr add 2001:db8:8::1/64 dev s8 nodad\n")?;
        open(site, "")?;
        is_seen_as(site, true, "fd00:9::2")?;
        site.edge.ip("addr add fd00:9::77/64 dev s9 nodad preferred_lft 0\n")?;
        site.edge.ip("addr add 10.9.0.77/24 dev s9\n")?;
        // The one that is added last is not deprecated: as soon as it is used, the others have been looked at.
        site.edge.ip("addr add 2001:db8:9::2/64 dev s9 nodad\naddr add fd00:9::78/64 dev s9 nodad\n")?;
        is_seen_as(site, true, "2001:db8:9::2")?;
        is_seen_as(site, false, "10.9.0.2")?;
        site.edge.ip("addr change 2001:db8:9::2/64 dev s9 nodad preferred_lft 0\n")?;
        is_seen_as(site, true, "fd00:9::78")?;
        site.edge.ip("addr change 10.9.0.2/24 dev s9 preferred_lft 0\n")?;
        is_seen_as(site, false, "10.9.0.77")?;
        // The source of the node's own route by this gateway.
        site.edge.ip("addr add 10.9.0.88/24 dev s9\n")?;
        site.edge.ip("route add 0.0.0.0/0 via 10.9.0.1 dev s9 metric 900 src 10.9.0.88\n")?;
        is_seen_as(site, false, "10.9.0.88")
    })
}

/// A link gets another address: connections of the old one end at once, datagrams go on from the new one.
#[test]
fn flows_of_a_lost_address_are_ended_or_moved() -> Result<()> {
    Site::builder("lost-address").run(|site| {
        ask_by_own_address(site)?;
        // Else the kernel removes further addresses of a subnet with the first one.
        site.edge.sysctl(&[("net/ipv4/conf/all/promote_secondaries", "1")])?;
        open(site, "")?;
        for (ipv6, old, new) in
            [(false, "10.9.0.2/24", "10.9.0.3/24"), (true, "fd00:9::2/64", "fd00:9::3/64")]
        {
            let mut stream = dial(site, 0, ipv6, 0)?;
            says(&mut stream, b"one")?;
            let socket = datagrams(site, ipv6)?;
            let first = datagram_seen_as(&socket)?;
            ensure!(old.starts_with(&format!("{first}/")), "{first}");
            site.edge.ip(&format!("addr add {new} dev s9{}\n", if ipv6 { " nodad" } else { "" }))?;
            says(&mut stream, b"two").context("while the address is there")?;
            ensure!(datagram_seen_as(&socket)? == first, "left an address that is there");
            let start = Instant::now();
            site.edge.ip(&format!("addr del {old} dev s9\n"))?;
            let error = stream.read(&mut [0; 8]).map_err(|error| error.kind());
            let told = start.elapsed();
            ensure!(error == Err(ErrorKind::ConnectionReset), "{error:?} after {told:?}");
            println!("a connection of a lost address ended after {told:?}");
            ensure!(told < Duration::from_secs(1), "{told:?}");
            eventually("datagrams from the new address", SOON, || {
                let seen = datagram_seen_as(&socket)?;
                ensure!(new.starts_with(&format!("{seen}/")), "{seen}");
                Ok(())
            })?;
            says(&mut dial(site, 0, ipv6, 0)?, b"again")?;
        }
        Ok(())
    })
}

const LOSE: &str = "addr del 10.9.0.2/24 dev s9\naddr del fd00:9::2/64 dev s9\n";
const REGAIN: &str = "addr add 10.9.0.2/24 dev s9\naddr add fd00:9::2/64 dev s9 nodad\n";

/// Since when s9 is in the state that it is in.
fn since(site: &mut Site) -> Result<String> {
    let links = site.agent()?.links()?;
    let s9 = links.iter().find(|link| link["name"] == "s9").context("no s9")?;
    ensure!(s9["state"] == "Up", "{s9}");
    Ok(s9["since"].to_string())
}

/// A lease is renewed: its address and routes are away for a moment. Nothing is reset. The control: what stays away ends the
/// connections.
#[test]
fn an_address_that_is_away_for_a_moment_resets_nothing() -> Result<()> {
    Site::builder("lease").run(|site| {
        open(site, "")?;
        let (mut four, mut six) = (dial(site, 0, false, 0)?, dial(site, 0, true, 0)?);
        for (stream, word) in [(&mut four, b"four"), (&mut six, b"six.")] {
            says(stream, word)?;
        }
        ensure!(by_link(site, "s9")? == 2, "not by s9");
        let up = since(site)?;
        for away in [20, 300, 1500] {
            site.edge.ip(LOSE)?;
            for_a_while(Duration::from_millis(away));
            site.edge.ip(REGAIN)?;
            says(&mut four, b"four").with_context(|| format!("{away} ms, IPv4"))?;
            says(&mut six, b"six.").with_context(|| format!("{away} ms, IPv6"))?;
        }
        ensure!(since(site)? == up && by_link(site, "s9")? == 2, "not the same link or connections");
        let start = Instant::now();
        site.edge.ip(LOSE)?;
        for stream in [&mut four, &mut six] {
            let error = stream.read(&mut [0; 8]).map_err(|error| error.kind());
            ensure!(error == Err(ErrorKind::ConnectionReset), "{error:?} after {:?}", start.elapsed());
        }
        let mut again = dial(site, 0, false, 0)?;
        says(&mut again, b"by s8")?;
        ensure!(by_link(site, "s8")? > 0, "not by s8");
        Ok(())
    })
}

/// In mode Mark the kernel removes rule and route with the address, and its masquerade forgets the connections; the link stays all
/// the same, and new connections take it.
#[test]
fn a_link_by_mark_stays_while_a_lease_is_renewed() -> Result<()> {
    Site::builder("lease-mark").run(|site| {
        // The node's own filter would drop what comes back by a link that is not its default route.
        site.edge.sysctl(&[("net/ipv4/conf/all/rp_filter", "2"), ("net/ipv4/conf/s9/rp_filter", "2")])?;
        open(site, "  mode: Mark\n")?;
        let up = since(site)?;
        for away in [20, 1500] {
            site.edge.ip(LOSE)?;
            for_a_while(Duration::from_millis(away));
            site.edge.ip(REGAIN)?;
            is_seen_as(site, false, "10.9.0.2")?;
            is_seen_as(site, true, "fd00:9::2")?;
            ensure!(since(site)? == up, "down in between");
        }
        Ok(())
    })
}

/// The node's route gets another gateway on the device: the old one is in use until the new one is known, and no request fails.
#[test]
fn a_gateway_that_changes_under_load_fails_nothing() -> Result<()> {
    Site::builder("gateways").run(|site| {
        site.cloud.ip("addr add 10.9.0.5/24 dev s9\naddr add fd00:9::5/64 dev s9 nodad\n")?;
        shop::apply(site)?;
        let routes = |gateway4: &str, gateway6: &str| {
            format!(
                "route replace 0.0.0.0/0 via {gateway4} dev s9 metric 900\n\
                 route replace ::/0 via {gateway6} dev s9 metric 900\n"
            )
        };
        site.edge.ip(&routes("10.9.0.1", "fd00:9::1"))?;
        site.apply("1-links.yaml", &(objects::link("s8", "") + &objects::link_by_routes("s9")))?;
        site.start_agent()?;
        site.start_proxy(0)?;
        let load = shop::minions(100_000).pace(Duration::from_millis(1));
        let callers = load.callers.clone();
        let running = load.start(&site.pods[0].netns, harness::load::Stop::default())?;
        for round in 0..6 {
            let (four, six) = [("10.9.0.5", "fd00:9::5"), ("10.9.0.1", "fd00:9::1")][round % 2];
            site.edge.ip("neigh flush dev s9\n")?;
            site.edge.ip(&routes(four, six))?;
            eventually("the next gateway", SOON, || {
                let links = site.agent()?.links()?;
                let gateways =
                    links.iter().find(|link| link["name"] == "s9").map(|link| link["gateways"].to_string());
                ensure!(
                    gateways.as_ref().is_some_and(|all| all.contains(&format!("\"{four}\""))),
                    "{gateways:?}"
                );
                Ok(())
            })?;
        }
        let summary = summarize(&callers, &running.stop()?);
        ensure!(summary.clean() && summary.requests > 100, "{summary:#?}");

        Ok(())
    })
}

/// Two WanLinks of one device: the second is refused by name, the first goes on.
#[test]
fn a_second_link_of_a_device_is_refused_by_name() -> Result<()> {
    Site::builder("two-gateways").run(|site| {
        let second = objects::link("s9", "").replace("name: s9", "name: a9").replace("10.9.0.1", "10.9.0.5");
        let links = objects::link("s8", "") + &objects::link("s9", "");
        open_with(site, &links)?;
        let mut stream = dial(site, 0, false, 0)?;
        says(&mut stream, b"one")?;
        site.apply("1-links.yaml", &(links.clone() + &second))?;
        eventually("the second one is refused", SOON, || {
            let all = site.agent()?.links()?;
            let a9 = all.iter().find(|link| link["name"] == "a9").context("no a9")?;
            let reason = a9["reason"].as_str().unwrap_or_default();
            ensure!(a9["state"] == "Down" && reason.contains("that of link s9"), "{a9}");
            Ok(())
        })?;
        says(&mut stream, b"two")?;
        is_seen_as(site, false, "10.9.0.2")?;
        site.apply("1-links.yaml", &(objects::link("s8", "") + &second))?;
        // Nobody has its IPv4 gateway.
        site.agent()?.wait_link("a9", "Partial")
    })
}
