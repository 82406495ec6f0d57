//! The phases of the demo.

use crate::arguments::Arguments;
use crate::output::{Output, grouped};
use crate::report::Report;
use crate::setup;
use anyhow::{Context, Result};
use harness::load::{Exchange, Stop};
use harness::site::{Site, diagnostics, try_out};
use harness::summary::{summarize, summarize_except};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Runs every phase, and removes the site.
pub(crate) fn run(arguments: &Arguments, output: &Output) -> Result<Report> {
    let start = Instant::now();
    let mut site = build(output)?;
    let mut script = Script {
        output,
        requests: usize::try_from(arguments.requests).context("too many requests")?,
        report: Report::default(),
        kept: BTreeSet::new(),
    };
    if let Err(error) = script.run(&mut site) {
        let report = diagnostics::collect(&mut site);
        return Err(error.context(report));
    }
    script.report.close(start.elapsed().as_secs_f64());
    if arguments.keep {
        output.report(&script.report);
        output.print(&format!("\n{}", try_out::text(&site, setup::HOST)?));
        loop {
            std::thread::park();
        }
    }
    Ok(script.report)
}

/// Name, result and work of a step.
type Step = (&'static str, &'static str, fn(&mut Site) -> Result<()>);

fn build(output: &Output) -> Result<Site> {
    output.heading("Building a site: an edge node with two WAN links, a mesh client, a service in the cloud");
    let mut site = output.step("namespaces", || {
        let site = setup::build()?;
        Ok((site, "pod, edge (default route over s8), cloud".to_owned()))
    })?;
    let steps: [Step; 3] = [
        ("gateway", "Envoy in the cloud, mTLS on 15443", setup::start_gateway),
        ("agent", "clovisor-agent on the edge, with the objects of deploy/example", Site::start_agent),
        ("proxy", "Envoy in the pod, uid 1337, no capabilities", |site| site.start_proxy(0)),
    ];
    for (what, found, work) in steps {
        let worked = output.step(what, || Ok((work(&mut site)?, found.to_owned())));
        if let Err(error) = worked {
            return Err(error.context(diagnostics::collect(&mut site)));
        }
    }
    Ok(site)
}

struct Script<'a> {
    output: &'a Output,
    requests: usize,
    report: Report,
    /// Connections of minions that were opened while s9 was down, and stay on s8.
    kept: BTreeSet<String>,
}

impl Script<'_> {
    fn run(&mut self, site: &mut Site) -> Result<()> {
        self.mixed(site)?;
        self.cut(site)?;
        self.back(site)?;
        self.without_agent(site)
    }

    /// Many users over few connections, each user over its own link.
    fn mixed(&mut self, site: &mut Site) -> Result<()> {
        self.output
            .heading("Requests of all users: each answer names the link by which its connection arrived");
        let callers = setup::callers("s9");
        let summary = self.output.step("mixed requests", || {
            let seen = setup::load(&callers, self.requests).run(&site.pods[0].netns)?;
            let summary = summarize(&callers, &seen);
            let text = format!(
                "{} requests from 20 clients over {} upstream connections",
                grouped(summary.requests),
                summary.connections
            );
            Ok((summary, text))
        })?;
        self.output.table(&summary);
        if let Some(example) = &summary.example {
            self.output.line(false, &format!("first error: {example}"));
        }
        self.report.users(&summary.callers);
        self.report.add("mixed", &summary, 0);
        Ok(())
    }

    /// s9 loses its carrier while minions send requests.
    fn cut(&mut self, site: &mut Site) -> Result<()> {
        self.output.heading("s9 loses its carrier while minions send requests");
        let running = setup::minions(100_000).start(&site.pods[0].netns, Stop::default())?;
        let settle = Duration::from_millis(500);
        #[expect(clippy::disallowed_methods, reason = "the load runs for a while")]
        std::thread::sleep(settle);
        let on_s9_now = flows(site)?.iter().filter(|(_, link)| link == "s9").count();
        let cut = running.started.elapsed();
        site.carrier("s9", false)?;
        #[expect(clippy::disallowed_methods, reason = "the load runs for a while")]
        std::thread::sleep(settle * 3);
        let seen = running.stop()?;
        let (before, after): (Vec<_>, Vec<_>) =
            seen.into_iter().partition(|seen| seen.sent + seen.took < cut);
        // An answer by s9 arrived before the cut took effect.
        let moved = |seen: &&Exchange| good(seen) && seen.observed.as_ref().is_some_and(|t| t.link != "s9");
        let first = after.iter().filter(moved).min_by_key(|seen| seen.sent + seen.took);
        let link = first.and_then(|seen| seen.observed.as_ref()).map(|observed| observed.link.clone());
        let gap = first.map(|seen| seen.sent + seen.took - cut);
        self.report.failover_ms = gap.and_then(|gap| u64::try_from(gap.as_millis()).ok());
        self.report.failover_link.clone_from(&link);
        let lost = after.iter().filter(|seen| !good(seen)).count();
        match (gap, link) {
            (Some(gap), Some(link)) => self.output.line(
                link == "s8",
                &format!("first good answer after {:.0} ms, over {link}", gap.as_secs_f64() * 1000.0),
            ),
            _ => self.output.line(false, "no request of minions succeeded after the cut"),
        }
        self.output.remark(&format!(
            "{lost} requests were in flight on the {on_s9_now} connections over s9, and were lost"
        ));
        let on_s9 = [harness::load::Caller::user("minions", "s9")];
        self.report.add("before the cut", &summarize(&on_s9, &before), 0);
        let on_s8 = [harness::load::Caller::user("minions", "s8")];
        self.kept = connections(&after, "s8");
        // Answers by s9 arrived before the cut took effect: they are not wrong.
        let summary = summarize_except(&on_s8, &after, &connections(&after, "s9"));
        // Each connection of HTTP/1.1 that dies loses at most one request.
        self.report.add("s9 cut", &summary, lost.min(on_s9_now));
        Ok(())
    }

    /// The link comes back: new connections take it, established ones stay where they are.
    fn back(&mut self, site: &mut Site) -> Result<()> {
        self.output.heading("s9 is back");
        site.carrier("s9", true)?;
        site.agent()?.wait_link("s9", "Up")?;
        let callers = setup::callers("s9");
        let seen = setup::load(&callers, self.requests / 5).run(&site.pods[0].netns)?;
        let summary = summarize_except(&callers, &seen, &self.kept);
        let row = &summary.callers[1];
        let on = |link| row.links.get(link).copied().unwrap_or(0);
        self.output.line(
            summary.wrong == 0 && on("s9") > 0,
            &format!("minions: {} over s9 again, {} over s8, {} wrong", on("s9"), on("s8"), summary.wrong),
        );
        self.output.remark("`established: Stay` keeps the connections of the outage on s8 until they end");
        self.report.add("s9 back", &summary, 0);
        Ok(())
    }

    /// The agent is killed and started again; programs, routes and flows stay in place.
    fn without_agent(&mut self, site: &mut Site) -> Result<()> {
        self.output.heading("The agent is killed (-9)");
        let flows = flows(site)?;
        site.kill_agent()?;
        let callers = setup::callers("s8");
        let seen = setup::load(&callers, self.requests / 5).run(&site.pods[0].netns)?;
        let summary = summarize_except(&callers, &seen, &self.kept);
        self.output.line(
            summary.wrong + summary.errors == 0,
            &format!(
                "{} requests meanwhile: {} wrong, {} errors",
                summary.requests, summary.wrong, summary.errors
            ),
        );
        self.output.remark(
            "no agent answers the callout: the crew takes the default route (`onAgentLoss: Default`)",
        );
        self.report.add("agent killed", &summary, 0);
        self.output.heading("The agent is started again");
        site.start_agent()?;
        let found = self::flows(site)?;
        self.report.flows_before = flows.len();
        self.report.flows_kept = flows.intersection(&found).count();
        self.output.line(
            self.report.flows_kept == flows.len(),
            &format!("{} of {} flows kept", self.report.flows_kept, flows.len()),
        );
        let callers = setup::callers("s9");
        let seen = setup::load(&callers, self.requests / 5).run(&site.pods[0].netns)?;
        let summary = summarize_except(&callers, &seen, &self.kept);
        self.output.table(&summary);
        self.report.add("agent restarted", &summary, 0);
        Ok(())
    }
}

fn good(seen: &Exchange) -> bool {
    seen.status == Some(200) && seen.observed.is_some()
}

fn connections(seen: &[Exchange], link: &str) -> BTreeSet<String> {
    let all = seen.iter().filter_map(|seen| seen.observed.as_ref());
    all.filter(|observed| observed.link == link).map(|observed| observed.connection.clone()).collect()
}

/// Source and link of every steered flow.
fn flows(site: &mut Site) -> Result<BTreeSet<(String, String)>> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let sessions = site.agent()?.sessions()?;
    Ok(sessions.iter().map(|session| (text(&session["source"]), text(&session["link"]))).collect())
}
