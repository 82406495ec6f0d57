//! What is wrong with an installation, or would be.

use super::agents::Agents;
use super::cli::FleetCli;
use crate::outcome::{Code, CtlError};
use crate::output::format;
use crate::table::{counted, table};
use clovisor_objects::wan_link::WanLink;
use clovisor_objects::wan_mapping::WanMapping;
use clovisor_render::api::Status;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, PostParams};
use serde::Serialize;

/// Kernels below lack what the programs need.
const KERNEL: (u32, u32) = (5, 10);
/// A Lease that was not renewed for so long has no holder.
const LEASE_SECONDS: i64 = 30;

/// One look.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    check: String,
    ok: bool,
    what: String,
    /// What to do; empty where nothing is.
    fix: String,
}

fn good(check: &str, what: impl Into<String>) -> Finding {
    Finding { check: check.into(), ok: true, what: what.into(), fix: String::new() }
}

fn bad(check: &str, what: impl Into<String>, fix: &str) -> Finding {
    Finding { check: check.into(), ok: false, what: what.into(), fix: fix.into() }
}

/// Every check; an error with code 79 if one failed.
pub(super) async fn run(cli: &FleetCli, agents: &Agents, pre: bool) -> Result<String, CtlError> {
    let found = if pre { before(agents).await? } else { after(agents).await? };
    let failed = found.iter().filter(|f| !f.ok).count();
    let text = format(cli.output, &found, || {
        let row = |f: &Finding| {
            let mark = if f.ok { "ok" } else { "FAILED" };
            vec![mark.to_owned(), f.check.clone(), f.what.clone(), f.fix.clone()]
        };
        table(&["", "CHECK", "FOUND", "FIX"], &found.iter().map(row).collect::<Vec<_>>())
    })?;
    if failed == 0 {
        return Ok(text);
    }
    print!("{text}");
    let message = format!("{failed} of {} failed", counted(found.len(), "check"));
    Err(CtlError { code: Code::ProblemsFound, message, fix: None })
}

/// Nodes and rights.
async fn before(agents: &Agents) -> Result<Vec<Finding>, CtlError> {
    let mut found = kernels(agents).await?;
    for (group, resource, verb) in [
        ("apiextensions.k8s.io", "customresourcedefinitions", "create"),
        ("rbac.authorization.k8s.io", "clusterroles", "create"),
        ("apps", "daemonsets", "create"),
    ] {
        let check = format!("may you {verb} {resource}");
        found.push(if may(agents, group, resource, verb).await? {
            good(&check, "yes")
        } else {
            bad(&check, "no", "install with an account that may, e.g. a cluster-admin")
        });
    }
    let mesh = crd(agents, "virtualservices.networking.istio.io").await?;
    let gateway = crd(agents, "httproutes.gateway.networking.k8s.io").await?;
    found.push(if mesh || gateway {
        good("kinds of routes", if mesh { "Istio's are installed" } else { "HTTPRoute is installed" })
    } else {
        bad(
            "kinds of routes",
            "neither VirtualService nor HTTPRoute",
            "install the CRDs of Istio or of the Gateway API",
        )
    });
    Ok(found)
}

async fn kernels(agents: &Agents) -> Result<Vec<Finding>, CtlError> {
    let nodes: Api<Node> = Api::all(agents.client.clone());
    let list = nodes.list(&ListParams::default()).await.map_err(|e| agents.refused(&e))?;
    let one = |node: &Node| {
        let info = node.status.as_ref().and_then(|s| s.node_info.as_ref());
        let release = info.map(|i| i.kernel_version.clone()).unwrap_or_default();
        let check = format!("kernel of node {}", node.name_any());
        if version(&release).is_some_and(|v| v >= KERNEL) {
            good(&check, release)
        } else {
            bad(
                &check,
                release,
                "Clovisor needs 5.10 or newer: keep it off this node by a nodeSelector, or upgrade",
            )
        }
    };
    Ok(list.iter().map(one).collect())
}

/// `6.1.0-13-amd64`
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

async fn may(agents: &Agents, group: &str, resource: &str, verb: &str) -> Result<bool, CtlError> {
    let attributes = ResourceAttributes {
        group: Some(group.into()),
        resource: Some(resource.into()),
        verb: Some(verb.into()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let api: Api<SelfSubjectAccessReview> = Api::all(agents.client.clone());
    let answer = api.create(&PostParams::default(), &review).await.map_err(|e| agents.refused(&e))?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

async fn crd(agents: &Agents, name: &str) -> Result<bool, CtlError> {
    let api: Api<CustomResourceDefinition> = Api::all(agents.client.clone());
    Ok(api.get_opt(name).await.map_err(|e| agents.refused(&e))?.is_some())
}

/// An installation at work.
async fn after(agents: &Agents) -> Result<Vec<Finding>, CtlError> {
    let mut found = Vec::new();
    for name in ["wanlinks", "wanmappings", "wannodes"] {
        let check = format!("kind {name}");
        found.push(if crd(agents, &format!("{name}.clovisor.io")).await? {
            good(&check, "installed")
        } else {
            bad(&check, "not installed", "clovisorctl crds | kubectl apply --server-side -f -")
        });
    }
    if found.iter().any(|f| !f.ok) {
        return Ok(found);
    }
    found.push(daemon_set(agents).await?);
    found.push(lease(agents).await?);
    found.extend(nodes(agents).await);
    let links: Api<WanLink> = Api::all(agents.client.clone());
    for link in links.list(&ListParams::default()).await.map_err(|e| agents.refused(&e))? {
        let conditions = link.status.as_ref().map_or(&[][..], |s| &s.conditions);
        found.push(ready(
            &format!("WanLink {}", link.name_any()),
            conditions,
            "see `kubectl clovisor links`",
        ));
    }
    let mappings: Api<WanMapping> = Api::all(agents.client.clone());
    for mapping in mappings.list(&ListParams::default()).await.map_err(|e| agents.refused(&e))? {
        let name = format!("WanMapping {}/{}", mapping.namespace().unwrap_or_default(), mapping.name_any());
        let conditions = mapping.status.as_ref().map_or(&[][..], |s| &s.conditions);
        found.push(ready(&name, conditions, "the message says what to change"));
    }
    Ok(found)
}

async fn daemon_set(agents: &Agents) -> Result<Finding, CtlError> {
    let api: Api<DaemonSet> = Api::namespaced(agents.client.clone(), &agents.namespace);
    let check = "agents";
    let Some(set) = api.get_opt("clovisor-agent").await.map_err(|e| agents.refused(&e))? else {
        return Ok(bad(check, "no DaemonSet clovisor-agent", "kubectl apply --server-side -k deploy/agent"));
    };
    let status = set.status.unwrap_or_default();
    let what = format!("{} of {} ready", status.number_ready, status.desired_number_scheduled);
    let fix = "kubectl describe pods and their logs say why";
    let all = status.number_ready == status.desired_number_scheduled;
    Ok(if all { good(check, what) } else { bad(check, what, fix) })
}

async fn lease(agents: &Agents) -> Result<Finding, CtlError> {
    let api: Api<Lease> = Api::namespaced(agents.client.clone(), &agents.namespace);
    let lease = api.get_opt("clovisor-controller").await.map_err(|e| agents.refused(&e))?;
    let spec = lease.and_then(|lease| lease.spec).unwrap_or_default();
    let age = spec.renew_time.map(|time| jiff::Timestamp::now().duration_since(time.0).as_secs());
    let holder = spec.holder_identity.unwrap_or_default();
    Ok(match age.filter(|age| *age < LEASE_SECONDS && !holder.is_empty()) {
        Some(_) => good("controller", format!("{holder} holds the Lease")),
        None => bad(
            "controller",
            "no controller holds the Lease; steering continues, new mappings get no class numbers",
            "see the Deployment clovisor-controller and its log",
        ),
    })
}

/// The agents' own reports.
async fn nodes(agents: &Agents) -> Vec<Finding> {
    let Ok(answers) = agents.ask::<Status>(&["status", "-o", "json"]).await else { return Vec::new() };
    let one = |(node, status): (String, Status)| {
        let check = format!("agent of node {node}");
        if let Some(since) = &status.stale_since {
            return bad(
                &check,
                format!("has not heard the API server since {since}"),
                "see its log; it steers by saved objects",
            );
        }
        match status.problems.first() {
            None if status.ready => {
                good(&check, counted(usize::try_from(status.sessions).unwrap_or(usize::MAX), "session"))
            }
            None => bad(&check, format!("waiting for {}", status.waiting_for.join(", ")), "see its log"),
            Some(p) => bad(&check, format!("{} {}: {}", p.kind, p.object, p.reason), &p.message),
        }
    };
    let silent = answers.failed.into_iter().map(|(node, why)| {
        bad(&format!("agent of node {node}"), why, "may you create pods/exec? does the pod run?")
    });
    answers.got.into_iter().map(one).chain(silent).collect()
}

fn ready(check: &str, conditions: &[Condition], fix: &str) -> Finding {
    match conditions.iter().find(|c| c.type_ == "Ready") {
        Some(c) if c.status == "True" => good(check, c.reason.clone()),
        Some(c) => bad(check, format!("{}: {}", c.reason, c.message), fix),
        None => bad(check, "no status yet", "does the controller run?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_kernels() {
        assert_eq!(version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(version("5.10-rc1"), Some((5, 10)));
        assert_eq!(version("unknown"), None);
        assert!(version("5.4.0").is_some_and(|v| v < KERNEL));
    }
}
