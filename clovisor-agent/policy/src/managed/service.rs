//! ServiceEntries and DestinationRules to the services that the pods of one namespace can reach.

use super::destination_rule::{Clients, HostPort};
use crate::hosts::{aliases, visible};
use crate::model::{Protocol, Service, Tls};
use crate::protocol::AppProtocol;
use clovisor_objects::identity::{ObjectKey, ObjectKind};
use clovisor_objects::istio::{ServiceEntry, ServicePort};
use clovisor_objects::problem::{Problem, Subject};
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::{FieldPath, Refusal};
use clovisor_objects::snapshot::Snapshot;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The services of a namespace, and the hosts that managed proxies cannot serve.
#[derive(Debug, Default)]
pub(crate) struct Services {
    /// By host and port, without routes.
    pub(crate) http: BTreeMap<(String, u16), Service>,
    /// Those of `http` for which some DestinationRule asks for TLS, whether they have it or not.
    pub(super) wants_tls: BTreeSet<(String, u16)>,
    /// Hosts with a port whose requests the proxy cannot see.
    pub(super) opaque: BTreeMap<String, OpaquePort>,
    /// Hosts that are not served, and why.
    pub(super) unserved: BTreeMap<String, Problem>,
    /// Further problems, each with the host that it is about.
    pub(super) problems: Vec<(String, Problem)>,
}

/// A port on which the proxy sees no requests.
#[derive(Debug)]
pub(super) struct OpaquePort {
    pub(super) number: u16,
    /// What it speaks; empty: nobody says.
    pub(super) protocol: String,
}

/// The services that pods of the clients' namespace can reach; of two with one host and port the nearer one holds.
pub(super) fn services(snapshot: &Snapshot, clients: &Clients<'_>) -> Services {
    let mut found = Services::default();
    let mut entries: Vec<_> = snapshot.service_entries.iter().collect();
    entries.sort_by_key(|(key, _)| (key.namespace != clients.namespace, *key));
    for (key, entry) in entries {
        if visible(&entry.export_to, &key.namespace, clients.namespace) {
            found.add(clients, key, entry);
        }
    }
    found
}

impl Services {
    fn add(&mut self, clients: &Clients<'_>, key: &ObjectKey, entry: &ServiceEntry) {
        let addresses = match checked(entry) {
            Ok(addresses) => addresses,
            Err(refusal) => return self.unserved(clients, key, entry, &refusal),
        };
        for (host, port) in entry.hosts.iter().flat_map(|h| entry.ports.iter().map(move |p| (h, p))) {
            let Some(by_port) = self.http_version(host, port) else { continue };
            let place = HostPort { namespace: &key.namespace, host, port: port.number };
            let asked = clients.ask(place);
            if asked.wants_tls {
                self.wants_tls.insert((host.clone(), port.number));
            }
            let (tls, closed) = match asked.tls {
                Ok(tls) => (tls, None),
                Err(problem) => {
                    let why = format!("{} {}", problem.subject.kind(), problem.subject.name());
                    self.problems.push((host.clone(), problem));
                    (Tls::Disable, Some(closed_by(&why)))
                }
            };
            let service = Service {
                host: host.clone(),
                port: port.number,
                aliases: aliases(host, clients.namespace),
                addresses: addresses.clone(),
                endpoints: entry.endpoints.iter().filter_map(|e| e.socket_address(port)).collect(),
                protocol: asked.upgraded.unwrap_or(by_port),
                tls,
                closed,
                routes: Vec::new(),
            };
            if let Entry::Vacant(place) = self.http.entry((host.clone(), port.number)) {
                place.insert(service);
            } else {
                let message = format!(
                    "port {} of this host is defined by another ServiceEntry, which stays in force; remove one of the two",
                    port.number
                );
                self.problems.push((host.clone(), problem(key, not_effective(of_host(host), message))));
            }
        }
    }

    /// The HTTP version of a port; none: the proxy sees no requests there.
    fn http_version(&mut self, host: &str, port: &ServicePort) -> Option<Protocol> {
        match AppProtocol::of_entry(port) {
            AppProtocol::Http1 => Some(Protocol::Http1),
            AppProtocol::Http2 => Some(Protocol::Http2),
            AppProtocol::Opaque | AppProtocol::Undeclared => {
                let opaque = OpaquePort { number: port.number, protocol: port.protocol.clone() };
                self.opaque.insert(host.to_ascii_lowercase(), opaque);
                None
            }
        }
    }

    /// The hosts pass as clients send their requests; not those for which TLS is asked for.
    fn unserved(&mut self, clients: &Clients<'_>, key: &ObjectKey, entry: &ServiceEntry, refusal: &Refusal) {
        for host in &entry.hosts {
            self.unserved.insert(host.to_ascii_lowercase(), problem(key, refusal.clone()));
            for port in &entry.ports {
                let place = HostPort { namespace: &key.namespace, host, port: port.number };
                if self.http_version(host, port).is_none() || !clients.ask(place).wants_tls {
                    continue;
                }
                let single = |text: &String| text.parse().ok();
                let service = Service {
                    host: host.clone(),
                    port: port.number,
                    aliases: aliases(host, clients.namespace),
                    addresses: entry.addresses.iter().filter_map(single).collect(),
                    endpoints: Vec::new(),
                    protocol: Protocol::Http1,
                    tls: Tls::Disable,
                    closed: Some(closed_by(&format!("ServiceEntry {key}"))),
                    routes: Vec::new(),
                };
                self.http.entry((host.clone(), port.number)).or_insert(service);
            }
        }
    }
}

/// Why requests are answered with 503, for those who sent them.
pub(super) fn closed_by(object: &str) -> String {
    format!(
        "TLS is asked for and cannot be given: {object} is refused, see `clovisorctl status`; nothing is sent in plain \
         text"
    )
}

fn problem(key: &ObjectKey, refusal: Refusal) -> Problem {
    Problem::new(Subject::object(ObjectKind::ServiceEntry, key), refusal)
}

fn of_host(host: &str) -> FieldPath {
    FieldPath::from("spec.hosts").key(host)
}

fn not_effective(field: impl Into<FieldPath>, message: impl Into<String>) -> Refusal {
    Refusal::new(ProblemReason::RuleNotEffective, field, message)
}

/// What managed proxies can serve: endpoints whose addresses are known.
fn checked(entry: &ServiceEntry) -> Result<Vec<IpAddr>, Refusal> {
    if entry.resolution.as_deref() != Some("STATIC") {
        let now = entry.resolution.as_deref().unwrap_or("NONE");
        let message = format!(
            "resolution {now} leaves the addresses of the endpoints to names or to clients, and managed proxies send \
             requests to addresses that the kernel knows; use STATIC and list the endpoints"
        );
        return Err(not_effective("spec.resolution", message));
    }
    if entry.workload_selector.is_some() {
        let message = "pods and WorkloadEntries as endpoints are known to Istio's control plane only; list their \
                       addresses as endpoints";
        return Err(not_effective("spec.workloadSelector", message));
    }
    if entry.endpoints.is_empty() {
        return Err(not_effective("spec.endpoints", "is empty; list the addresses of the servers"));
    }
    if let Some(i) = entry.endpoints.iter().position(|e| e.ip().is_none()) {
        let field = FieldPath::from("spec.endpoints").index(i).field("address");
        let now = entry.endpoints.get(i).and_then(|e| e.address.as_deref()).unwrap_or_default();
        let message = format!(
            "{now:?} is no IP address; managed proxies send requests to addresses that the kernel knows: write one"
        );
        return Err(not_effective(field, message));
    }
    if let Some(i) = entry.hosts.iter().position(|h| h.contains('*')) {
        let field = FieldPath::from("spec.hosts").index(i);
        return Err(not_effective(field, "a wildcard cannot have endpoints; name the hosts"));
    }
    let mut addresses = Vec::new();
    for (i, text) in entry.addresses.iter().enumerate() {
        let single = text.strip_suffix("/32").or_else(|| text.strip_suffix("/128")).unwrap_or(text);
        let address = single.parse().map_err(|_| {
            let message = format!("{text:?} is not a single IP address; list the addresses one by one");
            not_effective(FieldPath::from("spec.addresses").index(i), message)
        })?;
        addresses.push(address);
    }
    Ok(addresses)
}
