//! Mappings that fail closed.

use crate::shop::{self, SERVICES};
use anyhow::{Result, ensure};
use harness::load::Http;
use harness::objects;
use harness::site::Site;
use harness::summary::{Summary, summarize};

/// `onAgentLoss: Refuse`: without an agent such requests are answered 503, all others go on.
#[test]
fn without_an_agent_a_refusing_mapping_answers_503() -> Result<()> {
    Site::builder("refuse-agent").run(|site| {
        shop::apply_with(site, "  onAgentLoss: Refuse\n")?;
        site.start_agent()?;
        site.start_proxy(0)?;
        let summary = shop::run(site, SERVICES[0], Http::H1, 600)?;
        ensure!(summary.clean(), "{summary:#?}");
        site.kill_agent()?;
        let seen = shop::load(SERVICES[0], Http::H1, 600).run(&site.pods[0].netns)?;
        let callers = shop::callers();
        let summary = summarize(&callers, &seen);
        // Everyone of the route with rules: nobody can know who is in the set.
        for row in &summary.callers {
            let asked = ["crew", "guests", "forgers"].contains(&row.name.as_str());
            ensure!(row.errors == if asked { row.requests } else { 0 } && row.wrong == 0, "{summary:#?}");
        }
        let refused = seen.iter().filter(|seen| seen.error.is_some());
        ensure!(
            refused.clone().all(|seen| seen.status == Some(503)),
            "not 503: {:?}",
            refused.clone().next()
        );
        Ok(())
    })
}

/// `onLinksDown: Refuse`: no link of the list, no request; never by another link.
#[test]
fn without_a_link_a_refusing_mapping_never_leaks() -> Result<()> {
    Site::builder("refuse-links").run(|site| {
        shop::apply(site)?;
        let hosts = SERVICES.map(|service| service.host);
        let refuse = "  onLinksDown: Refuse\n";
        let open = objects::mapping(&hosts, "boss", &["s9"], "");
        site.apply("4-mappings.yaml", &(open + &objects::mapping(&hosts, "minions", &["s9"], refuse)))?;
        site.start_agent()?;
        site.start_proxy(0)?;
        let up = only(site, 100)?;
        ensure!(row(&up, "minions", "s9") == 50 && row(&up, "boss", "s9") == 50, "{up:#?}");
        site.carrier("s9", false)?;
        site.agent()?.wait_link("s9", "Down")?;
        // Connections of before die with their link, each with the request that finds it dead.
        let dying = only(site, 200)?;
        ensure!(
            row(&dying, "boss", "s9") == 0 && row(&dying, "minions", "s9") == 0,
            "by a dead link: {dying:#?}"
        );
        let down = only(site, 40)?;
        ensure!(row(&down, "boss", "s8") == 20, "Default goes on by the default route: {down:#?}");
        ensure!(down.callers[1].errors == down.callers[1].requests, "Refuse must not pass: {down:#?}");
        ensure!(site.agent()?.counted("no_link_refused")? > 0, "no_link_refused not counted");
        Ok(())
    })
}

fn only(site: &Site, requests: usize) -> Result<Summary> {
    let mut load = shop::load(SERVICES[0], Http::H1, requests);
    load.callers.truncate(2);
    let callers = load.callers.clone();
    Ok(summarize(&callers, &load.run(&site.pods[0].netns)?))
}

fn row(summary: &Summary, caller: &str, link: &str) -> usize {
    let rows = summary.callers.iter().filter(|row| row.name == caller);
    rows.filter_map(|row| row.links.get(link)).sum()
}
