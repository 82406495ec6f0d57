//! Changes under load: 20 clients never see them.

use crate::shop::{self, SERVICES};
use anyhow::{Result, ensure};
use harness::load::{Caller, Exchange, Http, Running, Stop};
use harness::objects;
use harness::site::Site;
use harness::summary::summarize;
use std::time::Duration;

const ROUNDS: usize = 20;

/// Requests until told to end, of these callers only.
fn endless(site: &Site, callers: Vec<Caller>) -> Result<Running> {
    let mut load = shop::load(SERVICES[0], Http::H1, 1_000_000).pace(Duration::from_millis(5));
    load.callers = callers;
    load.start(&site.pods[0].netns, Stop::default())
}

/// A mapping comes, changes and goes twenty times; the requests of the others are none of its business.
#[test]
fn policy_changes_do_not_touch_requests() -> Result<()> {
    Site::builder("churn-policy").run(|site| {
        shop::open(site)?;
        let running = endless(site, shop::callers())?;
        let hosts = SERVICES.map(|service| service.host);
        for round in 0..ROUNDS {
            let links = if round % 4 == 0 { ["s8", "s9"] } else { ["s9", "s8"] };
            let before = generation(site)?;
            if round % 2 == 0 {
                // Before all others in the order of names, so that numbers by order would move.
                let rest = objects::mapping(&hosts, "rest", &links, "");
                site.apply(
                    "5-rest.yaml",
                    &rest.replace("name: rest\n  namespace", "name: a-rest\n  namespace"),
                )?;
            } else {
                site.withdraw("5-rest.yaml")?;
            }
            harness::eventually::eventually("a new generation", Duration::from_secs(10), || {
                ensure!(generation(site)? > before, "still {before}");
                Ok(())
            })?;
        }
        let seen = running.stop()?;
        let mut callers = shop::callers();
        callers.retain(|caller| caller.name != "nobody");
        // Requests without a user are those that the mapping governs while it is there.
        let others: Vec<_> = seen.into_iter().filter(|seen| seen.caller < callers.len()).collect();
        let summary = summarize(&callers, &others);
        ensure!(
            summary.wrong + summary.errors + summary.leaked == 0 && summary.requests > 500,
            "{summary:#?}"
        );
        Ok(())
    })
}

fn generation(site: &mut Site) -> Result<u64> {
    Ok(site.agent()?.json("/v1/status")?["policyGeneration"].as_u64().unwrap_or(0))
}

/// A link goes and comes twenty times; only requests that were on it may be lost with it.
#[test]
fn a_flapping_link_costs_only_what_was_on_it() -> Result<()> {
    Site::builder("churn-link").run(|site| {
        shop::open(site)?;
        let callers = shop::callers();
        let running = endless(site, callers.clone())?;
        let mut cuts = Vec::new();
        for _ in 0..ROUNDS {
            let before = running.started.elapsed();
            site.carrier("s9", false)?;
            site.agent()?.wait_link("s9", "Down")?;
            cuts.push((before, running.started.elapsed()));
            site.carrier("s9", true)?;
            site.agent()?.wait_link("s9", "Up")?;
        }
        let seen = running.stop()?;
        let by_s8 = |seen: &&Exchange| callers[seen.caller].link == "s8";
        let steady: Vec<_> = seen.iter().filter(by_s8).cloned().collect();
        let summary = summarize(&callers, &steady);
        ensure!(summary.wrong + summary.errors == 0 && summary.requests > 300, "{summary:#?}");
        for lost in seen.iter().filter(|seen| seen.error.is_some()) {
            let on_a_cut = cuts.iter().any(|(from, to)| lost.sent <= *to && lost.sent + lost.took >= *from);
            ensure!(on_a_cut, "lost outside every cut: {lost:?}; cuts {cuts:?}");
        }
        Ok(())
    })
}

/// The agent dies and comes back twenty times; what routes decide goes on as if it were there.
#[test]
fn a_dying_agent_is_not_noticed() -> Result<()> {
    Site::builder("churn-agent").run(|site| {
        shop::open(site)?;
        let callers = shop::callers();
        let running = endless(site, callers.clone())?;
        for _ in 0..ROUNDS {
            site.kill_agent()?;
            site.start_agent()?;
        }
        let seen = running.stop()?;
        let summary = summarize(&callers, &seen);
        let crew: usize = summary.callers.iter().filter(|row| row.name == "crew").map(|row| row.wrong).sum();
        // The crew takes the default route whenever nobody answers: onAgentLoss.
        ensure!(summary.errors == 0 && summary.wrong == crew && summary.leaked == 0, "{summary:#?}");
        let summary = shop::run(site, SERVICES[0], Http::H2, 600)?;
        ensure!(summary.clean(), "after the last restart: {summary:#?}");
        Ok(())
    })
}
