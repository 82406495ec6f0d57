//! Every command of the README is one that works.

use crate::shop;
use anyhow::{Context, Result, bail, ensure};
use clovisor_objects::document::{Document, Found, read};
use harness::agent::{binary, ctl};
use harness::eventually::eventually;
use harness::load::Http;
use harness::site::Site;
use std::process::Command;
use std::time::Duration;

const README: &str = include_str!("../../README.md");

/// The service of its examples.
const REVIEWS: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews.shop.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 8000, name: http, protocol: HTTP}]
  endpoints: [{address: 203.0.113.77}]
";

/// Those that `cargo xtask ci` runs itself, or is.
const OWN: [&str; 6] = [
    "cargo xtask demo",
    "cargo xtask cluster demo",
    "cargo xtask test",
    "cargo xtask image",
    "cargo xtask image --arch arm64",
    "cargo xtask ci",
];

/// The lines of the blocks marked `sh`.
fn commands() -> Vec<&'static str> {
    let blocks = README.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("```"));
    blocks.flat_map(|(block, _)| block.lines()).filter(|line| !line.trim().is_empty()).collect()
}

/// Every object that the README shows is read as it stands.
#[test]
fn objects_of_the_readme_are_understood() -> Result<()> {
    let blocks: Vec<_> =
        README.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```")).collect();
    ensure!(blocks.len() >= 2, "the README has lost its objects");
    for (text, _) in blocks {
        let found = read("README.md", text);
        let [Found { document: Document::Object(..), .. }] = &found[..] else {
            bail!("{found:?} of\n{text}")
        };
    }
    Ok(())
}

/// `clovisorctl` and `clovisor-agent` run against a site with the README's own objects and pod.
#[test]
fn commands_of_the_readme_work() -> Result<()> {
    ensure!(commands().len() >= 12, "the README has lost its commands: {:?}", commands());
    Site::builder("readme").run(|site| {
        shop::open(site)?;
        let summary = shop::run(site, shop::SERVICES[0], Http::H1, 300)?;
        ensure!(summary.clean(), "{summary:#?}");
        site.apply("9-reviews.yaml", REVIEWS)?;
        eventually("the README's service", Duration::from_secs(10), || {
            ctl(&site.path(""), &["explain", "--pod", "shop/client-0", "--host", "reviews:8000"])
        })?;
        for line in commands() {
            if line.starts_with("clovisor-agent cleanup --yes") {
                site.stop_agent()?;
            }
            run(site, line).with_context(|| format!("README: `{line}`"))?;
        }
        Ok(())
    })
}

fn run(site: &Site, line: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    match words.next() {
        Some("cargo") => ensure!(OWN.contains(&line), "CI does not run it"),
        Some("clovisor-agent") if line.contains(" run ") => known_flags(line)?,
        Some(program @ ("clovisor-agent" | "clovisorctl")) => {
            let mut command = site.edge.command(binary(program)?);
            command.args(words).current_dir(harness::repository::path(""));
            command.env("CLOVISOR_SOCKET", site.path("run/agent.sock"));
            command.env("CLOVISOR_BPFFS", site.path("bpffs"));
            let output = command.output().context("it does not start")?;
            let text = String::from_utf8_lossy(&output.stderr);
            ensure!(
                output.status.success() && !output.stdout.is_empty() || text.contains("no problems"),
                "{text}"
            );
        }
        other => bail!("{other:?} is no program of this project"),
    }
    Ok(())
}

/// The agent of the site runs with flags of its own; those of the README must exist.
fn known_flags(line: &str) -> Result<()> {
    let help = Command::new(binary("clovisor-agent")?).args(["run", "--help"]).output().context("no help")?;
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for flag in line.split_whitespace().filter(|word| word.starts_with("--")) {
        ensure!(help.contains(flag), "no flag {flag} in\n{help}");
    }
    Ok(())
}
