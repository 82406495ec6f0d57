//! Steering by the objects of a cluster, with and without its API server.

use crate::kubernetes::{agents_kubeconfig, report_pods, start, status};
use anyhow::{Result, ensure};
use harness::load::{Caller, Http, Load};
use harness::objects;
use harness::site::{APP_PORT, Site};
use harness::summary::{Summary, summarize};

const HOST: &str = "reviews.shop.svc.cluster.local";

fn callers(minions: &str) -> Vec<Caller> {
    vec![Caller::user("boss", "s8"), Caller::user("minions", minions)]
}

fn exact(site: &Site, minions: &str) -> Result<Summary> {
    let callers = callers(minions);
    let load = Load::new(Site::service(false, 8001), HOST, callers.clone()).over(Http::H2).requests(300);
    let summary = summarize(&callers, &load.run(&site.pods[0].netns)?);
    ensure!(summary.clean() && summary.requests == 300, "{summary:#?}");
    Ok(summary)
}

/// kubectl apply steers; the server goes and the agent is restarted meanwhile: nothing changes; it comes back with
/// a change: the change is in force.
#[test]
fn a_cluster_steers_and_may_be_away() -> Result<()> {
    Site::builder("cluster").run(|site| {
        let mut api = start(site)?;
        site.use_kubernetes(agents_kubeconfig(&api));
        site.start_agent()?;
        api.apply(&(objects::link("s8", "") + &objects::link("s9", "")))?;
        api.apply(&objects::service(HOST, 8001, "HTTP", Site::service(false, APP_PORT)))?;
        api.apply(&objects::routes(HOST, &["boss", "minions"]))?;
        let mapped = |minions: &[&str]| {
            objects::mapping(&[HOST], "boss", &["s8", "s9"], "")
                + &objects::mapping(&[HOST], "minions", minions, "")
        };
        api.apply(&mapped(&["s9", "s8"]))?;
        report_pods(&api, site)?;
        // The kinds are heard separately: both classes and both links must be there.
        let classes = |s: &serde_json::Value| {
            let maps = s["maps"].as_array().into_iter().flatten();
            maps.filter(|map| map["map"] == "CLASSES").any(|map| map["entries"] == 2)
        };
        let is_set_up = |s: &serde_json::Value| {
            s["pods"][0]["device"].is_string()
                && s["proxiesCurrent"] == true
                && classes(s)
                && s["linksUp"] == 2
        };
        status(site, "the pod is found and its proxy has a policy", is_set_up)?;
        site.start_proxy(0)?;
        exact(site, "s9")?;

        api.kill()?;
        exact(site, "s9")?;
        site.kill_agent()?;
        exact(site, "s9")?;
        let begin = std::time::Instant::now();
        site.start_agent()?;
        ensure!(begin.elapsed().as_secs() < 10, "an agent without its server took {:?}", begin.elapsed());
        status(site, "it knows that it steers by old objects", |s| s["staleSince"].is_string())?;
        exact(site, "s9")?;

        api.restart(&site.path(""))?;
        status(site, "the server is heard again", |s| s["staleSince"].is_null())?;
        let before = site.agent()?.json("/v1/status")?["policyGeneration"].as_u64();
        api.apply(&mapped(&["s8", "s9"]))?;
        let is_changed =
            |s: &serde_json::Value| s["policyGeneration"].as_u64() > before && s["proxiesCurrent"] == true;
        status(site, "the change is in force", is_changed)?;
        // Connections stay where they are while their link is up; new ones follow the change.
        site.stop_proxy(0)?;
        site.start_proxy(0)?;
        exact(site, "s8")?;
        Ok(())
    })
}
