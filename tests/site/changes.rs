//! Uplinks whose address, gateway or device changes while they are in use.

use crate::shop;
use anyhow::{Context as _, Result, ensure};
use harness::eventually::eventually;
use harness::netns::run;
use harness::objects;
use harness::site::Site;
use harness::summary::Summary;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Requests of the minions, who go by s9, and the addresses that these came from.
fn minions(site: &Site) -> Result<(Summary, BTreeSet<IpAddr>)> {
    let load = shop::minions(200);
    let callers = load.callers.clone();
    let seen = load.run(&site.pods[0].netns)?;
    let sources =
        seen.iter().filter_map(|seen| seen.observed.as_ref()).map(|observed| observed.source.ip()).collect();
    Ok((harness::summary::summarize(&callers, &seen), sources))
}

fn s9(site: &mut Site) -> Result<Value> {
    let links = site.agent()?.links()?;
    links.into_iter().find(|link| link["name"] == "s9").context("no s9")
}

/// As after a DHCP lease that was not renewed: new connections leave with the new address, without a restart.
#[test]
fn a_new_address_is_followed() -> Result<()> {
    Site::builder("address").run(|site| {
        shop::open(site)?;
        let (summary, sources) = minions(site)?;
        ensure!(
            summary.clean() && sources == BTreeSet::from([[10, 9, 0, 2].into()]),
            "{sources:?} {summary:#?}"
        );
        site.edge.ip("addr del 10.9.0.2/24 dev s9\naddr add 10.9.0.77/24 dev s9\n")?;
        eventually("the new address", Duration::from_secs(5), || {
            let link = s9(site)?;
            ensure!(link["sources"][0] == "10.9.0.77" && link["state"] == "Up", "{link}");
            Ok(())
        })?;
        shop::reconnect(site)?;
        let (summary, sources) = minions(site)?;
        ensure!(
            summary.clean() && sources == BTreeSet::from([[10, 9, 0, 77].into()]),
            "{sources:?} {summary:#?}"
        );
        Ok(())
    })
}

/// `gateway` not given: from the routes through the device, whatever they become.
#[test]
fn the_gateway_of_the_routes_is_followed() -> Result<()> {
    Site::builder("auto-gateway").run(|site| {
        shop::apply(site)?;
        site.apply("1-links.yaml", &(objects::link("s8", "") + &objects::link_by_routes("s9")))?;
        site.edge
            .ip("route add default via 10.9.0.1 metric 200\nroute add ::/0 via fd00:9::1 metric 2000\n")?;
        site.start_agent()?;
        site.start_proxy(0)?;
        for (gateway, other) in [("10.9.0.1", "10.9.0.100"), ("10.9.0.100", "10.9.0.1")] {
            eventually("the gateway of the route", Duration::from_secs(5), || {
                let link = s9(site)?;
                ensure!(link["gateways"][0] == gateway && link["state"] == "Up", "{link}");
                Ok(())
            })?;
            let (summary, _) = minions(site)?;
            ensure!(summary.clean(), "by {gateway}: {summary:#?}");
            site.edge.ip(&format!("route replace default via {other} dev s9 metric 200\n"))?;
        }
        // Without a route there is no gateway of this family.
        site.edge.ip("route del default dev s9\nroute del ::/0 dev s9\n")?;
        site.agent()?.wait_link("s9", "Down")
    })
}

/// A modem that is unplugged and plugged in again: another device of the same name, or even of the same number. Not half
/// a second later the programs are on it, and the next connection takes it.
#[test]
fn a_device_that_is_made_again_is_attached_again() -> Result<()> {
    for attach in ["tcx", "clsact"] {
        Site::builder(&format!("remade-{attach}")).attach(attach).run(|site| {
            shop::open(site)?;
            for same_number in [false, true] {
                let number = if same_number { format!("index {}", ifindex(site)?) } else { String::new() };
                let cloud = site.cloud.name().to_owned();
                site.edge.ip(&format!(
                    "link del s9\nlink add s9 {number} address 02:00:00:00:09:02 type veth \
                     peer name s9 address 02:00:00:00:09:01 netns {cloud}\n"
                ))?;
                site.cloud.ip(
                    "addr add 10.9.0.1/24 dev s9\naddr add fd00:9::1/64 dev s9 nodad\nlink set s9 up\n",
                )?;
                site.edge.ip(
                    "addr add 10.9.0.2/24 dev s9\naddr add fd00:9::2/64 dev s9 nodad\nlink set s9 up\n",
                )?;
                let start = Instant::now();
                let name = run(site.edge.command("ip").args(["-o", "link", "show", "s9"]), None)?;
                eventually("programs on s9", Duration::from_secs(5), || {
                    let status = site.agent()?.json("/v1/status")?;
                    let on = |a: &&Value| a["device"] == "s9" && a["origin"] == "Fresh";
                    let attached = status["attachments"].as_array().map(Vec::as_slice).unwrap_or_default();
                    ensure!(attached.iter().filter(on).count() == 2, "{name}: {status:#}");
                    Ok(())
                })?;
                let took = start.elapsed();
                println!("{attach}, same number {same_number}: attached after {took:?}");
                ensure!(took < Duration::from_millis(500), "{attach}: {took:?}");
                // The kernel itself may take a second to activate a device whose carrier came.
                site.agent()?.wait_gateways("s9", 2)?;
                shop::reconnect(site)?;
                let (summary, _) = minions(site)?;
                ensure!(summary.clean(), "{attach}, same number {same_number}: {summary:#?}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn ifindex(site: &Site) -> Result<u32> {
    let line = run(site.edge.command("ip").args(["-o", "link", "show", "s9"]), None)?;
    line.split(':').next().and_then(|n| n.trim().parse().ok()).context("no ifindex")
}

/// A device that only has another name is the same device.
#[test]
fn a_renamed_device_is_another_links() -> Result<()> {
    Site::builder("renamed").run(|site| {
        shop::open(site)?;
        site.edge.ip("link set s9 down\nlink set s9 name wwan0\nlink set wwan0 up\n")?;
        site.agent()?.wait_link("s9", "Down")?;
        let link = s9(site)?;
        ensure!(link["reason"].as_str().is_some_and(|r| r.contains("does not exist")), "{link}");
        let links = objects::link("s8", "") + &objects::link("s9", "").replace("device: s9", "device: wwan0");
        site.apply("1-links.yaml", &links)?;
        site.agent()?.wait_link("s9", "Up")?;
        shop::reconnect(site)?;
        let (summary, _) = minions(site)?;
        ensure!(summary.clean(), "{summary:#?}");
        Ok(())
    })
}
