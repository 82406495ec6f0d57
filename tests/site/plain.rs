//! The site itself, without an agent: what every other test stands on.

use anyhow::{Result, ensure};
use harness::load::{Caller, Http, Load};
use harness::site::{APP_PORT, Site};
use harness::summary::summarize;

/// Pods reach the service by the default route, over both families, as both pods and both HTTP versions.
#[test]
fn unsteered_requests_take_the_default_route() -> Result<()> {
    Site::builder("plain").pods(2).run(everyone_arrives_by_s8)
}

/// The same where pods are ports of a bridge.
#[test]
fn unsteered_requests_take_the_default_route_from_a_bridge() -> Result<()> {
    Site::builder("plain-bridge").pods(2).bridge().run(everyone_arrives_by_s8)
}

fn everyone_arrives_by_s8(site: &mut Site) -> Result<()> {
    for pod in &site.pods {
        for (ipv6, http) in [(false, Http::H1), (true, Http::H1), (false, Http::H2), (true, Http::H2)] {
            let callers = vec![Caller::user("boss", "s8"), Caller::user("minions", "s8").grouped("boss")];
            let load = Load::new(Site::service(ipv6, APP_PORT), "reviews", callers.clone());
            let seen = load.over(http).requests(100).concurrency(4).run(&pod.netns)?;
            let summary = summarize(&callers, &seen);
            ensure!(summary.clean() && summary.requests == 100, "{} {http:?}: {summary:#?}", pod.name);
        }
    }
    Ok(())
}

/// The summarize is not blind: asked for the other link, or for pools apart, it finds every fault.
#[test]
fn wrong_links_and_shared_pools_are_found() -> Result<()> {
    Site::builder("plain-wrong").run(|site| {
        let callers = vec![Caller::user("boss", "s8"), Caller::user("minions", "s9")];
        let load = Load::new(Site::service(false, APP_PORT), "reviews", callers.clone());
        let seen = load.requests(100).concurrency(2).run(&site.pods[0].netns)?;
        let summary = summarize(&callers, &seen);
        ensure!(summary.wrong == 50 && summary.shared == 2 && summary.errors == 0, "{summary:#?}");
        Ok(())
    })
}
