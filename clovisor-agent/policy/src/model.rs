//! The compiled policy: what every later stage reads.

use super::class::{ClassId, ClassName};
use super::local::LocalNets;
use super::matcher::RouteMatch;
use super::origin::RouteOrigin;
use super::rule::Rule;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::wan_mapping::traffic::TrafficProtocol;
use clovisor_objects::wan_mapping::{Established, Fallback};
use ipnet::IpNet;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Who goes where, by namespace of the client pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    pub namespaces: BTreeMap<String, NamespacePolicy>,
    /// The pods that are known; only those of a namespace with a zone are steered.
    pub pods: BTreeMap<ObjectKey, PodIdentity>,
    /// What no mapping of traffic takes, as far as objects tell.
    pub local: Arc<LocalNets>,
}

/// Why nothing of a pod without a network of its own is steered; follows "the pod".
pub const HOST_NETWORK: &str = "uses the node's network (hostNetwork): its packets come through no device of its own and are not steered";

/// A pod whose traffic may be steered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodIdentity {
    pub addresses: BTreeSet<IpAddr>,
    /// Uid of its proxy, whose sockets carry classes.
    pub proxy_uid: u32,
    pub labels: BTreeMap<String, String>,
    /// The pod has no network of its own: nothing of it is steered.
    pub host_network: bool,
}

/// Everything about the clients of one namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamespacePolicy {
    /// The namespace's number on this node, from 1; kept while the namespace has a mapping. 0: it has none.
    pub zone: u16,
    /// By number, 1..=16.
    pub classes: BTreeMap<ClassId, Class>,
    pub mappings: BTreeMap<String, Arc<Mapping>>,
    /// One per destination host and port, in the order of host, port.
    pub services: Vec<Service>,
    /// Classes by destination, for what no proxy marks.
    pub traffic: Vec<PrefixRules>,
    /// Which pods these classes are for.
    pub traffic_pods: Vec<PodTraffic>,
    /// Destinations of the requests of sidecars, which Istio's control plane configures.
    pub destinations: Vec<Destinations>,
}

/// Pods whose own packets may have a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodTraffic {
    /// All must be on the pod; empty: every pod.
    pub labels: BTreeMap<String, String>,
    pub class: ClassId,
}

/// The rules of a prefix: the first whose ports hold and whose class is the pod's decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixRules {
    pub protocol: TrafficProtocol,
    pub net: IpNet,
    pub rules: Vec<PortClass>,
}

/// Destination ports, inclusive, and their class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortClass {
    pub min: u16,
    pub max: u16,
    pub class: ClassId,
}

/// Destinations of some classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destinations {
    /// None: only the control plane knows them; they can be any address.
    pub endpoints: Option<Vec<SocketAddr>>,
    pub classes: BTreeSet<ClassId>,
}

impl NamespacePolicy {
    /// The classes by destination that a pod with these labels may have.
    #[must_use]
    pub fn traffic_of(&self, labels: &BTreeMap<String, String>) -> BTreeSet<ClassId> {
        let has = |(key, value): (&String, &String)| labels.get(key) == Some(value);
        self.traffic_pods.iter().filter(|pods| pods.labels.iter().all(has)).map(|pods| pods.class).collect()
    }

    /// The classes of the requests that can reach a service: what its clusters and its destinations need.
    #[must_use]
    pub fn classes_towards(&self, service: &Service) -> BTreeSet<ClassId> {
        let routes = self.services.iter().flat_map(|s| &s.routes);
        let here =
            routes.filter(|r| r.destination.host == service.host && r.destination.port == service.port);
        here.flat_map(|route| route.decision.classes()).collect()
    }
}

impl RouteDecision {
    /// Every class that the decision can give.
    #[must_use]
    pub fn classes(&self) -> BTreeSet<ClassId> {
        match self {
            Self::Unmapped => BTreeSet::new(),
            Self::Class { class, .. } => BTreeSet::from([*class]),
            Self::Callout { classes, fallback, .. } => classes.iter().chain(fallback).copied().collect(),
        }
    }
}

/// Requests with the same decision. Its number stays the same while the mapping (or rule) that asks for it
/// exists, whatever else changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    pub id: ClassId,
    pub key: ClassName,
    /// Links in order of preference.
    pub links: Vec<String>,
    pub established: Established,
    pub on_links_down: Fallback,
    /// DSCP on the wire; 0 clears the class.
    pub wire_dscp: u8,
}

/// A mapping as the callout needs it.
#[derive(Clone, Debug)]
pub struct Mapping {
    pub name: String,
    /// Class of requests that no rule matches; none: the default route.
    pub class: Option<ClassId>,
    pub on_agent_loss: Fallback,
    /// Compiled rules in order (`policy::rule`).
    pub rules: Vec<Rule>,
}

/// One destination: host and port.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Fully qualified host, e.g. `reviews.shop.svc.cluster.local`.
    pub host: String,
    pub port: u16,
    /// Other names that clients may use in `Host`, e.g. `reviews`, `reviews.shop`.
    pub aliases: Vec<String>,
    /// Addresses that clients connect to (Service VIPs); empty: any address with this port.
    pub addresses: Vec<IpAddr>,
    /// Where proxies connect to.
    pub endpoints: Vec<SocketAddr>,
    pub protocol: Protocol,
    pub tls: Tls,
    /// Why requests are answered with 503 instead of being sent; such a service has no routes.
    pub closed: Option<String>,
    /// First match wins; the last one matches everything unless the user's list does not.
    pub routes: Vec<Route>,
}

impl Service {
    /// The routes for these pods, by their labels: those of which some block may hold, and where all that is left is
    /// for other pods, the service's default route.
    #[must_use]
    pub fn routes_of<'a>(&'a self, labels: &BTreeMap<String, String>) -> Vec<Cow<'a, Route>> {
        let of_pod = |route: &&Route| {
            route.matches.is_empty() || route.matches.iter().any(|block| block.applies_to(labels))
        };
        if self.closed.is_none() && !self.routes.iter().any(|route| of_pod(&route)) {
            return vec![Cow::Owned(self.default_route())];
        }
        self.routes.iter().map(Cow::Borrowed).collect()
    }

    /// The route of a service for which no other one holds: to itself, as Istio makes it.
    #[must_use]
    pub fn default_route(&self) -> Route {
        Route {
            name: None,
            origin: None,
            matches: Vec::new(),
            destination: Destination { host: self.host.clone(), port: self.port },
            timeout: None,
            retries: Some(Retries::istio()),
            decision: RouteDecision::Unmapped,
        }
    }
}

/// HTTP version towards the endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// TLS towards the endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    Disable,
    /// Mutual TLS with the mesh's own certificates; the SNI names port and host, never a class.
    IstioMutual {
        sni: String,
    },
}

/// Where the requests of a route go: host and port of a service of the same list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    pub host: String,
    pub port: u16,
}

/// One route of a service, with the classes of its requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// `http[].name`, or `default` for the catch-all that Clovisor adds.
    pub name: Option<String>,
    /// The object that defines the route; none: the default route of a service without one.
    pub origin: Option<RouteOrigin>,
    /// Any of these; empty: every request.
    pub matches: Vec<RouteMatch>,
    /// Most often the service itself.
    pub destination: Destination,
    /// Per-route timeout; none: no limit.
    pub timeout: Option<Duration>,
    pub retries: Option<Retries>,
    pub decision: RouteDecision,
}

/// How the class of the route's requests is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteDecision {
    /// No mapping: the default route.
    Unmapped,
    /// The route alone decides.
    Class { mapping: String, class: ClassId },
    /// The agent decides on the callout; `classes` are all it may answer.
    Callout {
        mapping: String,
        classes: BTreeSet<ClassId>,
        fallback: Option<ClassId>,
        on_agent_loss: Fallback,
    },
}

/// `http[].retries`, or Istio's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    pub attempts: u32,
    pub per_try_timeout: Option<Duration>,
    /// Envoy's `retry_on` list.
    pub retry_on: String,
}

/// What Istio retries where a route does not say.
pub(crate) const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled";
const RETRIES: u32 = 2;

impl Retries {
    /// What Istio retries where a route does not say, and how often.
    #[must_use]
    pub fn istio() -> Self {
        Self { attempts: RETRIES, per_try_timeout: None, retry_on: RETRY_ON.into() }
    }
}

impl Mapping {
    /// How the class of the requests that the mapping governs is found.
    #[must_use]
    pub fn decision(&self) -> RouteDecision {
        let mapping = self.name.clone();
        match self.class {
            class if !self.rules.is_empty() => RouteDecision::Callout {
                mapping,
                classes: self.rules.iter().map(|rule| rule.class).collect(),
                fallback: class,
                on_agent_loss: self.on_agent_loss,
            },
            Some(class) => RouteDecision::Class { mapping, class },
            None => RouteDecision::Unmapped,
        }
    }
}

impl PartialEq for Mapping {
    /// Compiled rules are compared by their source.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.class == other.class
            && self.on_agent_loss == other.on_agent_loss
            && self.rules == other.rules
    }
}
