//! Links in mode `Mark`: the node's stack forwards, and its rules hold.

use crate::shop::{self, SERVICES};
use anyhow::{Context as _, Result, ensure};
use harness::agent::cleanup;
use harness::eventually::eventually;
use harness::load::Http;
use harness::netns::run;
use harness::objects;
use harness::site::{NAMESPACE, Site};
use harness::summary::Summary;
use std::time::Duration;

fn open(site: &mut Site, extra: &str) -> Result<()> {
    shop::apply(site)?;
    site.apply("1-links.yaml", &(objects::link("s8", "") + &objects::link("s9", extra)))?;
    site.start_agent()?;
    site.start_proxy(0)
}

fn loose(site: &Site) -> Result<()> {
    site.edge.sysctl(&[("net/ipv4/conf/all/rp_filter", "2"), ("net/ipv4/conf/s9/rp_filter", "2")])
}

fn minions(site: &Site, requests: usize) -> Result<Summary> {
    let load = shop::minions(requests);
    let callers = load.callers.clone();
    Ok(harness::summary::summarize(&callers, &load.run(&site.pods[0].netns)?))
}

fn rules(site: &Site) -> Result<String> {
    let mut text = String::new();
    for words in [&["rule"][..], &["-6", "rule"], &["route", "show", "table", "all", "proto", "193"]] {
        text += &run(site.edge.command("ip").args(words), None)?;
    }
    Ok(text)
}

/// Each request by its link, translated by the node's own rules; fail-over and back; after the agent is killed packets
/// go on; `cleanup` takes rules and routes away.
#[test]
fn requests_go_by_mark_through_the_stack() -> Result<()> {
    Site::builder("mark").run(|site| {
        loose(site)?;
        let before = rules(site)?;
        open(site, "  mode: Mark\n")?;
        for service in SERVICES {
            for http in [Http::H1, Http::H2] {
                let summary = shop::run(site, service, http, 500)?;
                ensure!(summary.clean(), "{service:?}: {summary:#?}");
            }
        }
        let list = rules(site)?;
        ensure!(list.matches("fwmark 0x2000000/0x7f000000").count() == 2, "{list}");
        site.carrier("s9", false)?;
        site.agent()?.wait_link("s9", "Down")?;
        let mut load = shop::load(SERVICES[0], Http::H1, 300);
        load.callers.iter_mut().for_each(|caller| caller.link = "s8".into());
        let callers = load.callers.clone();
        // Connections of before end with their link: that may cost each of them one request.
        let cut = load.clone().run(&site.pods[0].netns)?;
        let summary = harness::summary::summarize(&callers, &cut);
        ensure!(summary.wrong == 0 && summary.errors <= summary.connections, "s9 cut: {summary:#?}");
        site.carrier("s9", true)?;
        site.agent()?.wait_link("s9", "Up")?;
        // Connections that s8 took over stay there.
        shop::reconnect(site)?;
        let summary = minions(site, 300)?;
        ensure!(summary.clean(), "s9 is back: {summary:#?}");
        site.kill_agent()?;
        let summary = minions(site, 300)?;
        ensure!(summary.clean(), "agent killed: {summary:#?}");
        let said = cleanup(&site.edge, &site.path(""))?;
        ensure!(rules(site)? == before, "left: {}\nafter {said}", rules(site)?);
        Ok(())
    })
}

/// The reason for the mode: a rule of the node holds. The control: it is bypassed by `Redirect`.
#[test]
fn the_nodes_policy_holds_by_mark_and_is_bypassed_by_redirect() -> Result<()> {
    for (mode, passes) in [("Mark", false), ("Redirect", true)] {
        Site::builder(&format!("mark-policy-{mode}")).run(|site| {
            loose(site)?;
            open(site, &format!("  mode: {mode}\n  policyBypass: Accepted\n"))?;
            let summary = minions(site, 50)?;
            ensure!(summary.clean(), "{mode}: {summary:#?}");
            site.stop_proxy(0)?;
            site.edge.nft(
                "table inet guard {\n counter refused { }\n chain forward {\n\
                 type filter hook forward priority 0;\noifname s9 counter name refused drop\n }\n}\n",
            )?;
            site.start_proxy(0)?;
            let summary = minions(site, 50)?;
            let counted =
                run(site.edge.command("nft").args(["list", "counters", "table", "inet", "guard"]), None)?;
            ensure!(
                summary.wrong == 0 && counted.contains("packets 0 ") == passes,
                "{mode}: {summary:#?}\n{counted}"
            );
            ensure!(if passes { summary.clean() } else { summary.errors == 50 }, "{mode}: {summary:#?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// A strict reverse path filter would drop every answer over IPv4: the link says so and takes nothing of it.
#[test]
fn a_strict_reverse_path_is_said() -> Result<()> {
    Site::builder("mark-strict").run(|site| {
        open(site, "  mode: Mark\n")?;
        let links = site.agent()?.links()?;
        let s9 = links.iter().find(|link| link["name"] == "s9").context("no s9")?;
        let reason = s9["reason"].as_str().unwrap_or_default();
        ensure!(
            s9["state"] == "Partial" && reason.starts_with("IPv4: ") && reason.contains("rp_filter"),
            "{s9}"
        );
        loose(site)?;
        // Settings send no events: the next look at the network finds it.
        site.edge.ip("link set s9 txqueuelen 1001\n")?;
        eventually("s9 up", Duration::from_secs(15), || {
            ensure!(site.agent()?.link_state("s9")? == "Up");
            Ok(())
        })?;
        let summary = minions(site, 100)?;
        ensure!(summary.clean(), "{summary:#?}");
        Ok(())
    })
}

/// What somebody else removes comes back, and meanwhile nothing takes the default route.
#[test]
fn rules_that_others_remove_come_back() -> Result<()> {
    Site::builder("mark-removed").run(|site| {
        loose(site)?;
        open(site, "  mode: Mark\n")?;
        for _ in 0..3 {
            site.edge.ip("rule del pref 1000\nroute flush table 49409\n")?;
            eventually("rules again", Duration::from_secs(5), || {
                let list = rules(site)?;
                ensure!(
                    list.matches("fwmark 0x2000000").count() == 2 && list.contains("via 10.9.0.1"),
                    "{list}"
                );
                Ok(())
            })?;
            site.agent()?.wait_link("s9", "Up")?;
            let summary = minions(site, 50)?;
            ensure!(summary.clean(), "{summary:#?}");
        }
        // The WanLink goes: so do its rules.
        site.apply("1-links.yaml", &objects::link("s8", ""))?;
        eventually("no rules", Duration::from_secs(5), || {
            let list = rules(site)?;
            ensure!(!list.contains("fwmark") && !list.contains("49409"), "{list}");
            Ok(())
        })
    })
}

/// Peers would have to be rewritten, which nobody does there.
#[test]
fn peers_are_refused() -> Result<()> {
    Site::builder("mark-peers").run(|site| {
        let peers = "  mode: Mark\n  peers: [{alias: 203.0.113.10, port: 8000, address: 10.9.0.100}]\n";
        site.apply("1-links.yaml", &objects::link("s9", peers))?;
        site.apply("3-pods.yaml", &objects::pods(&site.pods))?;
        site.start_agent()?;
        let status = site.agent()?.json("/v1/status")?;
        let problem = &status["problems"][0];
        let field = problem["message"].as_str().is_some_and(|message| message.starts_with("spec.peers: "));
        ensure!(field && problem["object"] == "s9", "{NAMESPACE}: {status:#}");
        Ok(())
    })
}
