use crate::allocation::Allocation;
use crate::compile::{Proxies, Purpose, compile};
use crate::explain::explain;
use crate::matcher::Request;
use crate::trace::Trace;
use clovisor_objects::document::read_all;
use clovisor_objects::identity::ObjectKey;
use std::collections::BTreeMap;

/// A Service of Kubernetes with what managed proxies do not support: weights, subsets, faults, a redirect.
const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {ports: [{name: http, port: 8000}, {name: tcp-db, port: 9000}]}
---
apiVersion: clovisor.io/v1alpha1
kind: WanLink
metadata: {name: s9}
spec: {device: s9}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
  http:
  - {name: old, match: [{uri: {prefix: /old}}], redirect: {uri: /}}
  - name: minions
    match: [{headers: {user: {exact: minions}}}]
    fault: {}
    route: [{destination: {host: reviews, subset: v1}, weight: 80}, {destination: {host: reviews, subset: v2}, weight: 20}]
  - {name: rest, route: [{destination: {host: reviews}}]}
---
apiVersion: clovisor.io/v1alpha1
kind: WanMapping
metadata: {name: m, namespace: shop}
spec:
  targetRefs: [{group: networking.istio.io, kind: VirtualService, name: reviews, sectionName: minions}]
  links: [s9]
---
apiVersion: clovisor.io/v1alpha1
kind: WanMapping
metadata: {name: o, namespace: shop}
spec:
  targetRefs: [{group: networking.istio.io, kind: VirtualService, name: reviews, sectionName: rest}]
  links: [s9]
";

fn trace(text: &str, proxies: Proxies, user: &str, path: &str, host: &str) -> Trace {
    let purpose = Purpose { proxies, ..Purpose::default() };
    let (compiled, _) = compile(&read_all("a.yaml", text), &Allocation::default(), 1, purpose);
    let headers = [("user", user.as_bytes())];
    let request = Request { method: "GET", authority: host, path, headers: &headers };
    let pod = ObjectKey { namespace: "shop".into(), name: "client".into() };
    explain(&compiled.policy, &pod, &BTreeMap::new(), &request)
}

#[test]
fn requests_to_services_are_explained_by_the_routes_of_the_control_plane() {
    let of = |user: &str, path: &str, host: &str| trace(SHOP, Proxies::Sidecars, user, path, host);
    let minions = of("minions", "/", "reviews:8000");
    assert_eq!(minions.mapping.as_deref(), Some("m"), "{minions:#?}");
    assert_eq!(minions.service.as_deref(), Some("reviews.shop.svc.cluster.local:8000"));
    assert_eq!(of("boss", "/", "reviews.shop").mapping.as_deref(), Some("o"));
    // A redirect is answered by the proxy itself.
    assert_eq!(of("minions", "/old", "reviews:8000").mapping, None);
    assert_eq!(of("minions", "/", "reviews:9000").service, None);
    // Managed proxies serve the hosts of ServiceEntries only.
    assert_eq!(trace(SHOP, Proxies::Managed, "minions", "/", "reviews:8000").service, None);
}

/// A mapping that the sidecars get nothing for decides nothing.
#[test]
fn a_mapping_without_a_plan_is_in_no_explanation() {
    let refused = SHOP
        .replace("name: rest, route", "name: minions, route")
        .replace("sectionName: rest", "sectionName: x");
    let text = refused
        .replace("- {name: minions, route", "- {name: x, route")
        .replace("{host: reviews}}]}", "{host: nowhere}}]}");
    assert_eq!(trace(&text, Proxies::Sidecars, "boss", "/", "reviews").mapping, None);
    assert_eq!(trace(&text, Proxies::Sidecars, "minions", "/", "reviews").mapping.as_deref(), Some("m"));
}

#[test]
fn http_routes_are_ranked() {
    let (head, _) = SHOP.split_once("---\napiVersion: networking").unwrap_or_default();
    let text = format!(
        "{head}---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: h, namespace: shop}}\n\
         spec:\n  parentRefs: [{{group: '', kind: Service, name: reviews}}]\n  rules:\n  \
         - {{name: rest, filters: [{{type: RequestMirror}}], backendRefs: [{{name: reviews, port: 8000}}]}}\n  \
         - {{name: a, matches: [{{path: {{value: /a}}}}], backendRefs: [{{name: reviews, port: 8000}}]}}\n\
         ---\napiVersion: clovisor.io/v1alpha1\nkind: WanMapping\nmetadata: {{name: m, namespace: shop}}\nspec:\n  \
         targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: h, sectionName: a}}]\n  links: [s9]\n"
    );
    assert_eq!(trace(&text, Proxies::Sidecars, "", "/a", "reviews").mapping.as_deref(), Some("m"));
    assert_eq!(trace(&text, Proxies::Sidecars, "", "/b", "reviews").mapping, None);
}
