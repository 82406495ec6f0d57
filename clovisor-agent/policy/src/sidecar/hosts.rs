//! The mesh's hosts as the clients of one namespace see them: ports, and the object whose routes they have.

use crate::hosts::{ServiceName, visible};
use crate::objects::Objects;
use crate::origin::RouteOrigin;
use crate::protocol::AppProtocol;
use clovisor_objects::gateway::ParentRef;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::snapshot::Snapshot;
use std::collections::BTreeMap;

/// A host of the mesh.
#[derive(Debug)]
pub(super) struct Host {
    /// Namespace of the Service or ServiceEntry.
    pub(super) namespace: String,
    /// Port numbers, each with whether the proxy sees requests there.
    pub(super) ports: BTreeMap<u16, bool>,
}

/// The hosts that the clients of a namespace can reach.
#[derive(Debug)]
pub(super) struct Hosts<'a> {
    pub(super) snapshot: &'a Snapshot,
    client: String,
    objects: &'a Objects<'a>,
    hosts: BTreeMap<String, Host>,
}

impl<'a> Hosts<'a> {
    /// The Services of all namespaces, and the ServiceEntries that `client` sees.
    pub(super) fn new(snapshot: &'a Snapshot, objects: &'a Objects<'a>, client: &str) -> Self {
        let mut hosts = BTreeMap::<String, Host>::new();
        for (key, service) in &snapshot.services {
            let host = ServiceName { name: &key.name, namespace: &key.namespace }.host();
            let is_http = |port| AppProtocol::of_service(port).is_http();
            let ports = service.ports.iter().map(|port| (port.port, is_http(port))).collect();
            hosts.insert(host, Host { namespace: key.namespace.clone(), ports });
        }
        for (key, entry) in &snapshot.service_entries {
            if !visible(&entry.export_to, &key.namespace, client) {
                continue;
            }
            for name in &entry.hosts {
                let ports = BTreeMap::new();
                let host = hosts.entry(name.to_ascii_lowercase());
                let host = host.or_insert_with(|| Host { namespace: key.namespace.clone(), ports });
                let is_http = |port| AppProtocol::of_entry(port).is_http();
                host.ports.extend(entry.ports.iter().map(|port| (port.number, is_http(port))));
            }
        }
        Self { snapshot, client: client.to_owned(), objects, hosts }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Host> {
        self.hosts.get(&name.to_ascii_lowercase())
    }

    /// The hosts that a name in a VirtualService matches: the name itself, or every host with the suffix of a wildcard.
    pub(super) fn matching(&self, name: &str) -> Vec<(&str, &Host)> {
        let name = name.to_ascii_lowercase();
        let matches = |host: &str| match name.strip_prefix('*') {
            Some(suffix) => host.ends_with(suffix),
            None => host == name,
        };
        self.hosts.iter().filter(|(host, _)| matches(host)).map(|(host, h)| (host.as_str(), h)).collect()
    }

    /// The object whose routes a host has.
    pub(super) fn route_owner(&self, host: &str) -> Option<RouteOrigin> {
        let best = self.objects.virtual_services_of(&self.client, host).into_iter().next();
        best.map(|(key, ..)| RouteOrigin::VirtualService(key.clone()))
    }

    /// The hosts and ports of the Services that an HTTPRoute names as its parents.
    pub(super) fn parents(&self, key: &ObjectKey) -> Vec<(String, Option<u16>)> {
        let route = self.snapshot.http_routes.get(key);
        let parents = route.into_iter().flat_map(|route| &route.spec.parent_refs);
        let host = |p: &ParentRef| {
            let namespace = p.namespace.as_deref().unwrap_or(&key.namespace);
            (ServiceName { name: &p.name, namespace }.host(), p.port)
        };
        parents.filter(|p| p.is_service()).map(host).collect()
    }
}
