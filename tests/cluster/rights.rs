//! The agent's role is enough, and nothing of it is too much.

use crate::kubernetes::{agents_kubeconfig, start, status};
use anyhow::{Context, Result, ensure};
use harness::apiserver::User;
use harness::eventually::eventually;
use harness::site::Site;
use serde_json::{Value, json};
use std::time::Duration;

/// The agent's role without a verb: of every resource, or of one.
fn without(role: &Value, verb: &str) -> Value {
    let mut less = role.clone();
    for rule in less["rules"].as_array_mut().into_iter().flatten() {
        if let Some(verbs) = rule["verbs"].as_array_mut() {
            verbs.retain(|v| v != verb);
        }
    }
    less["rules"] =
        less["rules"].as_array().into_iter().flatten().filter(|r| r["verbs"] != json!([])).cloned().collect();
    less
}

/// Every resource that the role gives the verb for.
fn resources(role: &Value, verb: &str) -> Vec<String> {
    let rules = role["rules"].as_array().into_iter().flatten();
    let having = rules.filter(|r| r["verbs"].as_array().is_some_and(|verbs| verbs.iter().any(|v| v == verb)));
    having
        .flat_map(|r| r["resources"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Each verb taken away is named, with each of its resources, in the status or in the log; with all given back
/// nothing is left to complain of.
#[test]
fn a_missing_right_is_named() -> Result<()> {
    Site::builder("rights").sidecars().run(|site| {
        let api = start(site)?;
        site.use_kubernetes(agents_kubeconfig(&api));
        site.start_agent()?;
        let is_well = |s: &Value| s["problems"].as_array().is_some_and(Vec::is_empty);
        status(site, "no problem with the whole role", is_well)?;
        let text = api.kubectl(User::Admin, &["get", "clusterrole", "clovisor-agent", "-o", "json"], None)?;
        let mut role: Value = serde_json::from_str(&text).context("not JSON")?;
        role["metadata"] = json!({ "name": "clovisor-agent" });
        for verb in ["list", "watch", "get", "create", "patch"] {
            api.apply(&without(&role, verb).to_string())?;
            site.stop_agent()?;
            std::fs::write(site.path("logs/agent.log"), "").context("cannot empty the log")?;
            // Without saved objects nothing could be concluded, and the agent would wait.
            site.start_agent()?;
            for resource in resources(&role, verb) {
                // Events are written when a link comes or goes.
                if resource == "events" || (resource == "httproutes" && verb != "list") {
                    continue;
                }
                // A patch of what does not exist is a creation.
                let (verb, resource) = match (verb, resource.as_str()) {
                    ("create", "wannodes") => continue,
                    (verb, resource) => (verb, resource),
                };
                // The status is written after the object: that is refused first.
                let resource = resource.strip_suffix("/status").unwrap_or(resource);
                let named = format!("cannot {verb} resource \"{resource}\"");
                said(site, &named)?;
            }
            api.apply(&role.to_string())?;
        }
        status(site, "no problem again", is_well)?;
        let denied = api
            .kubectl(User::Agent, &["get", "secrets", "-A"], None)
            .err()
            .context("secrets are readable")?;
        ensure!(denied.to_string().contains("cannot list resource \"secrets\""), "{denied:#}");
        Ok(())
    })
}

/// Waits until status or log have these words.
fn said(site: &mut Site, words: &str) -> Result<()> {
    eventually(words, Duration::from_secs(40), || {
        let status = site.agent()?.json("/v1/status")?.to_string();
        let log = std::fs::read_to_string(site.path("logs/agent.log")).context("no log")?;
        ensure!((status + &log).replace('\\', "").contains(words), "neither status nor log say so");
        Ok(())
    })
}
