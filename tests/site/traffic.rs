//! Mappings of traffic: pods without a proxy, protocols without requests.

use anyhow::{Context, Result, bail, ensure};
use harness::eventually::eventually;
use harness::load::{Caller, Http, Load};
use harness::netns::run;
use harness::objects;
use harness::site::{APP_PORT, Site};
use harness::summary::summarize;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Port of the far end's UDP echo.
pub(crate) const ECHO: u16 = 5060;

/// Everything that goes to the service over TCP, UDP's echo port and pings by s9.
pub(crate) const MAPPING: &str = "---
apiVersion: clovisor.io/v1alpha1
kind: WanMapping
metadata: {name: till, namespace: shop}
spec:
  traffic:
    pods: {app: client}
    destinations:
    - {cidr: 203.0.113.0/24}
    - {cidr: 203.0.113.10/32, protocol: UDP, port: 5060, endPort: 5061}
    - {cidr: 203.0.113.0/24, protocol: ICMP}
    - {cidr: 2001:db8:cafe::/48}
    - {cidr: 2001:db8:cafe::/48, protocol: UDP}
    - {cidr: 2001:db8:cafe::/48, protocol: ICMP}
  links: [s9, s8]
";

/// What arrives in the cloud, by link and protocol; answers of the other way are not seen here.
const COUNTERS: &str = "
table inet seen {
  counter udp8 { }
  counter udp9 { }
  counter ping8 { }
  counter ping9 { }
  chain input {
    type filter hook prerouting priority -300;
    iifname \"s8\" udp dport 5060 counter name udp8
    iifname \"s9\" udp dport 5060 counter name udp9
    iifname \"s8\" icmp type echo-request counter name ping8
    iifname \"s9\" icmp type echo-request counter name ping9
    iifname \"s8\" icmpv6 type echo-request counter name ping8
    iifname \"s9\" icmpv6 type echo-request counter name ping9
  }
}
";

pub(crate) fn counted(site: &Site, name: &str) -> Result<usize> {
    let list = run(site.cloud.command("nft").args(["list", "counters"]), None)?;
    let after = list.split_once(&format!("counter {name} ")).map(|(_, rest)| rest);
    let packets = after.and_then(|rest| rest.split_once("packets ")).and_then(|(_, n)| n.split(' ').next());
    packets.and_then(|n| n.parse().ok()).with_context(|| format!("no counter {name} in {list}"))
}

pub(crate) fn open(site: &mut Site, mapping: &str) -> Result<()> {
    site.apply("1-links.yaml", &(objects::link("s8", "") + &objects::link("s9", "")))?;
    site.apply("3-pods.yaml", &objects::pods(&site.pods))?;
    site.apply("4-mappings.yaml", mapping)?;
    site.start_agent()?;
    site.cloud.nft(COUNTERS)?;
    for ipv6 in [false, true] {
        let address = Site::service(ipv6, ECHO);
        let socket = site.cloud.within(move || UdpSocket::bind(address))?.context("cannot bind the echo")?;
        std::thread::spawn(move || {
            let mut room = [0; 2048];
            // Ends with the process: a test's echo has nothing to tidy up.
            while let Ok((len, from)) = socket.recv_from(&mut room) {
                let _answered = room.get(..len).map(|bytes| socket.send_to(bytes, from));
            }
        });
    }
    let range = [("net/ipv4/ping_group_range", "0 2147483647")];
    site.pods.iter().try_for_each(|pod| pod.netns.sysctl(&range))
}

/// So many datagrams from so many sockets, each answered with itself.
pub(crate) fn datagrams(site: &Site, ipv6: bool, sockets: usize, each: usize) -> Result<()> {
    let work = || -> Result<()> {
        for n in 0..sockets {
            let any: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind(SocketAddr::new(any, 0)).context("cannot bind")?;
            socket.set_read_timeout(Some(Duration::from_secs(5))).context("cannot set a timeout")?;
            socket.connect(Site::service(ipv6, ECHO)).context("cannot connect")?;
            for m in 0..each {
                let sent = vec![m as u8; 10 + n * 20];
                socket.send(&sent).context("cannot send")?;
                let mut room = [0; 2048];
                let len = socket.recv(&mut room).with_context(|| format!("datagram {m} of socket {n}"))?;
                ensure!(room.get(..len) == Some(&sent[..]), "another answer");
            }
        }
        Ok(())
    };
    site.pods[0].netns.within(work)?
}

/// Echo requests, each answered.
pub(crate) fn pings(site: &Site, ipv6: bool, count: u8) -> Result<()> {
    let work = || -> Result<()> {
        let (domain, protocol, kind) = match ipv6 {
            true => (Domain::IPV6, Protocol::ICMPV6, 128),
            false => (Domain::IPV4, Protocol::ICMPV4, 8),
        };
        let socket = Socket::new(domain, Type::DGRAM, Some(protocol)).context("no ping socket")?;
        socket.set_read_timeout(Some(Duration::from_secs(5))).context("cannot set a timeout")?;
        socket.connect(&Site::service(ipv6, 0).into()).context("cannot connect")?;
        for n in 0..count {
            socket.send(&[kind, 0, 0, 0, 0, 0, 0, n, 1, 2, 3, 4]).context("cannot send")?;
            let mut room = [std::mem::MaybeUninit::uninit(); 64];
            let len = socket.recv(&mut room).with_context(|| format!("no answer to ping {n}"))?;
            ensure!(len == 12, "an answer of {len} bytes");
        }
        Ok(())
    };
    site.pods[0].netns.within(work)?
}

pub(crate) fn tcp(site: &Site, ipv6: bool, link: &str) -> Result<()> {
    let callers = vec![Caller::user("till", link)];
    let load =
        Load::new(Site::service(ipv6, APP_PORT), "far.end", callers.clone()).over(Http::H1).requests(300);
    let summary = summarize(&callers, &load.run(&site.pods[0].netns)?);
    ensure!(summary.clean() && summary.requests == 300, "{summary:#?}");
    Ok(())
}

/// Without a proxy, by destination: TCP, UDP and pings of both families by the mapping's link; sessions say so. When
/// the link is cut the next datagram and the next connection take the other one.
#[test]
fn pods_without_a_proxy_are_steered_by_destination() -> Result<()> {
    Site::builder("traffic").run(|site| {
        open(site, MAPPING)?;
        for ipv6 in [false, true] {
            tcp(site, ipv6, "s9")?;
            datagrams(site, ipv6, 20, 5)?;
            pings(site, ipv6, 10)?;
        }
        let seen = ["udp8", "udp9", "ping8", "ping9"].map(|name| counted(site, name).unwrap_or(usize::MAX));
        ensure!(seen == [0, 200, 0, 20], "{seen:?}");
        let words = ["explain", "--pod", "shop/client-0", "--host", "203.0.113.10:5060", "--protocol", "udp"];
        let said = harness::agent::ctl(&site.path(""), &words)?;
        ensure!(said.contains("WanMapping till covers 203.0.113.10/32 ports 5060-5061"), "{said}");
        let sessions = site.agent()?.sessions()?;
        for protocol in ["TCP", "UDP", "ICMP"] {
            let by = |s: &&Value| s["protocol"] == protocol && s["link"] == "s9" && s["className"] == "till";
            // TCP's are over by now, or will be.
            ensure!(protocol == "TCP" || sessions.iter().any(|s| by(&s)), "no {protocol}: {sessions:#?}");
        }
        site.carrier("s9", false)?;
        eventually("s9 is down", Duration::from_secs(5), || {
            match site.agent()?.link_state("s9")?.as_str() {
                "Down" => Ok(()),
                other => bail!("{other}"),
            }
        })?;
        for ipv6 in [false, true] {
            tcp(site, ipv6, "s8")?;
            datagrams(site, ipv6, 5, 2)?;
            pings(site, ipv6, 5)?;
        }
        let seen = ["udp8", "udp9", "ping8", "ping9"].map(|name| counted(site, name).unwrap_or(usize::MAX));
        ensure!(seen == [20, 200, 10, 20], "after the cut: {seen:?}");
        Ok(())
    })
}

/// The control: pods of other labels, and other ports, take the default route.
#[test]
fn others_take_the_default_route() -> Result<()> {
    Site::builder("traffic-others").run(|site| {
        open(site, &MAPPING.replace("app: client", "app: another"))?;
        tcp(site, false, "s8")?;
        datagrams(site, false, 5, 2)?;
        pings(site, false, 5)?;
        site.apply("4-mappings.yaml", &MAPPING.replace("port: 5060, endPort: 5061", "port: 5061"))?;
        let is_set_up =
            |s: &Value| s["policyGeneration"].as_u64() > Some(1) && s["problems"] == Value::Array(vec![]);
        eventually("the other policy", Duration::from_secs(10), || {
            let status = site.agent()?.json("/v1/status")?;
            ensure!(is_set_up(&status), "{status:#}");
            Ok(())
        })?;
        datagrams(site, false, 5, 2)?;
        let seen = ["udp8", "udp9", "ping8", "ping9"].map(|name| counted(site, name).unwrap_or(usize::MAX));
        ensure!(seen == [20, 0, 5, 0], "{seen:?}");
        Ok(())
    })
}
