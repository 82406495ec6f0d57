//! Sidecars: the objects for Istio's control plane, in the configuration that it makes of them, with the real Envoy.

use crate::shop;
use anyhow::{Context, Result, ensure};
use clovisor_objects::folder::read_once;
use clovisor_objects::snapshot::Snapshot;
use clovisor_policy::allocation::{Allocation, Numbering};
use clovisor_policy::compile::{Proxies, Purpose, compile};
use clovisor_render::istio::object::{IstioConfig, IstioKind, IstioObject};
use clovisor_render::istio::objects;
use clovisor_render::namespace::render;
use clovisor_render::proxy::RenderConfig;
use harness::agent::ctl;
use harness::istiod::{self, Files};
use harness::load::Http;
use harness::site::{NAMESPACE, Site};
use harness::summary::Summary;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// The numbers that a controller would give, in the order of the mappings' names.
const STATUS: [(&str, &str); 3] = [
    ("boss", "status: {classes: [{number: 1}]}"),
    ("minions", "status: {classes: [{number: 2}]}"),
    ("users", "status: {classes: [{rule: crew, number: 3}]}"),
];

/// The shop's objects with class numbers, as the API server would show them.
fn apply(site: &Site, extra: &str) -> Result<()> {
    shop::apply_with(site, extra)?;
    let mut text = String::new();
    for document in shop::mappings(extra).split("---\n").filter(|text| !text.is_empty()) {
        let status =
            STATUS.iter().find(|(name, _)| document.contains(&format!("  name: {name}\n  namespace")));
        let (_, status) = status.context("a mapping without a number")?;
        // Writing to a String cannot fail.
        let _written = write!(text, "---\n{document}{status}\n");
    }
    site.apply("4-mappings.yaml", &text)
}

/// Clovisor's objects for the folder of the site.
fn rendered(site: &Site, snapshot: &Snapshot) -> Result<Vec<IstioObject>> {
    let purpose = Purpose { proxies: Proxies::Sidecars, numbering: Numbering::Status, local: false };
    let (compiled, _) = compile(snapshot, &Allocation::default(), 1, purpose);
    ensure!(compiled.problems.is_empty(), "{:#?}", compiled.problems);
    let config = IstioConfig {
        callout: site.path("run/callout/callout.sock"),
        callout_timeout: Duration::from_millis(200),
    };
    Ok(objects(snapshot, &compiled.sidecars, &config))
}

/// A proxy as the control plane configures it without Clovisor: the same routes, clusters without a class.
fn unclassed(site: &Site, snapshot: &Snapshot) -> Result<Files> {
    let mut bare = snapshot.clone();
    bare.mappings.clear();
    let (compiled, _) = compile(&bare, &Allocation::default(), 1, Purpose::default());
    let mount = folder(site);
    let texts = render(NAMESPACE, &compiled.policy, &RenderConfig { mount, ..RenderConfig::default() }).files;
    let parsed = texts.into_iter().map(|(name, text)| Ok((name, serde_json::from_str(&text)?)));
    let mut files = parsed.collect::<Result<Files>>()?;
    // What a sidecar has from an EnvoyFilter only.
    if let Some(bootstrap) = files.get_mut("bootstrap.json").and_then(serde_json::Value::as_object_mut) {
        bootstrap.remove("static_resources");
    }
    for listener in
        files.get_mut("lds.json").and_then(|file| file["resources"].as_array_mut()).into_iter().flatten()
    {
        for chain in listener["filter_chains"].as_array_mut().into_iter().flatten() {
            if let Some(manager) = chain["filters"][0]["typed_config"].as_object_mut() {
                manager.remove("early_header_mutation_extensions");
            }
        }
    }
    Ok(files)
}

fn folder(site: &Site) -> PathBuf {
    site.path("envoy").join("sidecar")
}

/// Starts agent and proxy with these objects.
fn open(site: &mut Site, extra: &str, keep: impl Fn(&IstioObject) -> bool) -> Result<()> {
    apply(site, extra)?;
    let snapshot = read_once(&site.path("config"))?;
    let objects: Vec<_> = rendered(site, &snapshot)?.into_iter().filter(keep).collect();
    let mut files = unclassed(site, &snapshot)?;
    let idle = istiod::apply(&mut files, &objects)?;
    let whole = objects.iter().any(|object| object.kind == IstioKind::DestinationRule);
    ensure!(idle.is_empty() == whole, "patches that change nothing: {idle:#?}");
    std::fs::create_dir_all(folder(site)).context("cannot make the proxy's folder")?;
    for (name, file) in &files {
        std::fs::write(folder(site).join(name), file.to_string())
            .context("cannot write the proxy's files")?;
    }
    site.start_agent()?;
    let folder = folder(site);
    site.start_proxy_with(0, &folder)
}

fn everywhere(site: &Site, requests: usize) -> Result<Vec<Summary>> {
    let mut all = Vec::new();
    for service in shop::SERVICES {
        for http in [Http::H1, Http::H2] {
            all.push(shop::run(site, service, http, requests)?);
        }
    }
    Ok(all)
}

/// With a way back to the default route (aggregate clusters), and without.
#[test]
fn sidecars_put_every_request_on_its_link() -> Result<()> {
    for extra in ["", "  onLinksDown: Refuse\n"] {
        Site::builder("sidecar").sidecars().run(|site| {
            open(site, extra, |_| true)?;
            for summary in everywhere(site, 1000)? {
                ensure!(summary.clean() && summary.requests == 1000, "{extra:?}: {summary:#?}");
            }
            // What arrived by s9 is explained so, and a folder is judged as the agent runs.
            let words =
                ["explain", "--pod", "shop/client-0", "--host", "h1v4.shop:8001", "--header", "user=minions"];
            let root = site.path("");
            let text = ctl(&root, &words)?;
            ensure!(text.contains("Link      s9") && text.contains("open connection"), "{text}");
            Ok(())
        })?;
    }
    Ok(())
}

/// The control. A user's later rule hides the class subsets: what was steered takes the default route, and no
/// request fails; of mappings that would rather refuse, each one fails.
#[test]
fn hidden_subsets_cost_the_link_or_the_request_as_the_mapping_says() -> Result<()> {
    for (extra, refuses) in [("", false), ("  onLinksDown: Refuse\n", true)] {
        Site::builder("sidecar-hidden").sidecars().run(|site| {
            open(site, extra, |object| object.kind != IstioKind::DestinationRule)?;
            for summary in everywhere(site, 300)? {
                for row in &summary.callers {
                    let steered = ["boss", "minions", "crew"].contains(&row.name.as_str());
                    let wrong =
                        if ["minions", "crew"].contains(&row.name.as_str()) && !refuses { 50 } else { 0 };
                    let errors = if steered && refuses { 50 } else { 0 };
                    ensure!((row.wrong, row.errors) == (wrong, errors), "{}: {summary:#?}", row.name);
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}
