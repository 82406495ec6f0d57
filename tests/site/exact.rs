//! Exactness: every request by the link of its own decision, proven by the SYN that carried it.

use crate::shop;
use anyhow::{Result, ensure};
use harness::eventually::eventually;
use harness::load::Http;
use harness::site::Site;
use std::time::Duration;

/// 5,000 mixed requests of 20 clients for each pair of HTTP versions and family.
#[test]
fn every_request_leaves_by_its_own_link() -> Result<()> {
    Site::builder("exact").run(|site| {
        shop::open(site)?;
        everywhere(site, 5000)
    })
}

/// The same for a pod that is a port of a bridge.
#[test]
fn a_pod_behind_a_bridge_is_found_and_steered() -> Result<()> {
    Site::builder("exact-bridge").bridge().run(|site| {
        shop::open(site)?;
        everywhere(site, 600)
    })
}

/// The same with clsact filters, as on kernels before 6.6.
#[test]
fn clsact_filters_steer_as_tcx_links_do() -> Result<()> {
    Site::builder("exact-clsact").attach("clsact").run(|site| {
        shop::open(site)?;
        everywhere(site, 600)
    })
}

/// The same while the agent is dead, for everything that routes decide; the crew is nobody's then.
#[test]
fn a_dead_agent_changes_nothing_that_routes_decide() -> Result<()> {
    Site::builder("exact-dead").run(|site| {
        shop::open(site)?;
        everywhere(site, 600)?;
        site.kill_agent()?;
        without_answers(site, 600)
    })
}

/// The same while it hangs: whoever asks it waits no longer than the callout's timeout.
#[test]
fn a_hung_agent_changes_nothing_that_routes_decide() -> Result<()> {
    Site::builder("exact-hung").run(|site| {
        shop::open(site)?;
        everywhere(site, 60)?;
        site.agent()?.hang()?;
        without_answers(site, 300)?;
        site.agent()?.wake()?;
        // It has a backlog of callouts that nobody waits for any longer.
        eventually("the crew's link again", Duration::from_secs(5), || {
            let mut load = shop::load(shop::SERVICES[0], Http::H1, 20);
            load.callers.retain(|caller| caller.name == "crew");
            let callers = load.callers.clone();
            let summary = harness::summary::summarize(&callers, &load.run(&site.pods[0].netns)?);
            ensure!(summary.clean(), "{summary:#?}");
            Ok(())
        })?;
        everywhere(site, 60)
    })
}

/// Nobody answers callouts: the crew takes the default route.
fn without_answers(site: &Site, requests: usize) -> Result<()> {
    let mut callers = shop::callers();
    for caller in callers.iter_mut().filter(|caller| caller.name == "crew") {
        "s8".clone_into(&mut caller.link);
        "default".clone_into(&mut caller.group);
    }
    for service in shop::SERVICES {
        let seen = shop::load(service, Http::H1, requests).run(&site.pods[0].netns)?;
        let summary = harness::summary::summarize(&callers, &seen);
        ensure!(summary.clean() && summary.requests == requests, "{service:?}: {summary:#?}");
    }
    Ok(())
}

fn everywhere(site: &Site, requests: usize) -> Result<()> {
    for service in shop::SERVICES {
        for http in [Http::H1, Http::H2] {
            let summary = shop::run(site, service, http, requests)?;
            ensure!(summary.clean() && summary.requests == requests, "{service:?} {http:?}: {summary:#?}");
            let by = |link: &str| summary.callers.iter().filter_map(|row| row.links.get(link)).sum::<usize>();
            ensure!(by("s9") > requests / 4 && by("s8") > requests / 4, "not mixed: {summary:#?}");
        }
    }
    Ok(())
}
