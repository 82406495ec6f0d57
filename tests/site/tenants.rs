//! What one namespace, or a stranger, does to the others: nothing.

use crate::echo::{open, seen_as};
use anyhow::{Context as _, Result, ensure};
use harness::eventually::eventually;
use harness::objects;
use harness::site::Site;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::Duration;

/// More than the map of destinations has room for.
const ENDPOINTS: u32 = 17_000;

const VAULT: &str = "vault.bank.svc.cluster.local";

/// A mapped service of namespace `bank` with too many endpoints, and a pod of its.
fn bank(address: IpAddr) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: teller, namespace: bank, labels: {{app: teller}}}}\n\
         status: {{podIPs: [{{ip: {address}}}]}}\n"
    );
    text += &objects::service(VAULT, 8000, "HTTP", Site::service(false, 8000)).replace("shop", "bank");
    let list = text.find("  endpoints:\n").unwrap_or(text.len());
    text.truncate(list);
    text += "  endpoints:\n";
    for n in 0..ENDPOINTS {
        // Writing to a String cannot fail.
        let _ok = writeln!(text, "  - {{address: {}}}", Ipv4Addr::from((100 << 24) + n));
    }
    text += &objects::routes(VAULT, &[]).replace("shop", "bank");
    text + &objects::mapping(&[VAULT], "rest", &["s9"], "").replace("shop", "bank")
}

/// One namespace asks for more destinations than the map has room for: its own are not all in force, and that is said. The agent
/// starts, and the pods of another namespace are steered, those that come later too.
#[test]
fn a_map_that_one_namespace_fills_is_its_own_problem() -> Result<()> {
    Site::builder("full").pods(2).run(|site| {
        site.apply("2-bank.yaml", &bank(site.pods[1].addresses()[0]))?;
        open(site, "")?;
        let own = objects::pods(&site.pods[..1]);
        site.apply("3-pods.yaml", &own)?;
        eventually("the full map is told", Duration::from_secs(20), || {
            let status = site.agent()?.json("/v1/status")?;
            let problems = status["problems"].to_string();
            ensure!(status["ready"] == true && problems.contains("map DESTS is full"), "{problems}");
            Ok(())
        })?;
        let s9: IpAddr = "10.9.0.2".parse()?;
        ensure!(seen_as(site, false)? == s9, "not by s9");
        // Off and on again, as a pod that comes later.
        site.apply("3-pods.yaml", "")?;
        site.withdraw("3-pods.yaml")?;
        eventually("the pod is not steered", Duration::from_secs(20), || {
            let seen = seen_as(site, false)?;
            ensure!(seen != s9, "still by s9");
            Ok(())
        })?;
        site.apply("3-pods.yaml", &own)?;
        eventually("the pod is steered again", Duration::from_secs(20), || {
            let seen = seen_as(site, false)?;
            ensure!(seen == s9, "{seen}");
            Ok(())
        })
    })
}

const METRICS: &str = "127.0.0.1:9464";

/// Hundreds of requests that are never finished: others are answered, and the agent's memory does not grow with them.
#[test]
fn requests_that_are_never_finished_cost_the_agent_nothing() -> Result<()> {
    Site::builder("unfinished").listen(METRICS).run(|site| {
        open(site, "")?;
        let before = site.agent()?.memory()?;
        let half = site.edge.within(|| -> Result<Vec<TcpStream>> {
            let mut all = Vec::new();
            // As many as the kernel queues for a listener: the next ones would wait outside.
            for _ in 0..900 {
                let mut stream = TcpStream::connect(METRICS)?;
                // Who waits for a place may have been turned away already.
                let _sent = stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n");
                all.push(stream);
            }
            Ok(all)
        })??;
        let grown = site.agent()?.memory()?.saturating_sub(before);
        println!("{} unfinished requests: {grown} bytes more", half.len());
        ensure!(grown < 16 << 20, "{grown} bytes more");
        drop(half);
        eventually("a scrape", Duration::from_secs(20), || {
            site.edge.within(|| -> Result<()> {
                let mut stream = TcpStream::connect(METRICS)?;
                stream.set_read_timeout(Some(Duration::from_secs(2)))?;
                stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
                let text = std::io::read_to_string(stream).context("no answer")?;
                ensure!(text.starts_with("HTTP/1.0 200"), "{text}");
                Ok(())
            })?
        })
    })
}
