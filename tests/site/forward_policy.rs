//! A policy of the node for forwarded packets: found, said, and bypassed only where that is accepted.

use crate::shop::{self, SERVICES};
use anyhow::{Context as _, Result, ensure};
use harness::load::Http;
use harness::netns::run;
use harness::objects;
use harness::site::Site;

/// As firewalls write it: with nft, and with iptables.
const POLICIES: [(&str, &[&str]); 8] = [
    (
        "verdict-map",
        &[
            "nft",
            "add table inet fw; add chain inet fw g; add rule inet fw g tcp dport 9999 drop; \
             add chain inet fw f { type filter hook forward priority 0; }; \
             add rule inet fw f iifname vmap { \"lo\" : accept, \"veth7\" : jump g }",
        ],
    ),
    (
        "named-map",
        &[
            "nft",
            "add table ip fw; add map ip fw m { type inet_service : verdict; elements = { 9999 : drop }; }; \
             add chain ip fw f { type filter hook forward priority 0; }; \
             add rule ip fw f tcp dport vmap @m",
        ],
    ),
    (
        "iptables-queue",
        &["iptables-nft", "-A", "FORWARD", "-d", "192.0.2.1", "-j", "NFQUEUE", "--queue-num", "7"],
    ),
    (
        "drop-policy",
        &["nft", "add table ip fw; add chain ip fw f { type filter hook forward priority 0; policy drop; }"],
    ),
    (
        "reject-rule",
        &[
            "nft",
            "add table inet fw; add chain inet fw g; add rule inet fw g tcp dport 9999 reject; \
          add chain inet fw f { type filter hook forward priority 0; }; add rule inet fw f jump g",
        ],
    ),
    (
        "all-but-invalid",
        &[
            "nft",
            "add table inet fw; add chain inet fw f { type filter hook forward priority 0; }; \
             add rule inet fw f ct state != invalid drop",
        ],
    ),
    ("iptables-drop", &["iptables-nft", "-P", "FORWARD", "DROP"]),
    ("iptables-rule", &["iptables-nft", "-A", "FORWARD", "-d", "192.0.2.1", "-j", "REJECT"]),
];

/// What of iptables-legacy might be one: its rules cannot be read. With the module's name of what is found.
const LEGACY: [(&str, &str, &[&str]); 5] = [
    ("drop", "iptable_filter", &["iptables-legacy", "-P", "FORWARD", "DROP"]),
    ("rule", "iptable_filter", &["iptables-legacy", "-A", "FORWARD", "-d", "192.0.2.1", "-j", "REJECT"]),
    ("drop6", "ip6table_filter", &["ip6tables-legacy", "-P", "FORWARD", "DROP"]),
    (
        "mangle6",
        "ip6table_mangle",
        &["ip6tables-legacy", "-t", "mangle", "-A", "PREROUTING", "-d", "2001:db8::1", "-j", "DROP"],
    ),
    ("empty", "iptable_raw", &["iptables-legacy", "-t", "raw", "-L"]),
];

/// What every node of a cluster has, and is no policy.
const HARMLESS: [&[&str]; 5] = [
    &["iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-d", "192.0.2.1", "-j", "MASQUERADE"],
    &[
        "nft",
        "add table inet ok; add chain inet ok f { type filter hook forward priority 0; }; \
        add rule inet ok f ct state invalid tcp dport 80 drop; \
        add rule inet ok f ct state vmap { invalid : drop, established : accept }; \
        add chain inet ok g; add rule inet ok g ct state invalid drop; \
        add rule inet ok f iifname vmap { \"veth0\" : jump g }",
    ],
    &["iptables-nft", "-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"],
    &["iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "9999", "-j", "DROP"],
    &["iptables-nft", "-A", "FORWARD", "-m", "comment", "--comment", "cni", "-j", "ACCEPT"],
];

fn command(site: &Site, words: &[&str]) -> Result<String> {
    run(site.edge.command(words[0]).args(&words[1..]), None)
}

#[test]
fn a_forward_policy_needs_a_word() -> Result<()> {
    for (name, words) in POLICIES {
        Site::builder(&format!("policy-{name}")).run(|site| {
            HARMLESS.iter().try_for_each(|words| command(site, words).map(drop))?;
            command(site, words)?;
            shop::apply(site)?;
            site.start_agent()?;
            let links = site.agent()?.links()?;
            for link in &links {
                let reason = link["reason"].as_str().unwrap_or_default();
                ensure!(link["state"] == "Down" && reason.contains("policyBypass"), "{name}: {link}");
            }
            let log = std::fs::read_to_string(site.path("logs/agent.log")).context("no log")?;
            ensure!(log.contains("of table i") && log.contains("bypass the node's policy"), "{name}: {log}");
            let accepted = "  policyBypass: Accepted\n";
            site.apply("1-links.yaml", &(objects::link("s8", accepted) + &objects::link("s9", accepted)))?;
            site.agent()?.wait_link("s9", "Up")
        })?;
    }
    Ok(())
}

/// The same of what cannot be read: it is named, and one word more is needed, or none by mark.
#[test]
fn tables_that_cannot_be_read_need_a_word() -> Result<()> {
    for (name, module, words) in LEGACY {
        Site::builder(&format!("policy-legacy-{name}")).run(|site| {
            HARMLESS.iter().try_for_each(|words| command(site, words).map(drop))?;
            command(site, words)?;
            shop::apply(site)?;
            site.start_agent()?;
            for link in &site.agent()?.links()? {
                let reason = link["reason"].as_str().unwrap_or_default();
                let is_said = [module, "policyBypass: Accepted", "mode: Mark", "modprobe"];
                let is_said = is_said.iter().all(|part| reason.contains(part));
                // The tables of one family say nothing about the other one.
                ensure!(link["state"] == "Partial" && is_said, "{name}: {link}");
            }
            let log = std::fs::read_to_string(site.path("logs/agent.log")).context("no log")?;
            ensure!(log.contains("tables of iptables-legacy") && log.contains(module), "{name}: {log}");
            site.edge.sysctl(&[("net/ipv4/conf/all/rp_filter", "2"), ("net/ipv4/conf/s9/rp_filter", "2")])?;
            let (accepted, marked) = ("  policyBypass: Accepted\n", "  mode: Mark\n");
            site.apply("1-links.yaml", &(objects::link("s8", accepted) + &objects::link("s9", marked)))?;
            site.agent()?.wait_link("s8", "Up")?;
            site.agent()?.wait_link("s9", "Up")
        })?;
    }
    Ok(())
}

/// The control.
#[test]
fn rules_of_every_cluster_are_no_policy() -> Result<()> {
    Site::builder("policy-none").run(|site| {
        HARMLESS.iter().try_for_each(|words| command(site, words).map(drop))?;
        shop::open(site)?;
        let summary = shop::run(site, SERVICES[0], Http::H1, 200)?;
        ensure!(summary.clean(), "{summary:#?}");
        Ok(())
    })
}
