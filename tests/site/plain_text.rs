//! Where a DestinationRule asks for TLS that managed proxies do not have, nothing arrives in plain text.

use crate::shop::{self, SERVICES};
use anyhow::{Result, ensure};
use harness::load::Http;
use harness::site::Site;

/// The rule is for one port, as many are; the same port with `DISABLE` is the control.
#[test]
fn tls_of_a_port_never_arrives_in_plain_text() -> Result<()> {
    for (mode, arrives) in [("SIMPLE", false), ("DISABLE", true)] {
        Site::builder("plain-text").run(|site| {
            shop::apply(site)?;
            let service = SERVICES[0];
            let rule = format!(
                "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: tls, namespace: shop}}\n\
                 spec:\n  host: {}\n  trafficPolicy:\n    portLevelSettings:\n    \
                 - {{port: {{number: {}}}, tls: {{mode: {mode}}}}}\n",
                service.host, service.port
            );
            site.apply("5-rule.yaml", &rule)?;
            site.start_agent()?;
            site.start_proxy(0)?;
            let seen = shop::load(service, Http::H1, 200).run(&site.pods[0].netns)?;
            ensure!(seen.len() == 200, "{} of 200 requests", seen.len());
            let arrived = seen.iter().filter(|seen| seen.observed.is_some()).count();
            ensure!(arrived == if arrives { 200 } else { 0 }, "{mode}: {arrived} arrived");
            ensure!(arrives || seen.iter().all(|seen| seen.status == Some(503)), "not 503: {:?}", seen.first());
            let other = shop::run(site, SERVICES[1], Http::H1, 200)?;
            ensure!(other.clean(), "{other:#?}");
            Ok(())
        })?;
    }
    Ok(())
}
