//! One request from the route to the map entries that implement its decision.

use super::api::{ApiError, ExplainRequest, Explanation, LinkVerdict, RouteVerdict};
use crate::cluster::identity::ObjectKey;
use crate::cluster::wan_mapping::Fallback;
use crate::kernel::image::Image;
use crate::link::choose::rejection;
use crate::link::table::{Health, LinkTable};
use crate::policy::explain::explain as trace;
use crate::policy::matcher::Request;
use crate::policy::model::{Class, Policy};
use crate::policy::packet::packet;
use crate::policy::trace::{Trace, TraceStep};
use clovisor_common::abi::{ClassKey, NO_LINK, dscp_of_class};
use std::collections::BTreeMap;

/// What is known of this node; nothing when a folder is explained without an agent.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    pub links: &'a LinkTable,
    pub image: &'a Image,
    /// Names of devices by ifindex.
    pub devices: &'a BTreeMap<u32, String>,
}

/// Explains a request.
///
/// # Errors
/// The pod is not known.
pub fn explain(
    policy: &Policy,
    request: &ExplainRequest,
    node: Option<Node<'_>>,
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
    let own = policy.namespaces.get(&key.namespace);
    let class = trace.class.and_then(|id| own?.classes.get(&id));
    let links = class.map(|class| links(class, &key.namespace, node)).unwrap_or_default();
    let zone = own.map_or(0, |own| own.zone);
    let entries = match (class, node) {
        (Some(class), Some(node)) => entries(zone, class, node),
        _ => Vec::new(),
    };
    Ok(answer(&trace, class, links, entries))
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

fn answer(
    trace: &Trace,
    class: Option<&Class>,
    links: Vec<LinkVerdict>,
    entries: Vec<String>,
) -> Explanation {
    let chosen = links.iter().find(|l| l.chosen).map(|l| l.name.clone());
    let link = match (&chosen, class) {
        (Some(link), _) => link.clone(),
        (None, Some(class)) if class.on_links_down == Fallback::Refuse => "refused".into(),
        (None, _) => "default route".into(),
    };
    let reason = match (&chosen, class) {
        (None, Some(class)) => {
            format!("{}; none of its links is usable, onLinksDown: {:?}", trace.reason, class.on_links_down)
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
        entries,
    }
}

fn verdict(step: &TraceStep) -> RouteVerdict {
    RouteVerdict { name: step.name.clone(), taken: step.taken, reason: step.reason.clone() }
}

fn links(class: &Class, namespace: &str, node: Option<Node<'_>>) -> Vec<LinkVerdict> {
    let mut free = true;
    let judge = |name: &String| {
        let (state, against) = match node.map(|n| n.links.links.get(name)) {
            None => ("Unknown", None),
            Some(None) => ("Missing", Some("there is no such WanLink".to_owned())),
            Some(Some(link)) => {
                let state = if link.health == Health::Up { "Up" } else { "Down" };
                (state, rejection(link, namespace))
            }
        };
        let chosen = free && against.is_none();
        free &= !chosen;
        let reason = match against {
            Some(reason) => reason,
            None if chosen => "first usable link of the list".into(),
            None => "an earlier link is usable".into(),
        };
        LinkVerdict { name: name.clone(), state: state.into(), chosen, reason }
    };
    class.links.iter().map(judge).collect()
}

/// The entries as they are written, from the class to the device.
fn entries(zone: u16, class: &Class, node: Node<'_>) -> Vec<String> {
    let id = class.id.0;
    let key = ClassKey { zone, class: id, pad: 0 };
    let Some(index) = node.image.classes.get(&key) else {
        return vec![format!("CLASSES {{zone {zone}, class {id}}}: not written yet")];
    };
    let mut entries =
        vec![format!("CLASSES {{zone {zone}, class {id} = DSCP {}}} -> slot {index}", dscp_of_class(id))];
    let Some(slot) = node.image.slots.get(index) else {
        return entries;
    };
    if slot.link == NO_LINK {
        entries.push(format!("SLOTS [{index}] -> no link, flags {:#x}", slot.flags));
        return entries;
    }
    entries.push(format!(
        "SLOTS [{index}] -> link {}, flags {:#x}, wire DSCP {}",
        slot.link, slot.flags, slot.wire_dscp
    ));
    if let Some(link) = node.image.links.get(&slot.link) {
        let device = node.devices.get(&link.ifindex).map_or("?", String::as_str);
        entries.push(format!(
            "LINKS [{}] -> {device} (ifindex {}), MTU {}, flags {:#x}",
            slot.link, link.ifindex, link.mtu, link.flags
        ));
    }
    entries
}
