//! ServiceEntries and DestinationRules to the services that the pods of one namespace can reach.

use crate::hosts::{DestinationRules, ROOT_NAMESPACE, ServiceName, default_sni, visible};
use crate::model::{Protocol, Service, Tls};
use crate::protocol::AppProtocol;
use clovisor_objects::identity::{ObjectKey, ObjectKind};
use clovisor_objects::istio::ServiceEntry;
use clovisor_objects::problem::{Problem, Subject};
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::{FieldPath, Refusal};
use clovisor_objects::snapshot::Snapshot;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

/// The services of a namespace, and the ports whose requests the proxy cannot see.
#[derive(Debug, Default)]
pub(crate) struct Services {
    /// By host and port, without routes.
    pub(crate) http: BTreeMap<(String, u16), Service>,
    /// Hosts with a port of another protocol, and that protocol.
    pub(crate) opaque: BTreeMap<String, String>,
    pub(crate) problems: Vec<Problem>,
}

/// The services that pods of `client` can reach; of two with one host and port the nearer one holds.
pub(crate) fn services(snapshot: &Snapshot, rules: &DestinationRules<'_>, client: &str) -> Services {
    let mut found = Services::default();
    let mut entries: Vec<_> = snapshot.service_entries.iter().collect();
    entries.sort_by_key(|(key, _)| (key.namespace != client, *key));
    for (key, entry) in entries {
        if visible(&entry.export_to, &key.namespace, client) {
            found.add(rules, client, key, entry);
        }
    }
    found
}

impl Services {
    fn add(&mut self, rules: &DestinationRules<'_>, client: &str, key: &ObjectKey, entry: &ServiceEntry) {
        let addresses = match checked(entry) {
            Ok(addresses) => addresses,
            Err(refusal) => return self.refuse(key, refusal),
        };
        for (host, port) in entry.hosts.iter().flat_map(|h| entry.ports.iter().map(move |p| (h, p))) {
            let by_port = match AppProtocol::of_entry(port) {
                AppProtocol::Http1 => Protocol::Http1,
                AppProtocol::Http2 => Protocol::Http2,
                AppProtocol::Opaque | AppProtocol::Undeclared => {
                    self.opaque.insert(host.clone(), port.protocol.clone());
                    continue;
                }
            };
            let policy = traffic_policy(rules, client, &key.namespace, host);
            let tls = match tls(policy, host, port.number) {
                Ok(tls) => tls,
                Err(message) => {
                    self.refuse(key, not_effective(of_host(host), message));
                    continue;
                }
            };
            let service = Service {
                host: host.clone(),
                port: port.number,
                aliases: aliases(host, client),
                addresses: addresses.clone(),
                endpoints: entry.endpoints.iter().filter_map(|e| e.socket_address(port)).collect(),
                protocol: upgraded(policy).unwrap_or(by_port),
                tls,
                routes: Vec::new(),
            };
            if let Entry::Vacant(place) = self.http.entry((host.clone(), port.number)) {
                place.insert(service);
            } else {
                let message = format!(
                    "port {} of this host is defined by another ServiceEntry, which stays in force; remove one of the two",
                    port.number
                );
                self.refuse(key, not_effective(of_host(host), message));
            }
        }
    }

    fn refuse(&mut self, key: &ObjectKey, refusal: Refusal) {
        self.problems.push(Problem::new(Subject::object(ObjectKind::ServiceEntry, key), refusal));
    }
}

fn of_host(host: &str) -> FieldPath {
    FieldPath::from("spec.hosts").key(host)
}

fn not_effective(field: impl Into<FieldPath>, message: impl Into<String>) -> Refusal {
    Refusal::new(ProblemReason::RuleNotEffective, field, message)
}

/// What managed proxies can serve: addresses, not names.
fn checked(entry: &ServiceEntry) -> Result<Vec<IpAddr>, Refusal> {
    if entry.resolution.as_deref() != Some("STATIC") {
        let now = entry.resolution.as_deref().unwrap_or("NONE");
        let message =
            format!("resolution {now} has no known endpoints to steer to; use STATIC and list the endpoints");
        return Err(not_effective("spec.resolution", message));
    }
    if let Some(i) = entry.endpoints.iter().position(|e| e.address.is_none()) {
        let field = FieldPath::from("spec.endpoints").index(i).field("address");
        return Err(not_effective(field, "is not an IP address; write one"));
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

/// The short forms that a client's resolver would complete.
fn aliases(host: &str, client: &str) -> Vec<String> {
    let Some(name) = ServiceName::relative(host) else {
        return Vec::new();
    };
    let mut aliases = vec![format!("{name}.svc"), name.to_owned()];
    if let Some((short, namespace)) = name.split_once('.')
        && namespace == client
    {
        aliases.push(short.to_owned());
    }
    aliases
}

/// The nearest DestinationRule's policy: of the client, then of the service, then of the root namespace.
fn traffic_policy<'a>(
    rules: &DestinationRules<'a>,
    client: &str,
    service: &str,
    host: &str,
) -> Option<&'a Value> {
    let covering = rules.covering(host);
    let in_namespace = |namespace: &str| {
        let here = covering.iter().filter(|found| {
            found.key.namespace == namespace && visible(&found.object.export_to, namespace, client)
        });
        here.max_by_key(|found| (found.specificity, found.key)).map(|found| found.object)
    };
    let rule =
        in_namespace(client).or_else(|| in_namespace(service)).or_else(|| in_namespace(ROOT_NAMESPACE));
    rule?.traffic_policy.as_ref()
}

fn upgraded(policy: Option<&Value>) -> Option<Protocol> {
    let h2 = policy?.pointer("/connectionPool/http/h2UpgradePolicy")?;
    (h2 == "UPGRADE").then_some(Protocol::Http2)
}

fn tls(policy: Option<&Value>, host: &str, port: u16) -> Result<Tls, String> {
    let Some(tls) = policy.and_then(|p| p.get("tls")) else {
        return Ok(Tls::Disable);
    };
    match tls.get("mode").and_then(Value::as_str).unwrap_or("DISABLE") {
        "DISABLE" => Ok(Tls::Disable),
        "ISTIO_MUTUAL" => {
            let sni = tls.get("sni").and_then(Value::as_str).map(str::to_owned);
            Ok(Tls::IstioMutual { sni: sni.unwrap_or_else(|| default_sni(host, port)) })
        }
        other => Err(format!(
            "its DestinationRule wants tls.mode {other}, which managed proxies do not support; use ISTIO_MUTUAL or DISABLE"
        )),
    }
}
