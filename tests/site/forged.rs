//! Nothing that an application writes buys it a link.

use crate::shop;
use anyhow::{Context as _, Result, ensure};
use clovisor_common::abi::dscp_of_class;
use harness::netns::Netns;
use harness::probe::Probe;
use harness::site::{APP_PORT, Site};
use std::net::IpAddr;

const HOST: &str = "h1v4.shop.svc.cluster.local";
const PROXY: u32 = 1337;
const APPLICATION: u32 = 1000;

/// Every class on sockets of the application's own, in a mapped pod, agent up and down: by the default route.
#[test]
fn an_applications_dscp_is_not_believed() -> Result<()> {
    Site::builder("forged").run(|site| {
        shop::apply(site)?;
        site.start_agent()?;
        let pod = site.pods[0].netns.clone();
        every_class(&pod, APPLICATION, "s8")?;
        let counted = site.agent()?.counted("untrusted_socket")?;
        // At least the SYN and the request of each of 16 classes and both families.
        ensure!(counted >= 64, "untrusted_socket counted {counted}");
        site.kill_agent()?;
        every_class(&pod, APPLICATION, "s8")?;
        site.start_agent()?;
        ensure!(site.agent()?.counted("untrusted_socket")? > counted, "not counted while the agent was away");
        Ok(())
    })
}

/// The control: the same packets from the proxy's socket are steered where a class exists, so the test above
/// would see a forger get through.
#[test]
fn the_proxys_dscp_is_believed_within_its_mapping() -> Result<()> {
    Site::builder("believed").run(|site| {
        shop::apply(site)?;
        site.start_agent()?;
        let pod = site.pods[0].netns.clone();
        let ask = |class, port| {
            let target = Site::service(false, port);
            Probe::new(target, HOST).uid(PROXY).dscp(dscp_of_class(class)).ask(&pod)
        };
        // Numbers follow the names: boss 1, minions 2, users/crew 3.
        for (class, link) in [(1, "s8"), (2, "s9"), (3, "s9")] {
            let answer = ask(class, APP_PORT)?;
            ensure!(answer.link()? == link, "class {class}: {answer:?}");
        }
        let answer = ask(9, APP_PORT)?;
        ensure!(answer.link()? == "s8", "a class that the namespace does not have: {answer:?}");
        ensure!(site.agent()?.counted("unknown_class")? > 0, "unknown_class not counted");
        Ok(())
    })
}

/// The proxy's uid, the right class, but a destination that no mapping names.
#[test]
fn a_class_counts_for_its_own_destinations_only() -> Result<()> {
    Site::builder("foreign").run(|site| {
        shop::apply(site)?;
        site.start_agent()?;
        // The far end's gateway address on s8 is no endpoint of a service.
        let target = "10.8.0.1:8000".parse().context("an address")?;
        let answer = Probe::new(target, HOST).uid(PROXY).dscp(dscp_of_class(2)).ask(&site.pods[0].netns)?;
        ensure!(answer.link()? == "s8", "{answer:?}");
        ensure!(site.agent()?.counted("foreign_destination")? > 0, "foreign_destination not counted");
        Ok(())
    })
}

/// A pod that no mapping governs may set what it likes, as any uid.
#[test]
fn an_unmapped_pod_cannot_buy_a_link() -> Result<()> {
    Site::builder("unmapped").pods(2).run(|site| {
        shop::apply(site)?;
        let bank = harness::objects::pods([&site.pods[1]]).replace("namespace: shop", "namespace: bank");
        let shop = harness::objects::pods([&site.pods[0]]);
        site.apply("3-pods.yaml", &(shop + &bank))?;
        site.start_agent()?;
        let stranger = site.pods[1].netns.clone();
        every_class(&stranger, PROXY, "s8")?;
        every_class(&stranger, APPLICATION, "s8")?;
        site.kill_agent()?;
        every_class(&stranger, PROXY, "s8")
    })
}

/// The proxy's uid and class from an address that is not the pod's.
#[test]
fn a_forged_source_address_is_not_steered() -> Result<()> {
    Site::builder("source").run(|site| {
        shop::apply(site)?;
        site.start_agent()?;
        let pod = site.pods[0].netns.clone();
        let forged: IpAddr = "10.244.0.77".parse().context("an address")?;
        pod.ip(&format!("addr add {forged}/32 dev eth0"))?;
        // So that the answer comes back: what is tested is the link, not the node's own filter.
        site.edge.ip(&format!("route add {forged}/32 dev {}", site.pods[0].veth))?;
        let probe = Probe::new(Site::service(false, APP_PORT), HOST).uid(PROXY).dscp(dscp_of_class(2));
        let answer = probe.source(forged).ask(&pod)?;
        ensure!(answer.link()? == "s8", "{answer:?}");
        ensure!(site.agent()?.counted("forged_source")? > 0, "forged_source not counted");
        Ok(())
    })
}

/// Header lines that the agent cannot decide on exactly: the route's own way, and the next request is as before.
#[test]
fn unclear_headers_are_not_guessed() -> Result<()> {
    Site::builder("unclear").run(|site| {
        shop::open(site)?;
        let target = Site::service(false, 8001);
        let ask = |lines: &[u8]| {
            let mut probe = Probe::new(target, "");
            probe.request =
                [b"GET / HTTP/1.1\r\nHost: h1v4.shop:8001\r\nConnection: close\r\n", lines, b"\r\n"].concat();
            probe.ask(&site.pods[0].netns)
        };
        let rows: [(&[u8], &str); 5] = [
            (b"user: crew-00042\r\n", "s9"),
            (b"user: crew-00042\xff\r\n", "s8"),
            (b"user: crew-00042\r\nuser: crew-00043\r\n", "s8"),
            (b"user: \xc3\xa9\r\n", "s8"),
            (b"user: crew-09999\r\n", "s9"),
        ];
        for (lines, link) in rows {
            let answer = ask(lines)?;
            ensure!(
                answer.status == 200 && answer.link()? == link,
                "{:?}: {answer:?}",
                String::from_utf8_lossy(lines)
            );
        }
        ensure!(site.agent()?.counted("callout_unclear_header")? == 2, "not counted");
        Ok(())
    })
}

/// All sixteen classes over both families must arrive by `link`, without their mark where the node is asked to
/// clear nothing: the application's own DSCP is the application's.
fn every_class(pod: &Netns, uid: u32, link: &str) -> Result<()> {
    for class in 1..=16 {
        for ipv6 in [false, true] {
            let target = Site::service(ipv6, APP_PORT);
            let answer = Probe::new(target, HOST).uid(uid).dscp(dscp_of_class(class)).ask(pod)?;
            ensure!(answer.link()? == link, "class {class}, uid {uid}, {target}: {answer:?}");
        }
    }
    Ok(())
}
