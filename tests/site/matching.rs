//! The matcher in Rust and the real Envoy say the same of every request.

/// The rows.
mod table;

use anyhow::{Context, Result, ensure};
use clovisor_objects::folder::read_once;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::reason::ProblemReason;
use clovisor_policy::allocation::Allocation;
use clovisor_policy::compile::{Purpose, compile};
use clovisor_policy::explain::explain;
use clovisor_policy::matcher::Request;
use clovisor_policy::model::Policy;
use harness::objects;
use harness::probe::Probe;
use harness::site::{APP_PORT, Site};
use std::fmt::Write as _;
use table::{HTTP_ROWS, ROWS, Row};

/// A host per row, whose route `yes` is mapped to s9; the far end's link is Envoy's word.
#[test]
fn the_matcher_and_envoy_agree() -> Result<()> {
    ensure!(ROWS.len() >= 71, "only {} rows", ROWS.len());
    agree("matching", ROWS, &virtual_service, "networking.istio.io, kind: VirtualService")
}

/// The same for the Gateway API's conditions.
#[test]
fn the_matcher_and_envoy_agree_on_http_routes() -> Result<()> {
    agree("matching-http", HTTP_ROWS, &http_route, "gateway.networking.k8s.io, kind: HTTPRoute")
}

fn agree(name: &str, table: &[Row], route: &dyn Fn(&str, &Row) -> String, kind: &str) -> Result<()> {
    Site::builder(name).run(|site| {
        site.apply("1-links.yaml", &(objects::link("s8", "") + &objects::link("s9", "")))?;
        site.apply("2-pods.yaml", &objects::pods(&site.pods))?;
        let vs = "networking.istio.io, kind: VirtualService";
        site.apply("3-rows.yaml", &rows(table, route).replace(vs, kind))?;
        site.start_agent()?;
        site.start_proxy(0)?;
        let snapshot = read_once(&site.path("config"))?;
        let (compiled, _) = compile(&snapshot, &Allocation::default(), 1, Purpose::default());
        // Some rows are there to be never taken.
        let refused: Vec<_> =
            compiled.problems.iter().filter(|p| p.reason != ProblemReason::RuleNotEffective).collect();
        ensure!(refused.is_empty(), "refused: {refused:#?}");
        let mut wrong = String::new();
        for (number, row) in table.iter().enumerate() {
            let envoy = by_envoy(site, number, row).with_context(|| format!("{row:?}"))?;
            let rust = by_rust(&compiled.policy, number, row);
            if envoy != row.holds || rust != row.holds {
                writeln!(wrong, "{row:?}: Envoy says {envoy}, Rust says {rust}")?;
            }
        }
        ensure!(wrong.is_empty(), "of {} rows:\n{wrong}", table.len());
        Ok(())
    })
}

fn host(number: usize) -> String {
    format!("r{number}.shop.svc.cluster.local")
}

fn rows(table: &[Row], route: &dyn Fn(&str, &Row) -> String) -> String {
    let hosts: Vec<_> = (0..table.len()).map(host).collect();
    let mut text = String::new();
    for (host, row) in hosts.iter().zip(table) {
        text += &objects::service(host, APP_PORT, "HTTP", Site::service(false, APP_PORT));
        text += &route(host, row);
    }
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    for (n, some) in hosts.chunks(TARGETS).enumerate() {
        text += &objects::mapping(some, "'yes'", &["s9"], "").replacen(
            "name: 'yes'",
            &format!("name: rows-{n}"),
            1,
        );
    }
    text
}

/// Of one mapping at most.
const TARGETS: usize = 64;

fn virtual_service(host: &str, row: &Row) -> String {
    let route = format!("route: [{{destination: {{host: {host}}}}}]");
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {}, namespace: shop}}\n\
         spec:\n  hosts: [{host}]\n  http:\n  - name: 'yes'\n    match: [{}]\n    {route}\n  - name: 'no'\n    {route}\n",
        objects::object_name(host),
        row.blocks.replace("HOST", host),
    )
}

fn http_route(host: &str, row: &Row) -> String {
    let name = objects::object_name(host);
    let backend = format!("backendRefs: [{{name: {name}, port: {APP_PORT}}}]");
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  parentRefs: [{{group: '', kind: Service, name: {name}}}]\n  rules:\n  \
         - name: 'yes'\n    matches: [{}]\n    {backend}\n  - name: 'no'\n    {backend}\n",
        row.blocks,
    )
}

fn by_envoy(site: &Site, number: usize, row: &Row) -> Result<bool> {
    let mut probe = Probe::new(Site::service(false, APP_PORT), "");
    let mut request =
        format!("{} {} HTTP/1.1\r\nHost: {}:{APP_PORT}\r\n", row.method, row.path, host(number));
    request += "Connection: close\r\nContent-Length: 0\r\n";
    probe.request = request.into_bytes();
    for (name, value) in row.headers {
        probe.request.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    probe.request.extend(b"\r\n");
    let answer = probe.ask(&site.pods[0].netns)?;
    Ok(answer.link()? == "s9")
}

fn by_rust(policy: &Policy, number: usize, row: &Row) -> bool {
    let pod = ObjectKey { namespace: "shop".into(), name: "client-0".into() };
    let labels = policy.pods.get(&pod).map(|pod| pod.labels.clone()).unwrap_or_default();
    let authority = format!("{}:{APP_PORT}", host(number));
    let names: Vec<_> = row.headers.iter().map(|(name, value)| (name.to_lowercase(), *value)).collect();
    let headers: Vec<_> = names.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let request = Request { method: row.method, authority: &authority, path: row.path, headers: &headers };
    explain(policy, &pod, &labels, &request).class.is_some()
}
