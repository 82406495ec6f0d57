//! Which kind a document is of, and whether its author meant another one.

use super::identity::ObjectKind;
use super::near::{nearest, remedy};

/// Clovisor's own group, and the version that is read.
pub const GROUP: &str = "clovisor.io";
pub const VERSION: &str = "v1alpha1";
const OWN: [&str; 3] = ["WanLink", "WanMapping", "WanNode"];

/// Kinds that are read, and those beside them that are not, by group.
const OTHERS: [(&str, &[&str], &[&str]); 4] = [
    (
        "networking.istio.io",
        &["DestinationRule", "ServiceEntry", "VirtualService"],
        &["EnvoyFilter", "Gateway", "ProxyConfig", "Sidecar", "WorkloadEntry", "WorkloadGroup"],
    ),
    (
        "gateway.networking.k8s.io",
        &["HTTPRoute"],
        &["GRPCRoute", "TCPRoute", "TLSRoute", "UDPRoute", "Gateway", "GatewayClass", "ReferenceGrant"],
    ),
    ("networking.k8s.io", &["NetworkPolicy"], &["Ingress", "IngressClass", "IPAddress", "ServiceCIDR"]),
    ("", &["Node", "Pod", "Service"], &[]),
];

/// What the type of a document says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// An object that is read.
    Object(ObjectKind),
    /// A list of objects; the kind that those have which name none, with its version.
    List(Option<String>),
    /// An object that is not read.
    Other,
    /// Probably meant to be an object that is read.
    Mistaken(String),
}

/// What `apiVersion` and `kind` mean.
#[must_use]
pub fn meaning(api_version: &str, kind: &str) -> Meaning {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let of =
        kind.strip_suffix("List").filter(|of| of.is_empty() || ObjectKind::of(api_version, of).is_some());
    match of {
        _ if api_version == GROUP || group == GROUP && version != VERSION => {
            return own(group, version, kind);
        }
        Some("") if group.is_empty() => return Meaning::List(None),
        Some(of) if !of.is_empty() => return Meaning::List(Some(of.to_owned())),
        _ if group == GROUP => return own(group, version, kind),
        _ => {}
    }
    if group.is_empty() && kind != "List" && nearest(kind, ["List"]).is_some() {
        return Meaning::Mistaken(format!("there is no kind {kind}; did you mean List?"));
    }
    if let Some(kind) = ObjectKind::of(api_version, kind).filter(|_| !api_version.is_empty()) {
        return Meaning::Object(kind);
    }
    let near_group = nearest(group, [GROUP]).is_some() || api_version.is_empty();
    if OWN.contains(&kind.strip_suffix("List").unwrap_or(kind)) || near_group && nearest(kind, OWN).is_some()
    {
        let is =
            if api_version.is_empty() { "is missing".into() } else { format!("{api_version} is unknown") };
        return Meaning::Mistaken(format!("apiVersion {is} for a {kind}; write {GROUP}/{VERSION}"));
    }
    if api_version.is_empty() {
        return untyped(kind);
    }
    let Some((_, read, others)) = OTHERS.iter().find(|(name, ..)| *name == group) else {
        return Meaning::Other;
    };
    let bare = kind.strip_suffix("List").unwrap_or(kind);
    match nearest(bare, read.iter().copied()).filter(|_| !others.contains(&bare)) {
        Some(near) => Meaning::Mistaken(format!(
            "{api_version} has no kind {kind}, as far as known; did you mean {near}?"
        )),
        None => Meaning::Other,
    }
}

/// The meaning of a kind without `apiVersion`.
fn untyped(kind: &str) -> Meaning {
    let is_read = OTHERS.iter().any(|(_, read, _)| read.contains(&kind.strip_suffix("List").unwrap_or(kind)));
    match is_read {
        true => Meaning::Mistaken(format!("apiVersion is missing for a {kind}; add it")),
        false => Meaning::Other,
    }
}

/// The meaning in Clovisor's own group, where all is known.
fn own(group: &str, version: &str, kind: &str) -> Meaning {
    let bare = kind.strip_suffix("List").unwrap_or(kind);
    if group != GROUP || version != VERSION {
        let version =
            if group == GROUP { format!("{GROUP} has no version {version}") } else { "no version".into() };
        return Meaning::Mistaken(format!("{version}; write apiVersion: {GROUP}/{VERSION}"));
    }
    match ObjectKind::of(&format!("{group}/{version}"), kind) {
        Some(kind) => Meaning::Object(kind),
        None => Meaning::Mistaken(format!("{GROUP}/{version} has no kind {kind}; {}", remedy(bare, OWN))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_objects_lists_others_or_mistakes() {
        let list = |of: &str| Meaning::List(Some(of.to_owned()));
        for (api_version, kind, expected) in [
            ("clovisor.io/v1alpha1", "WanLink", Meaning::Object(ObjectKind::WanLink)),
            ("networking.istio.io/v1beta1", "VirtualService", Meaning::Object(ObjectKind::VirtualService)),
            ("v1", "List", Meaning::List(None)),
            ("clovisor.io/v1alpha1", "WanMappingList", list("WanMapping")),
            ("networking.istio.io/v1", "VirtualServiceList", list("VirtualService")),
            ("v1", "PodList", list("Pod")),
            ("apps/v1", "Deployment", Meaning::Other),
            ("apps/v1", "DeploymentList", Meaning::Other),
            ("v1", "ConfigMap", Meaning::Other),
            ("networking.istio.io/v1", "Gateway", Meaning::Other),
            ("gateway.networking.k8s.io/v1", "TCPRoute", Meaning::Other),
            ("security.istio.io/v1", "PeerAuthentication", Meaning::Other),
            ("serving.knative.dev/v1", "Service", Meaning::Other),
        ] {
            assert_eq!(meaning(api_version, kind), expected, "{api_version} {kind}");
        }
    }

    #[test]
    fn mistakes_say_what_was_meant() {
        for (api_version, kind, words) in [
            ("clovisor.io/v1alpha1", "WanMaping", "did you mean WanMapping?"),
            ("clovisor.io/v1alpha1", "Route", "there is WanLink, WanMapping, WanNode"),
            ("clovisor.io/v1", "WanMapping", "has no version v1; write apiVersion: clovisor.io/v1alpha1"),
            ("clovisor.io/v1", "WanMappingList", "has no version v1"),
            ("clovisor.io", "WanLink", "write apiVersion: clovisor.io/v1alpha1"),
            ("clovisr.io/v1alpha1", "WanLink", "write clovisor.io/v1alpha1"),
            ("v1alpha1", "WanLink", "write clovisor.io/v1alpha1"),
            ("", "WanMapping", "apiVersion is missing"),
            ("", "WanMaping", "apiVersion is missing"),
            ("", "Pod", "apiVersion is missing"),
            ("networking.istio.io/v1", "VirtualServce", "did you mean VirtualService?"),
            ("gateway.networking.k8s.io/v1", "HttpRoute", "did you mean HTTPRoute?"),
            ("v1", "Pods", "did you mean Pod?"),
        ] {
            let Meaning::Mistaken(message) = meaning(api_version, kind) else {
                panic!("{api_version} {kind}")
            };
            assert!(message.contains(words), "{message}");
        }
    }
}
