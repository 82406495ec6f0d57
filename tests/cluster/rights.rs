//! The agent's role is enough, and nothing of it is too much.

use crate::kubernetes::{agents_kubeconfig, file, start, status};
use anyhow::{Context, Result, ensure};
use harness::apiserver::User;
use harness::site::Site;

/// Each verb taken away in turn is named, with its resource; given back, nothing is left to complain of.
#[test]
fn a_missing_right_is_named() -> Result<()> {
    Site::builder("rights").run(|site| {
        let api = start(site)?;
        site.use_kubernetes(agents_kubeconfig(&api));
        site.start_agent()?;
        status(site, "no problem with the whole role", |s| {
            s["problems"].as_array().is_some_and(Vec::is_empty)
        })?;
        let role = file("deploy/agent/rbac.yaml")?;
        for resource in
            ["wanlinks", "wanmappings", "virtualservices", "destinationrules", "serviceentries", "pods"]
        {
            let less = role.replace(&format!("{resource}, "), "").replace(&format!(", {resource}]"), "]");
            let less = less.replace("resources: [pods]", "resources: [nothing]");
            ensure!(less != role, "{resource} is not in the role");
            let cut = less.replace("[virtualservices, destinationrules, serviceentries]", "[nothing]");
            api.apply(&cut)?;
            site.stop_agent()?;
            // Without saved objects nothing could be concluded, and the agent would wait.
            site.start_agent()?;
            let named = format!("cannot list resource \"{resource}\"");
            status(site, &named, |s| s["problems"].to_string().replace('\\', "").contains(&named))?;
            api.apply(&role)?;
        }
        status(site, "no problem again", |s| s["problems"].as_array().is_some_and(Vec::is_empty))?;
        let denied = api
            .kubectl(User::Agent, &["get", "secrets", "-A"], None)
            .err()
            .context("secrets are readable")?;
        ensure!(denied.to_string().contains("cannot list resource \"secrets\""), "{denied:#}");
        Ok(())
    })
}
