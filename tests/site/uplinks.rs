//! Uplinks of other kinds than a plain Ethernet device.

use crate::shop::{self, SERVICES};
use anyhow::{Context as _, Result, ensure};
use harness::load::Http;
use harness::netns::run;
use harness::objects;
use harness::site::{Site, Uplink};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Bytes of a stream each way.
const STREAM: usize = 3_000_000;

fn opened(site: &mut Site, nat: &str) -> Result<()> {
    shop::apply(site)?;
    let links = objects::link("s8", "") + &objects::link("s9", nat);
    site.apply("1-links.yaml", &links)?;
    site.apply("5-stream.yaml", STREAMS)?;
    site.start_agent()?;
    site.start_proxy(0)
}

/// Connections to this port go by s9, from any user but the proxy.
const STREAMS: &str = "---
apiVersion: clovisor.io/v1alpha1
kind: WanMapping
metadata: {name: streams, namespace: shop}
spec:
  traffic:
    destinations:
    - {cidr: 203.0.113.0/24, port: 9000}
    - {cidr: \"2001:db8:cafe::/48\", port: 9000}
  links: [s9]
";

/// Packets of all sizes, both ways, past the proxy; what comes back is what was sent.
fn stream(site: &Site, ipv6: bool) -> Result<()> {
    let address = Site::service(ipv6, 9000);
    let listener = site.cloud.within(move || TcpListener::bind(address))?.context("cannot listen")?;
    let echo = std::thread::spawn(move || -> Result<()> {
        let (stream, _) = listener.accept()?;
        std::io::copy(&mut &stream, &mut &stream)?;
        Ok(())
    });
    // The proxy's own user is not redirected to the proxy.
    let mut client =
        site.pods[0].netns.within(move || TcpStream::connect(address))?.context("no connection")?;
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    let sent: Vec<u8> = (0..STREAM).map(|n| (n % 251) as u8).collect();
    let mut writer = client.try_clone()?;
    let copy = sent.clone();
    let writing = std::thread::spawn(move || -> Result<()> {
        writer.write_all(&copy)?;
        Ok(writer.shutdown(std::net::Shutdown::Write)?)
    });
    let mut got = Vec::new();
    client.read_to_end(&mut got).context("the stream stands still")?;
    for thread in [writing, echo] {
        thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    }
    ensure!(got == sent, "{} bytes came back, or others", got.len());
    Ok(())
}

/// Every kind, with and without translation: each request by its link, and long streams of full packets.
#[test]
fn links_of_every_kind_carry_requests_and_streams() -> Result<()> {
    for (name, uplink) in [("macvlan", Uplink::Macvlan), ("vxlan", Uplink::Vxlan), ("tun", Uplink::Tun)] {
        for nat in ["", "  nat: None\n"] {
            let site = format!("{name}{}", nat.len());
            Site::builder(&site).uplink(uplink).run(|site| {
                opened(site, nat)?;
                for service in SERVICES {
                    let summary = shop::run(site, service, Http::H2, 300)?;
                    ensure!(summary.clean(), "{service:?}: {summary:#?}");
                }
                // Streams are not the proxy's here.
                run(site.pods[0].netns.command("nft").args(["flush", "ruleset"]), None)?;
                for ipv6 in [false, true] {
                    stream(site, ipv6).with_context(|| format!("{name}, {nat}, IPv6 {ipv6}"))?;
                }
                let by_s9 = |s: &serde_json::Value| s["link"] == "s9" && s["className"] == "streams";
                let links = site.agent()?.links()?;
                let s9 = links.iter().find(|link| link["name"] == "s9").context("no s9")?;
                ensure!(s9["txBytes"].as_u64() > Some(2 * STREAM as u64), "{s9}");
                let sessions = site.agent()?.sessions()?;
                ensure!(sessions.iter().all(|s| s["className"] != "streams" || by_s9(s)), "{sessions:#?}");
                Ok(())
            })?;
        }
    }
    Ok(())
}
