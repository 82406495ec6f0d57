//! What the agent leaves of a node: everything that is not its own.

use crate::shop;
use anyhow::{Context, Result, ensure};
use harness::agent::cleanup;
use harness::eventually::eventually;
use harness::load::Http;
use harness::netns::run;
use harness::site::Site;
use serde_json::Value;
use std::time::Duration;

/// Everything about the node that an agent could have changed: rules, routes, queueing disciplines, filters.
fn footprint(site: &Site) -> Result<String> {
    let commands: [&[&str]; 6] = [
        &["nft", "list", "ruleset"],
        &["ip", "rule"],
        &["ip", "route", "show", "table", "all"],
        &["tc", "qdisc", "show"],
        &["tc", "filter", "show", "dev", "s8", "ingress"],
        &["ip", "-details", "link", "show", "s9"],
    ];
    let mut text = String::new();
    for words in commands {
        text += &run(site.edge.command(words[0]).args(&words[1..]), None)?;
    }
    // Counters and the time since a neighbour was seen change by themselves.
    Ok(text.lines().filter(|line| !line.contains("expires")).collect::<Vec<_>>().join("\n"))
}

fn pins(site: &Site) -> Result<Vec<String>> {
    let found = std::fs::read_dir(site.path("bpffs")).context("no bpffs")?.flatten();
    // Every BPF file system has two files of the kernel's own.
    let paths = found.map(|entry| entry.path().display().to_string());
    Ok(paths.filter(|path| !path.ends_with(".debug")).collect())
}

/// Foreign filters and qdiscs live through start, restart and cleanup; of ours nothing is left.
#[test]
fn cleanup_removes_everything_of_ours_and_nothing_else() -> Result<()> {
    for attach in ["tcx", "clsact"] {
        Site::builder(&format!("leave-{attach}")).attach(attach).run(|site| {
            // A neighbour's qdisc and filter on s8, as a CNI plugin or a shaper would have.
            run(site.edge.command("tc").args(["qdisc", "add", "dev", "s8", "clsact"]), None)?;
            let filter = "filter add dev s8 ingress prio 7 protocol all u32 match u32 0 0 flowid 1:7";
            run(site.edge.command("tc").args(filter.split(' ')), None)?;
            let before = footprint(site)?;
            shop::open(site)?;
            let summary = shop::run(site, shop::SERVICES[0], Http::H1, 300)?;
            ensure!(summary.clean(), "{summary:#?}");
            site.kill_agent()?;
            site.start_agent()?;
            let summary = shop::run(site, shop::SERVICES[0], Http::H1, 300)?;
            ensure!(summary.clean(), "after a restart: {summary:#?}");
            let refused = cleanup(&site.edge, &site.path("")).err().map(|error| error.to_string());
            ensure!(refused.is_some_and(|text| text.contains("stop it")), "removed under a running agent");
            ensure!(site.stop_agent()?, "the agent did not end in time");
            ensure!(!pins(site)?.is_empty(), "programs and maps stay when the agent ends");
            let said = cleanup(&site.edge, &site.path(""))?;
            let left = pins(site)?;
            ensure!(left.is_empty(), "{left:?} are left after\n{said}");
            let after = footprint(site)?;
            ensure!(before == after, "{attach}: before\n{before}\nafter\n{after}");
            Ok(())
        })?;
    }
    Ok(())
}

/// A pod that goes takes its entries with it; one that comes back under the same address is steered again.
#[test]
fn entries_of_a_pod_end_with_it() -> Result<()> {
    Site::builder("leave-pod").run(|site| {
        shop::open(site)?;
        let summary = shop::run(site, shop::SERVICES[0], Http::H1, 300)?;
        ensure!(summary.clean() && !site.agent()?.sessions()?.is_empty(), "{summary:#?}");
        site.withdraw("3-pods.yaml")?;
        eventually("no flow of the pod", Duration::from_secs(15), || {
            let left = site.agent()?.sessions()?.len();
            ensure!(left == 0, "{left} left");
            Ok(())
        })?;
        site.apply("3-pods.yaml", &harness::objects::pods(&site.pods))?;
        eventually("the pod is found again", Duration::from_secs(15), || {
            let status = site.agent()?.json("/v1/status")?;
            let is_back = status["pods"][0]["device"].is_string() && status["proxiesCurrent"] == true;
            ensure!(is_back, "{status:#}");
            Ok(())
        })?;
        let summary = shop::run(site, shop::SERVICES[2], Http::H2, 60)?;
        ensure!(summary.clean(), "{summary:#?}");
        Ok(())
    })
}

/// A restart reads what is there instead of wiping it: the same flows, the same numbers, no gap.
#[test]
fn a_restart_keeps_flows_and_numbers() -> Result<()> {
    Site::builder("leave-restart").run(|site| {
        shop::open(site)?;
        let summary = shop::run(site, shop::SERVICES[0], Http::H1, 300)?;
        ensure!(summary.clean(), "{summary:#?}");
        let flows = |site: &mut Site| -> Result<Vec<String>> {
            let sessions = site.agent()?.sessions()?;
            let text = |s: &Value| format!("{} {} {}", s["source"], s["link"], s["className"]);
            Ok(sessions.iter().map(text).collect())
        };
        let before = flows(site)?;
        ensure!(!before.is_empty(), "no flow to keep");
        site.kill_agent()?;
        site.start_agent()?;
        let after = flows(site)?;
        let lost: Vec<_> = before.iter().filter(|flow| !after.contains(flow)).collect();
        ensure!(lost.is_empty(), "lost: {lost:?}");
        let status = site.agent()?.json("/v1/status")?;
        let attached = status["attachments"].as_array().context("no attachments")?;
        ensure!(attached.iter().all(|a| a["origin"] == "Replaced") && attached.len() == 5, "{attached:#?}");
        Ok(())
    })
}

/// Since when a link is up or down does not begin anew with the agent.
#[test]
fn times_of_links_outlive_the_agent() -> Result<()> {
    Site::builder("times").run(|site| {
        shop::open(site)?;
        site.carrier("s9", false)?;
        for (link, state) in [("s8", "Up"), ("s9", "Down")] {
            site.agent()?.wait_link(link, state)?;
        }
        let since = |site: &mut Site| -> Result<Vec<(String, String)>> {
            let links = site.agent()?.links()?;
            let text = |link: &Value, field: &str| link[field].as_str().unwrap_or_default().to_owned();
            Ok(links.iter().map(|link| (text(link, "state"), text(link, "since"))).collect())
        };
        let before = since(site)?;
        eventually("the times are on disk", Duration::from_secs(10), || {
            let text = std::fs::read_to_string(site.path("state/links.json")).unwrap_or_default();
            ensure!(before.iter().all(|(_, since)| text.contains(since.as_str())), "{text}");
            Ok(())
        })?;
        site.kill_agent()?;
        site.start_agent()?;
        eventually("the same times", Duration::from_secs(10), || {
            let after = since(site)?;
            ensure!(after == before, "{before:?}, and after the restart {after:?}");
            Ok(())
        })?;
        // The control: a change is one of now.
        site.carrier("s9", true)?;
        site.agent()?.wait_link("s9", "Up")?;
        let after = since(site)?;
        ensure!(after.first() == before.first() && after.last() != before.last(), "{before:?}, {after:?}");
        Ok(())
    })
}
