use crate::arguments::Arguments;
use crate::paper::{Paper, grouped};
use crate::stage;
use crate::verdict::Verdict;
use anyhow::{Context, Result};
use harness::load::{Observation, Stop};
use harness::site::Site;
use harness::tally::{judge, judge_except};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Plays every act; the site is gone afterwards.
pub(crate) fn tell(arguments: &Arguments, paper: &Paper) -> Result<Verdict> {
    let start = Instant::now();
    let mut site = raise(paper)?;
    let mut play = Play {
        paper,
        requests: usize::try_from(arguments.requests).context("a count fits")?,
        verdict: Verdict::default(),
        kept: BTreeSet::new(),
    };
    let played = play.all(&mut site);
    if let Err(error) = played {
        let report = site.report();
        return Err(error.context(report));
    }
    play.verdict.close(start.elapsed().as_secs_f64());
    if arguments.keep {
        paper.verdict(&play.verdict);
        wait_at(&site);
    }
    Ok(play.verdict)
}

/// Name, what is there afterwards, work.
type Step = (&'static str, &'static str, fn(&mut Site) -> Result<()>);

fn raise(paper: &Paper) -> Result<Site> {
    paper.act("A site: one edge node, two WAN links, a mesh client, a service in the cloud");
    let mut site = paper.step("namespaces", || {
        let site = stage::build()?;
        Ok((site, "pod, edge (default route by s8), cloud".to_owned()))
    })?;
    let steps: [Step; 3] = [
        ("gateway", "Envoy in the cloud, mTLS on 15443", stage::start_gateway),
        ("agent", "clovisor-agent on the edge, objects of deploy/example", Site::start_agent),
        ("proxy", "Envoy in the pod, uid 1337, no capabilities", |site| site.start_proxy(0)),
    ];
    for (what, found, work) in steps {
        let worked = paper.step(what, || Ok((work(&mut site)?, found.to_owned())));
        if let Err(error) = worked {
            return Err(error.context(site.report()));
        }
    }
    Ok(site)
}

struct Play<'a> {
    paper: &'a Paper,
    requests: usize,
    verdict: Verdict,
    /// Connections that were opened while their first link was away, and stay where they are.
    kept: BTreeSet<String>,
}

impl Play<'_> {
    fn all(&mut self, site: &mut Site) -> Result<()> {
        self.mixed(site)?;
        self.cut(site)?;
        self.back(site)?;
        self.without_agent(site)
    }

    /// Many users over few connections, each by its own link.
    fn mixed(&mut self, site: &mut Site) -> Result<()> {
        self.paper.act("Who goes where: every answer says by which link its own connection came");
        let callers = stage::callers("s9");
        let tally = self.paper.step("mixed requests", || {
            let seen = stage::load(&callers, self.requests).run(&site.pods[0].netns)?;
            let tally = judge(&callers, &seen);
            let text = format!(
                "{} requests of 20 clients over {} upstream connections",
                grouped(tally.requests),
                tally.connections
            );
            Ok((tally, text))
        })?;
        self.paper.table(&tally);
        if let Some(example) = &tally.example {
            self.paper.line(false, &format!("first error: {example}"));
        }
        self.verdict.users(&tally.callers);
        self.verdict.add("mixed", &tally, 0);
        Ok(())
    }

    /// s9 loses its carrier while minions keep sending.
    fn cut(&mut self, site: &mut Site) -> Result<()> {
        self.paper.act("s9 is cut while minions keep sending");
        let running = stage::minions(100_000).start(&site.pods[0].netns, Stop::default())?;
        let settle = Duration::from_millis(500);
        std::thread::sleep(settle);
        let on_s9_now = flows(site)?.iter().filter(|(_, link)| link == "s9").count();
        let cut = running.started.elapsed();
        site.carrier("s9", false)?;
        std::thread::sleep(settle * 3);
        let seen = running.stop()?;
        let (before, after): (Vec<_>, Vec<_>) =
            seen.into_iter().partition(|seen| seen.sent + seen.took < cut);
        // An answer that still came by s9 came before the cut took effect.
        let moved = |seen: &&Observation| good(seen) && seen.truth.as_ref().is_some_and(|t| t.link != "s9");
        let first = after.iter().filter(moved).min_by_key(|seen| seen.sent + seen.took);
        let link = first.and_then(|seen| seen.truth.as_ref()).map(|truth| truth.link.clone());
        let gap = first.map(|seen| seen.sent + seen.took - cut);
        self.verdict.failover_ms = gap.and_then(|gap| u64::try_from(gap.as_millis()).ok());
        self.verdict.failover_link.clone_from(&link);
        let lost = after.iter().filter(|seen| !good(seen)).count();
        match (gap, link) {
            (Some(gap), Some(link)) => self.paper.line(
                link == "s8",
                &format!("next good answer after {:.0} ms, by {link}", gap.as_secs_f64() * 1000.0),
            ),
            _ => self.paper.line(false, "no minions request succeeded again"),
        }
        self.paper.remark(&format!("{lost} requests were lost with the {on_s9_now} connections that s9 had"));
        let on_s9 = [harness::load::Caller::user("minions", "s9")];
        self.verdict.add("before the cut", &judge(&on_s9, &before), 0);
        let on_s8 = [harness::load::Caller::user("minions", "s8")];
        self.kept = connections(&after, "s8");
        // An answer that came by s9 just before the cut took effect is no mistake.
        let tally = judge_except(&on_s8, &after, &connections(&after, "s9"));
        // Each connection that died takes at most one request with it.
        self.verdict.add("s9 cut", &tally, lost.min(on_s9_now));
        Ok(())
    }

    /// The link comes back: new connections take it, established ones stay.
    fn back(&mut self, site: &mut Site) -> Result<()> {
        self.paper.act("s9 is back");
        site.carrier("s9", true)?;
        site.agent()?.wait_link("s9", "Up")?;
        let callers = stage::callers("s9");
        let seen = stage::load(&callers, self.requests / 5).run(&site.pods[0].netns)?;
        let tally = judge_except(&callers, &seen, &self.kept);
        let row = &tally.callers[1];
        let on = |link| row.links.get(link).copied().unwrap_or(0);
        self.paper.line(
            tally.wrong == 0 && on("s9") > 0,
            &format!("minions: {} by s9 again, {} by s8, {} wrong", on("s9"), on("s8"), tally.wrong),
        );
        self.paper.remark("established: Stay keeps connections of the outage on s8 until they end");
        self.verdict.add("s9 back", &tally, 0);
        Ok(())
    }

    /// The agent dies and comes back; the kernel programs, the routes and the flows do not notice.
    fn without_agent(&mut self, site: &mut Site) -> Result<()> {
        self.paper.act("The agent is killed (-9)");
        let flows = flows(site)?;
        site.kill_agent()?;
        let callers = stage::callers("s8");
        let seen = stage::load(&callers, self.requests / 5).run(&site.pods[0].netns)?;
        let tally = judge_except(&callers, &seen, &self.kept);
        self.paper.line(
            tally.wrong + tally.errors == 0,
            &format!("{} requests went on: {} wrong, {} errors", tally.requests, tally.wrong, tally.errors),
        );
        self.paper
            .remark("nobody answers the callout: the crew takes the default route (onAgentLoss: Default)");
        self.verdict.add("agent killed", &tally, 0);
        self.paper.act("The agent is started again");
        site.start_agent()?;
        let found = self::flows(site)?;
        self.verdict.flows_before = flows.len();
        self.verdict.flows_kept = flows.intersection(&found).count();
        self.paper.line(
            self.verdict.flows_kept == flows.len(),
            &format!("{} of {} flows kept", self.verdict.flows_kept, flows.len()),
        );
        let callers = stage::callers("s9");
        let seen = stage::load(&callers, self.requests / 5).run(&site.pods[0].netns)?;
        let tally = judge_except(&callers, &seen, &self.kept);
        self.paper.table(&tally);
        self.verdict.add("agent restarted", &tally, 0);
        Ok(())
    }
}

fn good(seen: &Observation) -> bool {
    seen.status == Some(200) && seen.truth.is_some()
}

fn connections(seen: &[Observation], link: &str) -> BTreeSet<String> {
    let truths = seen.iter().filter_map(|seen| seen.truth.as_ref());
    truths.filter(|truth| truth.link == link).map(|truth| truth.connection.clone()).collect()
}

/// Source and link of every steered flow.
fn flows(site: &mut Site) -> Result<BTreeSet<(String, String)>> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let sessions = site.agent()?.sessions()?;
    Ok(sessions.iter().map(|session| (text(&session["source"]), text(&session["link"]))).collect())
}

/// Says what can be tried and waits for Ctrl-C.
fn wait_at(site: &Site) {
    let pod = site.pods[0].netns.path();
    let socket = site.path("run/agent.sock");
    let (pod, socket) = (pod.display(), socket.display());
    let host = stage::HOST;
    println!("\nThe site stays up until Ctrl-C. As root, try:\n");
    println!("  nsenter --net={pod} curl -s -H 'user: minions' --resolve {host}:203.0.113.10 http://{host}/");
    for words in [
        "status".to_owned(),
        "links".to_owned(),
        "sessions".to_owned(),
        format!("explain --pod shop/client-0 --host {host} --header user=crew-00042 --path /"),
    ] {
        println!("  clovisorctl --socket {socket} {words}");
    }
    println!("\nObjects: {} (edit them: the agent watches)", site.path("config").display());
    loop {
        std::thread::park();
    }
}
