//! One request from the route to the link, and to the map entries that implement the decision.

use super::api::{ApiError, ExplainRequest, Explanation, LinkVerdict, OpenConnections, RouteVerdict};
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::wan_mapping::Fallback;
use clovisor_policy::explain::explain as trace;
use clovisor_policy::matcher::Request;
use clovisor_policy::model::{Class, HOST_NETWORK, Policy};
use clovisor_policy::packet::packet;
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
        chosen: Option<&str>,
    ) -> Vec<OpenConnections>;

    /// Why nothing of the pod is steered; none: it is.
    fn obstacle(&self, pod: &ObjectKey) -> Option<String>;

    /// Map entries that implement a class of a zone, from the class to the device.
    fn entries(&self, zone: u16, class: &Class) -> Vec<String>;
}

/// State of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    /// `Up`, `Down`, `Missing` or `Unknown`.
    pub state: &'static str,
    /// Why the link takes no new connections; none: it does.
    pub rejection: Option<String>,
}

/// Explains a request.
///
/// # Errors
/// The pod is not known.
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
    let names: Vec<_> = request.headers.iter().map(|(n, v)| (n.to_ascii_lowercase(), v)).collect();
    let headers: Vec<_> = names.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
    let asked =
        Request { method: &request.method, authority: &request.host, path: &request.path, headers: &headers };
    let trace = match request.protocol {
        Some(protocol) => packet(policy, &key, &pod.labels, &request.host, protocol),
        None => trace(policy, &key, &pod.labels, &asked),
    };
    let ns = policy.namespaces.get(&key.namespace);
    let class = trace.class.and_then(|id| ns?.classes.get(&id));
    let by_object = pod.host_network.then(|| format!("the pod {HOST_NETWORK}"));
    if let Some(obstacle) = by_object.or_else(|| node?.obstacle(&key)).filter(|_| class.is_some()) {
        let mut unsteered = answer(&trace, class, Vec::new());
        unsteered.link = "default route".into();
        unsteered.reason = format!("{}; but {obstacle}", trace.reason);
        return Ok(unsteered);
    }
    let links = class.map(|class| links(class, &key.namespace, node)).unwrap_or_default();
    let zone = ns.map_or(0, |ns| ns.zone);
    let chosen = links.iter().find(|l| l.chosen).map(|l| l.name.clone());
    let (entries, connections) = match (class, node) {
        (Some(class), Some(node)) => {
            let open = node.connections(&pod.addresses, zone, class, chosen.as_deref());
            (node.entries(zone, class), open)
        }
        _ => Default::default(),
    };
    Ok(Explanation { entries, connections, ..answer(&trace, class, links) })
}

fn unknown_pod(key: &ObjectKey, known: &[String]) -> ApiError {
    let wanted = key.to_string();
    let near = known.iter().find(|name| name.ends_with(&format!("/{}", key.name)));
    let fix = match near {
        Some(near) => format!("did you mean --pod {near}?"),
        None if known.is_empty() => "no pod is known; is there a Pod object with addresses?".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    };
    ApiError { error: format!("pod {wanted} is not known on this node"), fix: Some(fix) }
}

fn answer(trace: &Trace, class: Option<&Class>, links: Vec<LinkVerdict>) -> Explanation {
    let chosen = links.iter().find(|l| l.chosen).map(|l| l.name.clone());
    let link = match (&chosen, class) {
        (Some(link), _) => link.clone(),
        (None, Some(class)) if class.on_links_down == Fallback::Refuse => "refused".into(),
        (None, _) => "default route".into(),
    };
    let reason = match (&chosen, class) {
        (None, Some(class)) => {
            format!("{}; none of its links is usable, onLinksDown: {}", trace.reason, class.on_links_down)
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
        reason,
        connections: Vec::new(),
        entries: Vec::new(),
    }
}

fn verdict(step: &TraceStep) -> RouteVerdict {
    RouteVerdict { name: step.name.clone(), taken: step.taken, reason: step.reason.clone() }
}

fn links(class: &Class, namespace: &str, node: Option<&dyn NodeView>) -> Vec<LinkVerdict> {
    let mut free = true;
    let verdict = |name: &String| {
        let unknown = LinkView { state: "Unknown", rejection: None };
        let LinkView { state, rejection } = node.map_or(unknown, |node| node.link(name, namespace));
        let chosen = free && rejection.is_none();
        free &= !chosen;
        let reason = match rejection {
            Some(reason) => reason,
            None if chosen => "first usable link of the list".into(),
            None => "an earlier link is usable".into(),
        };
        LinkVerdict { name: name.clone(), state: state.into(), chosen, reason }
    };
    class.links.iter().map(verdict).collect()
}
