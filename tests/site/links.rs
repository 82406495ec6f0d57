//! Links of different kinds: with and without address translation, with peers of their own.

use crate::shop::{self, SERVICES};
use anyhow::{Result, ensure};
use harness::load::Http;
use harness::netns::run;
use harness::objects;
use harness::site::{APP_PORT, Site};
use std::time::Duration;

/// `nat: None`: the far end sees the pod's own address on the link of the decision.
#[test]
fn without_nat_the_pods_address_arrives() -> Result<()> {
    Site::builder("no-nat").run(|site| {
        shop::apply(site)?;
        let links = objects::link("s8", "") + &objects::link("s9", "  nat: None\n");
        site.apply("1-links.yaml", &links)?;
        site.start_agent()?;
        site.start_proxy(0)?;
        for service in SERVICES {
            let seen = shop::load(service, Http::H1, 600).run(&site.pods[0].netns)?;
            let summary = harness::summary::summarize(&shop::callers(), &seen);
            ensure!(summary.clean(), "{service:?}: {summary:#?}");
            let own = site.pods[0].addresses();
            for observed in seen.iter().filter_map(|seen| seen.observed.as_ref()).filter(|t| t.link == "s9") {
                ensure!(own.contains(&observed.source.ip()), "translated: {observed:?}");
            }
        }
        Ok(())
    })
}

/// A peer has another address on s9: the proxy dials one, the packets go to the other, answers come from the first.
#[test]
fn a_peer_is_reached_by_its_address_on_the_link() -> Result<()> {
    Site::builder("peers").run(|site| {
        shop::apply(site)?;
        let peers = format!(
            "  peers:\n  - {{alias: {}, port: {APP_PORT}, address: 10.9.0.100}}\n  \
             - {{alias: \"{}\", port: {APP_PORT}, address: \"fd00:9::100\"}}\n",
            Site::service(false, 0).ip(),
            Site::service(true, 0).ip(),
        );
        site.apply("1-links.yaml", &(objects::link("s8", "") + &objects::link("s9", &peers)))?;
        site.start_agent()?;
        site.start_proxy(0)?;
        for service in SERVICES {
            let summary = shop::run(site, service, Http::H2, 600)?;
            ensure!(summary.clean(), "{service:?}: {summary:#?}");
        }
        let sessions = site.agent()?.sessions()?;
        let text =
            |session: &serde_json::Value, field: &str| session[field].as_str().unwrap_or_default().to_owned();
        let translated = sessions.iter().filter(|session| {
            let to = text(session, "translatedDestination");
            text(session, "link") == "s9"
                && (to.starts_with("10.9.0.100:") || to.starts_with("[fd00:9::100]:"))
        });
        let by_s9 = sessions.iter().filter(|session| text(session, "link") == "s9").count();
        ensure!(by_s9 > 0 && translated.count() == by_s9, "{sessions:#?}");
        Ok(())
    })
}

/// Devices by their properties; what was found by the number of a default route stays when the routes change, also
/// across a restart of the agent.
#[test]
fn selected_devices_stay_when_routes_change() -> Result<()> {
    Site::builder("selector").run(|site| {
        shop::apply(site)?;
        let device = |name: &str, selector: &str| {
            objects::link(name, "")
                .replace(&format!("device: {name}"), &format!("deviceSelector: {{{selector}}}"))
        };
        let links =
            device("s8", "defaultRoute: 1") + &device("s9", "driver: veth, mac: \"02:00:00:00:09:02\"");
        site.apply("1-links.yaml", &links)?;
        site.start_agent()?;
        site.start_proxy(0)?;
        let named = |site: &mut Site| -> Result<Vec<String>> {
            let links = site.agent()?.links()?;
            Ok(links.iter().map(|link| link["device"].as_str().unwrap_or_default().to_owned()).collect())
        };
        ensure!(named(site)? == ["s8", "s9"], "{:?}", named(site)?);
        let mut load = shop::load(SERVICES[0], Http::H1, 600);
        load.callers.retain(|caller| ["boss", "minions"].contains(&caller.name.as_str()));
        let summarize = |site: &Site| -> Result<harness::summary::Summary> {
            Ok(harness::summary::summarize(&load.callers, &load.clone().run(&site.pods[0].netns)?))
        };
        let summary = summarize(site)?;
        ensure!(summary.clean(), "{summary:#?}");
        site.kill_agent()?;
        site.edge.ip("route replace 0.0.0.0/0 via 10.9.0.1\nroute replace ::/0 via fd00:9::1\n")?;
        site.start_agent()?;
        ensure!(named(site)? == ["s8", "s9"], "{:?}", named(site)?);
        let summary = summarize(site)?;
        ensure!(summary.clean(), "{summary:#?}");
        // Another number is another question.
        site.apply("1-links.yaml", &links.replace("defaultRoute: 1", "defaultRoute: 2"))?;
        harness::eventually::eventually("no second default route", Duration::from_secs(10), || {
            let links = site.agent()?.links()?;
            let state = &links[0];
            ensure!(state["device"] == "default route 2", "{state}");
            Ok(())
        })
    })
}

/// Every SYN of a steered connection is seen once, on its own link; no copy takes the default route.
#[test]
fn a_steered_packet_leaves_once() -> Result<()> {
    Site::builder("once").run(|site| {
        shop::open(site)?;
        site.cloud.nft(COUNTERS)?;
        let load = shop::minions(400);
        let callers = load.callers.clone();
        let summary = harness::summary::summarize(&callers, &load.run(&site.pods[0].netns)?);
        ensure!(summary.clean() && summary.requests == 400, "{summary:#?}");
        let list = run(site.cloud.command("nft").args(["list", "counters"]), None)?;
        let count = |name: &str| {
            let after = list.split_once(&format!("counter {name} ")).map(|(_, rest)| rest)?;
            after.split_once("packets ")?.1.split(' ').next()?.parse::<usize>().ok()
        };
        ensure!(count("syn8") == Some(0) && count("all8") == Some(0), "copies by s8:\n{list}");
        ensure!(count("syn9") == Some(summary.connections), "{} connections:\n{list}", summary.connections);
        Ok(())
    })
}

/// What arrives for the far end's port, by link.
const COUNTERS: &str = "
table inet seen {
  counter syn8 { }
  counter all8 { }
  counter syn9 { }
  chain input {
    type filter hook prerouting priority -300;
    iifname \"s8\" tcp dport 8000 counter name all8
    iifname \"s8\" tcp dport 8000 tcp flags & (syn | ack) == syn counter name syn8
    iifname \"s9\" tcp dport 8000 tcp flags & (syn | ack) == syn counter name syn9
  }
}
";
