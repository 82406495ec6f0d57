//! What a file of somebody else's lacks to be judged: a link, mappings of its routes, clients, endpoints by address.

use clovisor_objects::document::read_all;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::snapshot::Snapshot;
use clovisor_policy::hosts::qualify;
use std::collections::{BTreeMap, BTreeSet};

const LINK: &str =
    "apiVersion: clovisor.io/v1alpha1\nkind: WanLink\nmetadata: {name: added}\nspec: {device: added}\n";

/// Adds it; how many mappings.
pub(super) fn complete(snapshot: &mut Snapshot) -> usize {
    let targets = snapshot.mappings.iter().flat_map(|(key, mapping)| {
        mapping.spec.target_refs.iter().map(|target| (key.namespace.clone(), target.name.clone()))
    });
    let targets: BTreeSet<_> = targets.collect();
    let of_istio =
        snapshot.virtual_services.keys().map(|key| (key, "networking.istio.io, kind: VirtualService"));
    let of_gateway =
        snapshot.http_routes.keys().map(|key| (key, "gateway.networking.k8s.io, kind: HTTPRoute"));
    let routes: Vec<_> = of_istio.chain(of_gateway).collect();
    let namespaces: BTreeSet<_> = routes.iter().map(|(key, _)| &key.namespace).collect();
    let unmapped =
        routes.iter().filter(|(key, _)| !targets.contains(&(key.namespace.clone(), key.name.clone())));
    let texts = unmapped.enumerate().map(|(number, (key, kind))| mapping(number, key, kind));
    let texts = texts.chain(namespaces.into_iter().map(|namespace| pod(namespace)));
    let texts = texts.chain(
        hosts(snapshot).into_iter().enumerate().map(|(number, (host, ports))| entry(number, &host, &ports)),
    );
    let added = read_all("added.yaml", &texts.fold(LINK.to_owned(), |all, text| all + "---\n" + &text));
    let count = added.mappings.len();
    snapshot.links.extend(added.links);
    snapshot.mappings.extend(added.mappings);
    snapshot.pods.extend(added.pods);
    snapshot.service_entries.extend(added.service_entries);
    count
}

fn mapping(number: usize, target: &ObjectKey, kind: &str) -> String {
    format!(
        "apiVersion: clovisor.io/v1alpha1\nkind: WanMapping\nmetadata: {{name: added-{number}, namespace: {:?}}}\n\
         spec:\n  targetRefs: [{{group: {kind}, name: {:?}}}]\n  links: [added]\n",
        target.namespace, target.name
    )
}

fn pod(namespace: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: added, namespace: {namespace:?}}}\nstatus: {{podIP: 10.1.0.5}}\n"
    )
}

fn entry(number: usize, host: &str, ports: &BTreeSet<u16>) -> String {
    let ports = ports.iter().map(|port| format!("{{number: {port}, name: http-{port}, protocol: HTTP}}"));
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: added-{number}, namespace: added}}\n\
         spec:\n  hosts: [{host:?}]\n  resolution: STATIC\n  ports: [{}]\n  endpoints: [{{address: 203.0.113.10}}]\n",
        ports.collect::<Vec<_>>().join(", ")
    )
}

/// Hosts that routes name and no ServiceEntry defines, with the ports that they name.
fn hosts(snapshot: &Snapshot) -> BTreeMap<String, BTreeSet<u16>> {
    let mut hosts = BTreeMap::<String, BTreeSet<u16>>::new();
    for (key, vs) in &snapshot.virtual_services {
        let here = vs.spec.http.iter().flat_map(|http| &http.matches).filter_map(|block| block.port);
        for host in &vs.spec.hosts {
            hosts.entry(qualify(host, &key.namespace)).or_default().extend(here.clone());
        }
        for to in vs.spec.http.iter().flat_map(|http| &http.route).map(|route| &route.destination) {
            let port = to.port.map(|port| port.number);
            hosts.entry(qualify(&to.host, &key.namespace)).or_default().extend(port);
        }
    }
    for (key, route) in &snapshot.http_routes {
        let spec = &route.spec;
        let parents = spec.parent_refs.iter().filter(|p| p.is_service());
        let parents = parents.map(|p| (&p.name, &p.namespace, p.port));
        let backends = spec.rules.iter().flat_map(|rule| &rule.backend_refs).filter(|b| b.is_service());
        for (name, namespace, port) in parents.chain(backends.map(|b| (&b.name, &b.namespace, b.port))) {
            let host = qualify(name, namespace.as_deref().unwrap_or(&key.namespace));
            hosts.entry(host).or_default().extend(port);
        }
    }
    let defined: BTreeSet<_> = snapshot.service_entries.values().flat_map(|entry| &entry.hosts).collect();
    hosts.retain(|host, _| !host.contains('*') && !host.is_empty() && !defined.contains(host));
    hosts.values_mut().filter(|ports| ports.is_empty()).for_each(|ports| {
        ports.insert(80);
    });
    hosts
}
