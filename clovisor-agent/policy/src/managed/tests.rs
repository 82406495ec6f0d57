//! What managed proxies serve, what they refuse, and which refusals are of mapped objects.

mod entries;
mod routes;
mod tls;

use crate::allocation::Allocation;
use crate::compile::{Purpose, compile};
use crate::compiled::Compiled;
use crate::model::Service;
use clovisor_objects::document::read_all;

/// A link, and a mapping of every route of the VirtualService `reviews`.
const MAPPED: &str = "
apiVersion: clovisor.io/v1alpha1
kind: WanLink
metadata: {name: s9}
spec: {device: s9}
---
apiVersion: clovisor.io/v1alpha1
kind: WanMapping
metadata: {name: m, namespace: shop}
spec:
  targetRefs: [{group: networking.istio.io, kind: VirtualService, name: reviews}]
  links: [s9]
";

/// A remote service of the namespace `shop` with two HTTP ports, and a route for every request.
const REVIEWS: &str = "
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews.shop.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 8080, name: http-alt, protocol: HTTP}]
  endpoints: [{address: 203.0.113.10}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
  http: [{name: all, route: [{destination: {host: reviews}}]}]
";

fn object(kind: &str, name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "\n---\napiVersion: networking.istio.io/v1\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

fn pod(name: &str, labels: &str) -> String {
    format!(
        "\n---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {labels}}}\n\
         status: {{podIP: 10.1.0.5}}\n"
    )
}

fn compiled(texts: &[&str]) -> Compiled {
    let snapshot = read_all("a.yaml", &texts.concat());
    compile(&snapshot, &Allocation::default(), 1, Purpose::default()).0
}

/// `REASON KIND/NAME` of each problem.
fn problems(compiled: &Compiled) -> Vec<String> {
    compiled
        .problems
        .iter()
        .map(|p| format!("{} {}/{}", p.reason, p.subject.kind(), p.subject.name()))
        .collect()
}

/// The services of `shop` on a port.
fn on_port(compiled: &Compiled, port: u16) -> Vec<&Service> {
    compiled.policy.namespaces["shop"].services.iter().filter(|service| service.port == port).collect()
}
