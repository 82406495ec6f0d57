//! One request from the route to the link, and to the map entries that implement the decision.

use super::api::{
    ApiError, ExplainRequest, Explanation, FamilyLink, FamilyVerdict, LinkVerdict, OpenConnections,
    RouteVerdict,
};
use clovisor_objects::family::{IpFamily, PerFamily};
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::near::{nearest, remedy};
use clovisor_objects::wan_mapping::Fallback;
use clovisor_policy::explain::explain as trace;
use clovisor_policy::local::LocalNets;
use clovisor_policy::matcher::Request;
use clovisor_policy::model::{Class, HOST_NETWORK, NamespacePolicy, Policy, Service};
use clovisor_policy::packet::{packet, target};
use clovisor_policy::trace::{Trace, TraceStep};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// State of a node. Without it, as for a folder of YAML, links are `Unknown` and no map entry is named.
pub trait NodeView {
    /// State of a link towards the pods of a namespace.
    fn link(&self, name: &str, namespace: &str) -> LinkView;

    /// Open connections of a class of a zone from these addresses of a pod, by link. `chosen`: where new ones go.
    fn connections(
        &self,
        addresses: &BTreeSet<IpAddr>,
        zone: u16,
        class: &Class,
        chosen: PerFamily<Option<&str>>,
    ) -> Vec<OpenConnections>;

    /// Why an address is local, by these objects or by the node's own network; none: it is not.
    fn local(&self, address: IpAddr, objects: &LocalNets) -> Option<String>;

    /// Why nothing of the pod is steered; none: it is.
    fn obstacle(&self, pod: &ObjectKey) -> Option<String>;

    /// Map entries that implement a class of a zone, from the class to the device.
    fn entries(&self, zone: u16, class: &Class) -> Vec<String>;
}

/// State of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    /// `Up`, `Partial`, `Down`, `Missing` or `Unknown`.
    pub state: &'static str,
    /// Why the link takes no new connections of the family; none: it does.
    pub rejection: PerFamily<Option<String>>,
    /// The link neither has the family nor should have it.
    pub unused: PerFamily<bool>,
}

/// Explains a request.
///
/// # Errors
/// The pod, or the host that it asks for, is not known.
pub fn explain(
    policy: &Policy,
    request: &ExplainRequest,
    node: Option<&dyn NodeView>,
) -> Result<Explanation, ApiError> {
    let key = ObjectKey { namespace: request.namespace.clone(), name: request.pod.clone() };
    let Some(pod) = policy.pods.get(&key) else {
        let known: Vec<_> = policy.pods.keys().map(ToString::to_string).collect();
        return Err(unknown_pod(&key, &known));
    };
    if request.protocol.is_some() && target(&request.host).is_none() {
        let error = format!("{} is no address; packets are governed by address", request.host);
        return Err(ApiError {
            error,
            fix: Some("write --host 203.0.113.10:5060, or leave out --protocol".into()),
        });
    }
    let names: Vec<_> = request.headers.iter().map(|(n, v)| (n.to_ascii_lowercase(), v)).collect();
    let headers: Vec<_> = names.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
    let asked =
        Request { method: &request.method, authority: &request.host, path: &request.path, headers: &headers };
    let local = |address| match node {
        Some(node) => node.local(address, &policy.local),
        None => policy.local.reason(address).map(str::to_owned),
    };
    let trace = match request.protocol {
        Some(protocol) => packet(policy, &key, &pod.labels, &request.host, protocol, local),
        None => trace(policy, &key, &pod.labels, &asked),
    };
    let ns = policy.namespaces.get(&key.namespace);
    if request.protocol.is_none() && trace.service.is_none() {
        return Err(unknown_host(&trace.reason, &request.host, ns));
    }
    let class = trace.class.and_then(|id| ns?.classes.get(&id));
    let by_object = pod.host_network.then(|| format!("the pod {HOST_NETWORK}"));
    if let Some(obstacle) = by_object.or_else(|| node?.obstacle(&key)).filter(|_| class.is_some()) {
        let mut unsteered = answer(&trace, class, Vec::new());
        unsteered.link = "default route".into();
        unsteered.reason = format!("{}; but {obstacle}", trace.reason);
        return Ok(unsteered);
    }
    let links = class.map(|class| links(class, &key.namespace, &trace.families, node)).unwrap_or_default();
    let zone = ns.map_or(0, |ns| ns.zone);
    let takes = |family| links.iter().find(|link| takes(link, family)).map(|link| link.name.as_str());
    let chosen = PerFamily::each(takes);
    let (entries, connections) = match (class, node) {
        (Some(class), Some(node)) => {
            let open = node.connections(&pod.addresses, zone, class, chosen);
            (node.entries(zone, class), open)
        }
        _ => Default::default(),
    };
    Ok(Explanation { entries, connections, ..answer(&trace, class, links) })
}

/// `reason`: what happens to requests to such a host.
fn unknown_host(reason: &str, host: &str, ns: Option<&NamespacePolicy>) -> ApiError {
    let services = || ns.into_iter().flat_map(|ns| &ns.services);
    let named = |name: &str, service: &Service| {
        service.host == name || service.aliases.iter().any(|alias| alias == name)
    };
    let (bare, port) = host.rsplit_once(':').map_or((host, ""), |(name, port)| (name, port));
    let names = services().flat_map(|service| std::iter::once(&service.host).chain(&service.aliases));
    let fix = match nearest(bare, names.map(String::as_str)) {
        Some(near) => {
            let ports = || services().filter(|service| named(near, service)).map(|service| service.port);
            let port = ports().find(|known| known.to_string() == port).or_else(|| ports().next());
            format!("did you mean {near}:{}?", port.unwrap_or_default())
        }
        None if services().next().is_none() => "the pod's namespace has no service that is known".to_owned(),
        None => {
            let all: Vec<_> =
                services().map(|service| format!("{}:{}", service.host, service.port)).collect();
            remedy(host, all.iter().map(String::as_str))
        }
    };
    ApiError { error: reason.to_owned(), fix: Some(fix) }
}

fn unknown_pod(key: &ObjectKey, known: &[String]) -> ApiError {
    let wanted = key.to_string();
    let elsewhere = known.iter().find(|name| name.ends_with(&format!("/{}", key.name)));
    let near = elsewhere.map(String::as_str).or_else(|| nearest(&wanted, known.iter().map(String::as_str)));
    let fix = match near {
        Some(near) => format!("did you mean --pod {near}?"),
        None if known.is_empty() => "no pod is known; is there a Pod object with addresses?".to_owned(),
        None => remedy(&wanted, known.iter().map(String::as_str)),
    };
    ApiError { error: format!("pod {wanted} is not known on this node"), fix: Some(fix) }
}

fn answer(trace: &Trace, class: Option<&Class>, links: Vec<LinkVerdict>) -> Explanation {
    let down = class.map(|class| class.on_links_down);
    let link_by_family = by_family(&links, down);
    let link = match link_by_family.as_slice() {
        [] if trace.local => "local".into(),
        [] => "default route".into(),
        [one, others @ ..] if others.iter().all(|other| other.link == one.link) => one.link.clone(),
        all => all.iter().map(|one| format!("{}: {}", one.family, one.link)).collect::<Vec<_>>().join(", "),
    };
    let without = link_by_family.iter().filter(|one| !links.iter().any(|link| link.name == one.link));
    let without: Vec<_> = without.map(|one| one.family.name()).collect();
    let reason = match down {
        Some(down) if !without.is_empty() => {
            let part = if without.len() == link_by_family.len() {
                ""
            } else {
                &format!(" for {}", without.join(" and "))
            };
            format!("{}; none of its links is usable{part}, onLinksDown: {down}", trace.reason)
        }
        _ => trace.reason.clone(),
    };
    Explanation {
        service: trace.service.clone(),
        routes: trace.routes.iter().map(verdict).collect(),
        rules: trace.rules.iter().map(verdict).collect(),
        mapping: trace.mapping.clone(),
        class: trace.class.map(|c| c.0),
        class_name: class.map(|c| c.key.to_string()),
        links,
        link,
        link_by_family,
        reason,
        connections: Vec::new(),
        entries: Vec::new(),
    }
}

fn verdict(step: &TraceStep) -> RouteVerdict {
    RouteVerdict { name: step.name.clone(), taken: step.taken, reason: step.reason.clone() }
}

/// The link takes connections of the family.
fn takes(link: &LinkVerdict, family: IpFamily) -> bool {
    link.families.iter().any(|verdict| verdict.chosen && verdict.family == family)
}

/// The link of each family, or what happens without one.
fn by_family(links: &[LinkVerdict], down: Option<Fallback>) -> Vec<FamilyLink> {
    let families = links.first().into_iter().flat_map(|link| &link.families).map(|verdict| verdict.family);
    let one = |family| {
        let chosen = links.iter().find(|link| takes(link, family)).map(|link| link.name.clone());
        let without = if down == Some(Fallback::Refuse) { "refused" } else { "default route" };
        FamilyLink { family, link: chosen.unwrap_or_else(|| without.into()) }
    };
    families.map(one).collect()
}

/// The candidates, for the families of the destination.
fn links(
    class: &Class,
    namespace: &str,
    families: &BTreeSet<IpFamily>,
    node: Option<&dyn NodeView>,
) -> Vec<LinkVerdict> {
    let unknown =
        LinkView { state: "Unknown", rejection: PerFamily::default(), unused: PerFamily::default() };
    let view = |name: &String| node.map_or_else(|| unknown.clone(), |node| node.link(name, namespace));
    let views: Vec<_> = class.links.iter().map(|name| (name, view(name))).collect();
    let used = |family: &IpFamily| views.iter().any(|(_, view)| !view.unused.of(*family));
    let mut shown: BTreeSet<_> = match families.is_empty() {
        true => IpFamily::BOTH.into_iter().filter(used).collect(),
        false => families.clone(),
    };
    if shown.is_empty() {
        shown.extend(IpFamily::BOTH);
    }
    let mut taken = BTreeSet::new();
    let mut verdict = |(name, view): &(&String, LinkView)| {
        let mut one = |family: &IpFamily| {
            let rejection = view.rejection.of(*family).clone();
            let chosen = rejection.is_none() && taken.insert(*family);
            let without = if chosen { "first usable link of the list" } else { "an earlier link is usable" };
            FamilyVerdict { family: *family, chosen, reason: rejection.unwrap_or_else(|| without.into()) }
        };
        let families: Vec<_> = shown.iter().map(&mut one).collect();
        let chosen = families.iter().any(|verdict| verdict.chosen);
        LinkVerdict {
            name: (*name).clone(),
            state: view.state.into(),
            chosen,
            reason: said(&families),
            families,
        }
    };
    views.iter().map(&mut verdict).collect()
}

/// One reason where the families agree, else that of each.
fn said(verdicts: &[FamilyVerdict]) -> String {
    match verdicts {
        [one, others @ ..] if others.iter().all(|other| other.reason == one.reason) => one.reason.clone(),
        all => all.iter().map(|one| format!("{}: {}", one.family, one.reason)).collect::<Vec<_>>().join("; "),
    }
}
