//! Objects that tests apply.

use crate::site::{NAMESPACE, Pod};
use std::fmt::Write;
use std::net::SocketAddr;

/// The Pod objects of a site, as the API server would show them.
#[must_use]
pub fn pods<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> String {
    let mut text = String::new();
    for pod in pods {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {}\n  namespace: {NAMESPACE}\n  \
             labels: {{app: client}}\nstatus:\n  podIPs:\n  - ip: {}\n  - ip: {}\n",
            pod.name, pod.ipv4, pod.ipv6
        );
    }
    text
}

/// One WanLink per device, with extra lines of its spec.
#[must_use]
pub fn link(name: &str, extra: &str) -> String {
    format!(
        "---\napiVersion: clovisor.io/v1alpha1\nkind: WanLink\nmetadata:\n  name: {name}\nspec:\n  \
         device: {name}\n  gateway: {{ipv4: 10.{0}.0.1, ipv6: \"fd00:{0}::1\"}}\n{extra}",
        name.trim_start_matches('s')
    )
}

/// The same without a gateway of its own: it has those of the node's routes by the device.
#[must_use]
pub fn link_by_routes(name: &str) -> String {
    let link = link(name, "");
    link.lines().filter(|line| !line.contains("gateway:")).map(|line| format!("{line}\n")).collect()
}

/// A remote service without TLS: host, port, protocol (`HTTP` or `HTTP2`) and where proxies connect to.
#[must_use]
pub fn service(host: &str, port: u16, protocol: &str, endpoint: SocketAddr) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: {name}\n  \
         namespace: {NAMESPACE}\nspec:\n  hosts: [{host}]\n  location: MESH_INTERNAL\n  \
         resolution: STATIC\n  ports:\n  - {{number: {port}, name: http, protocol: {protocol}, targetPort: {target}}}\n  \
         endpoints:\n  - address: \"{address}\"\n    ports: {{http: {target}}}\n",
        name = object_name(host),
        target = endpoint.port(),
        address = endpoint.ip(),
    )
}

/// A VirtualService whose named routes match `user` exactly, then `users` for all others with a user, then
/// `rest` for everything else.
#[must_use]
pub fn routes(host: &str, users: &[&str]) -> String {
    let mut text = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: {}\n  \
         namespace: {NAMESPACE}\nspec:\n  hosts: [{host}]\n  http:\n",
        object_name(host)
    );
    for user in users {
        let _ = write!(
            text,
            "  - name: {user}\n    match: [{{headers: {{user: {{exact: {user}}}}}}}]\n    \
             route: [{{destination: {{host: {host}}}}}]\n"
        );
    }
    let _ = write!(
        text,
        "  - name: users\n    match: [{{headers: {{user: {{}}}}}}]\n    \
         route: [{{destination: {{host: {host}}}}}]\n"
    );
    let _ = write!(text, "  - name: rest\n    route: [{{destination: {{host: {host}}}}}]\n");
    text
}

/// A mapping of the route of this name of each host to links in order, with extra lines of its spec.
#[must_use]
pub fn mapping(hosts: &[&str], route: &str, links: &[&str], extra: &str) -> String {
    let mut text = format!(
        "---\napiVersion: clovisor.io/v1alpha1\nkind: WanMapping\nmetadata:\n  name: {route}\n  \
         namespace: {NAMESPACE}\nspec:\n  targetRefs:\n"
    );
    for host in hosts {
        let _ = writeln!(
            text,
            "  - {{group: networking.istio.io, kind: VirtualService, name: {}, sectionName: {route}}}",
            object_name(host)
        );
    }
    if !links.is_empty() {
        let _ = writeln!(text, "  links: [{}]", links.join(", "));
    }
    text + extra
}

/// Lines of a mapping's spec: users of a set go by these links.
#[must_use]
pub fn set_rule(name: &str, users: &[String], links: &[&str]) -> String {
    format!(
        "  rules:\n  - name: {name}\n    headers:\n    - name: user\n      in: [{}]\n    links: [{}]\n",
        users.join(", "),
        links.join(", ")
    )
}

/// Names `<prefix>00000`, `<prefix>00001`, …
#[must_use]
pub fn users(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number:05}")).collect()
}

/// Name of the objects of a host.
#[must_use]
pub fn object_name(host: &str) -> &str {
    host.split('.').next().unwrap_or(host)
}
