//! The hosts of the mesh as the clients of one namespace reach them: ports, and who rules them.

use crate::cluster::gateway::ParentRef;
use crate::cluster::snapshot::{ObjectKey, Snapshot};
use crate::policy::hosts::{ServiceName, visible};
use crate::policy::objects::Objects;
use crate::policy::origin::Origin;
use crate::policy::protocol::AppProtocol;
use std::collections::BTreeMap;

/// A host and where it is defined.
#[derive(Debug)]
pub(super) struct Host {
    /// Namespace of the Service or ServiceEntry.
    pub(super) home: String,
    /// Numbers of its ports, and whether the proxy sees requests there.
    pub(super) ports: BTreeMap<u16, bool>,
}

/// What the clients of a namespace reach.
#[derive(Debug)]
pub(super) struct Reach<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) client: String,
    objects: &'a Objects<'a>,
    hosts: BTreeMap<String, Host>,
}

impl<'a> Reach<'a> {
    /// Services of all namespaces, and the ServiceEntries that the namespace sees.
    pub(super) fn new(snapshot: &'a Snapshot, objects: &'a Objects<'a>, client: &str) -> Self {
        let mut hosts = BTreeMap::<String, Host>::new();
        for (key, service) in &snapshot.services {
            let host = ServiceName { name: &key.name, namespace: &key.namespace }.host();
            let is_http = |port| AppProtocol::of_service(port).is_http();
            let ports = service.ports.iter().map(|port| (port.port, is_http(port))).collect();
            hosts.insert(host, Host { home: key.namespace.clone(), ports });
        }
        for (key, entry) in &snapshot.service_entries {
            if !visible(&entry.export_to, &key.namespace, client) {
                continue;
            }
            for name in &entry.hosts {
                let ports = BTreeMap::new();
                let host = hosts.entry(name.to_ascii_lowercase());
                let host = host.or_insert_with(|| Host { home: key.namespace.clone(), ports });
                let is_http = |port| AppProtocol::of_entry(port).is_http();
                host.ports.extend(entry.ports.iter().map(|port| (port.number, is_http(port))));
            }
        }
        Self { snapshot, client: client.to_owned(), objects, hosts }
    }

    pub(super) fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.get(&name.to_ascii_lowercase())
    }

    /// The hosts that a name of a VirtualService covers: itself, or by its suffix.
    pub(super) fn covered(&self, name: &str) -> Vec<(&str, &Host)> {
        let name = name.to_ascii_lowercase();
        let covers = |host: &str| match name.strip_prefix('*') {
            Some(suffix) => host.ends_with(suffix),
            None => host == name,
        };
        self.hosts.iter().filter(|(host, _)| covers(host)).map(|(host, h)| (host.as_str(), h)).collect()
    }

    /// The object whose routes hold for a host.
    pub(super) fn ruler(&self, host: &str) -> Option<Origin> {
        let best = self.objects.virtual_services_of(&self.client, host).into_iter().next();
        best.map(|(key, ..)| Origin::VirtualService(key.clone()))
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
