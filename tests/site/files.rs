//! Files that lose their content for a moment: what was in force stays, under load; what is really deleted goes.

use crate::shop::{self, SERVICES};
use anyhow::{Context, Result, ensure};
use harness::agent::ctl;
use harness::eventually::eventually;
use harness::load::{Http, Stop};
use harness::site::Site;
use harness::summary::summarize;
use serde_json::Value;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(10);

/// Messages of the problems with a reason.
fn said(site: &mut Site, reason: &str) -> Result<Vec<String>> {
    let status = site.agent()?.json("/v1/status")?;
    let problems = status["problems"].as_array().cloned().unwrap_or_default();
    let of_reason = problems.iter().filter(|problem| problem["reason"] == reason);
    Ok(of_reason.map(|problem| format!("{}: {}", problem["object"], problem["message"])).collect())
}

/// Programs on devices, and the class of the minions' requests.
fn in_force(site: &mut Site) -> Result<(Value, Value)> {
    let attachments = site.agent()?.json("/v1/status")?["attachments"].clone();
    let words = [
        "explain",
        "-o",
        "json",
        "--pod",
        "shop/client-0",
        "--host",
        "h1v4.shop:8001",
        "--header",
        "user=minions",
    ];
    let answer: Value = serde_json::from_str(&ctl(&site.path(""), &words)?).context("not JSON")?;
    Ok((attachments, answer["class"].clone()))
}

#[test]
fn an_emptied_file_costs_nothing_and_a_deleted_one_is_acted_on() -> Result<()> {
    Site::builder("files").run(|site| {
        shop::open(site)?;
        let before = in_force(site)?;
        ensure!(before.1.is_u64(), "{before:?}");
        let numbers =
            |site: &Site| std::fs::read_to_string(site.path("state/numbers.json")).context("no numbers");
        let numbered = numbers(site)?;
        let load = shop::load(SERVICES[0], Http::H1, 1_000_000).pace(Duration::from_millis(5));
        let running = load.start(&site.pods[0].netns, Stop::default())?;
        let files =
            ["1-links.yaml", "3-pods.yaml", "4-mappings.yaml"].map(|name| site.path("config").join(name));
        let texts = files.iter().map(std::fs::read_to_string).collect::<Result<Vec<_>, _>>()?;
        for cut in [0, 2] {
            let emptied = Instant::now();
            for (file, text) in files.iter().zip(&texts) {
                // In place, as a shell's `>` or a full disk does it.
                std::fs::write(file, text.get(..text.len() * cut / 3).unwrap_or_default())?;
            }
            eventually("the agent sees the files", LIMIT, || {
                let said = said(site, "Unconfirmed")?;
                ensure!(said.len() == 3 && emptied.elapsed() >= Duration::from_millis(500), "{said:?}");
                Ok(())
            })?;
            ensure!(in_force(site)? == before, "{:?}", in_force(site)?);
            for (file, text) in files.iter().zip(&texts) {
                std::fs::write(file, text)?;
            }
            eventually("the files are whole again", LIMIT, || {
                let said = said(site, "Unconfirmed")?;
                ensure!(said.is_empty(), "{said:?}");
                Ok(())
            })?;
            ensure!(in_force(site)? == before && numbers(site)? == numbered, "{:?}", in_force(site)?);
        }
        let summary = summarize(&shop::callers(), &running.stop()?);
        ensure!(summary.clean() && summary.requests > 500, "{summary:#?}");
        deleted(site)
    })
}

/// The control: what is really gone goes out of force, file by file.
fn deleted(site: &mut Site) -> Result<()> {
    site.withdraw("4-mappings.yaml")?;
    eventually("no mapping is in force", LIMIT, || {
        let found = in_force(site)?;
        ensure!(found.1.is_null(), "{found:?}");
        Ok(())
    })?;
    std::fs::write(site.path("config/1-links.yaml"), "")?;
    eventually("no link is left, and that is said", LIMIT, || {
        let (links, said) = (site.agent()?.links()?, said(site, "InvalidObject")?);
        ensure!(links.is_empty() && said.iter().any(|said| said.contains("is empty")), "{links:?} {said:?}");
        Ok(())
    })
}
