//! Objects by the hosts that they are about, made once for all namespaces.

use super::hosts::ByHost;
use super::http_route::ByService;
use super::service::{Rules, visible};
use crate::cluster::istio::VirtualService;
use crate::cluster::snapshot::{Dated, ObjectKey, Snapshot};

/// A VirtualService and how well it fits the host; the larger the better.
pub(crate) type Candidate<'a> = (&'a ObjectKey, &'a Dated<VirtualService>, usize);

/// Objects by host, made once for all namespaces.
#[derive(Debug)]
pub(crate) struct Objects<'a> {
    virtual_services: ByHost<'a, Dated<VirtualService>>,
    pub(crate) http_routes: ByService<'a>,
    pub(crate) rules: Rules<'a>,
}

impl<'a> Objects<'a> {
    /// Sorts the objects of a snapshot in.
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        let services = snapshot.virtual_services.iter().map(|(key, vs)| (key, &**vs));
        let rules = snapshot.destination_rules.iter().map(|(key, rule)| (key, &**rule));
        Self {
            virtual_services: ByHost::new(services, |vs| &vs.spec.hosts),
            http_routes: ByService::new(snapshot.http_routes.iter().map(|(key, route)| (key, &**route))),
            rules: ByHost::new(rules, |rule| std::slice::from_ref(&rule.host)),
        }
    }

    /// The VirtualServices for a host: best fit first, then the client's own, then the oldest. The first rules.
    pub(crate) fn ruling(&self, client: &str, host: &str) -> Vec<Candidate<'a>> {
        let seen = |vs: &Dated<VirtualService>, namespace: &str| {
            let mesh = vs.spec.gateways.is_empty() || vs.spec.gateways.iter().any(|g| g == "mesh");
            mesh && visible(&vs.spec.export_to, namespace, client)
        };
        let covering = self.virtual_services.covering(host).into_iter();
        let seen = covering.filter(|found| seen(found.object, &found.key.namespace));
        let mut all: Vec<_> = seen.map(|found| (found.key, found.object, found.fit)).collect();
        all.sort_by_key(|(key, vs, fit)| {
            (std::cmp::Reverse(*fit), key.namespace != client, vs.created, &key.name, &key.namespace)
        });
        // One that names the host twice is one candidate, by its better name.
        all.dedup_by_key(|(key, ..)| *key);
        all
    }
}
