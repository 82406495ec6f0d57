//! A policy of the node for forwarded packets: found, said, and bypassed only where that is accepted.

use crate::shop::{self, SERVICES};
use anyhow::{Context as _, Result, ensure};
use harness::load::Http;
use harness::netns::run;
use harness::objects;
use harness::site::Site;

/// As firewalls write it: with nft, and with iptables.
const POLICIES: [(&str, &[&str]); 5] = [
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

/// What every node of a cluster has, and is no policy.
const HARMLESS: [&[&str]; 4] = [
    &[
        "nft",
        "add table inet ok; add chain inet ok f { type filter hook forward priority 0; }; \
        add rule inet ok f ct state invalid tcp dport 80 drop",
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

/// The control.
#[test]
fn rules_of_every_cluster_are_no_policy() -> Result<()> {
    Site::builder("policy-none").run(|site| {
        HARMLESS.iter().try_for_each(|words| command(site, words).map(drop))?;
        shop::open(site)?;
        let tally = shop::run(site, SERVICES[0], Http::H1, 200)?;
        ensure!(tally.clean(), "{tally:#?}");
        Ok(())
    })
}
