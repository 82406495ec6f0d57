//! Links of different kinds: with and without address translation, with peers of their own.

use crate::shop::{self, SERVICES};
use anyhow::{Result, ensure};
use harness::load::Http;
use harness::objects;
use harness::site::{APP_PORT, Site};

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
            let tally = harness::tally::judge(&shop::callers(), &seen);
            ensure!(tally.clean(), "{service:?}: {tally:#?}");
            let own = site.pods[0].addresses();
            for truth in seen.iter().filter_map(|seen| seen.truth.as_ref()).filter(|t| t.link == "s9") {
                ensure!(own.contains(&truth.source.ip()), "translated: {truth:?}");
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
            let tally = shop::run(site, service, Http::H2, 600)?;
            ensure!(tally.clean(), "{service:?}: {tally:#?}");
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
