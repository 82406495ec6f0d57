//! Ports of translated connections and the node's own sockets.

use crate::shop;
use anyhow::{Context as _, Result, ensure};
use harness::agent::{cleanup, cleanup_plan};
use harness::eventually::eventually;
use harness::load::Http;
use harness::site::Site;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Where the default `--nat-ports`, 1024-29999, and the sockets' range meet.
const SHARED: RangeInclusive<u16> = 20_000..=29_999;
/// What somebody reserved before.
const BEFORE: &str = "80,20100-20200\n";
const RESERVED: &str = "80,20000-29999\n";

fn overlap(site: &Site) -> Result<()> {
    site.edge.sysctl(&[
        ("net/ipv4/ip_local_port_range", "20000 40000"),
        ("net/ipv4/ip_local_reserved_ports", BEFORE),
    ])
}

fn reserved(site: &Site) -> Result<String> {
    let read = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports");
    site.edge.within(read)?.context("no list of reserved ports")
}

/// How many of the sockets that choose no port get a shared one: connections, and datagrams.
fn taken(site: &Site) -> Result<usize> {
    site.edge.within(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
        let target = listener.local_addr().context("no address")?;
        let mut ports = Vec::new();
        for _ in 0..1000 {
            let stream = TcpStream::connect(target).context("cannot connect")?;
            listener.accept().context("cannot accept")?;
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot bind")?;
            ports.push(stream.local_addr().context("no address")?.port());
            ports.push(socket.local_addr().context("no address")?.port());
        }
        Ok(ports.iter().filter(|port| SHARED.contains(port)).count())
    })?
}

/// They are reserved, again after somebody wrote another list, and taken back to the byte.
#[test]
fn nat_ports_are_kept_from_the_nodes_sockets() -> Result<()> {
    Site::builder("ports").run(|site| {
        overlap(site)?;
        ensure!(taken(site)? > 100, "the control: sockets take shared ports");
        shop::open(site)?;
        ensure!(reserved(site)? == RESERVED, "{}", reserved(site)?);
        let taken_now = taken(site)?;
        ensure!(taken_now == 0, "{taken_now} sockets have shared ports");
        let summary = shop::run(site, shop::SERVICES[0], Http::H1, 100)?;
        ensure!(summary.clean(), "{summary:#?}");
        for (list, address) in [(BEFORE, "192.0.2.1"), ("81\n", "192.0.2.2"), (BEFORE, "192.0.2.3")] {
            site.edge.sysctl(&[("net/ipv4/ip_local_reserved_ports", list)])?;
            // Settings send no events: with the next change of the network they are looked at.
            site.edge.ip(&format!("address add {address}/32 dev lo\n"))?;
            let wanted = RESERVED.replace("80", list.trim().split(',').next().unwrap_or_default());
            eventually("ports reserved again", Duration::from_secs(15), || {
                let now = reserved(site)?;
                ensure!(now == wanted, "{now} after {list}");
                Ok(())
            })?;
        }
        site.kill_agent()?;
        ensure!(reserved(site)? == RESERVED, "they stay with the connections: {}", reserved(site)?);
        // A later agent knows that they are its own.
        site.start_agent()?;
        site.kill_agent()?;
        let said = cleanup_plan(&site.edge, &site.path(""))?;
        let part = "ports 20000-20099,20201-29999 of net.ipv4.ip_local_reserved_ports";
        ensure!(said.contains(part) && reserved(site)? == RESERVED, "{said}");
        let said = cleanup(&site.edge, &site.path(""))?;
        ensure!(reserved(site)? == BEFORE, "{} after {said}", reserved(site)?);
        let left = site.path("run/reserved-ports.json");
        ensure!(!left.exists(), "{} is left", left.display());
        Ok(())
    })
}

/// Where `/proc/sys` cannot be written the log says how to do it, and nothing is noted.
#[test]
fn the_command_is_named_where_settings_are_read_only() -> Result<()> {
    Site::builder("ports-sealed").read_only_sysctls().run(|site| {
        overlap(site)?;
        shop::open(site)?;
        let log = std::fs::read_to_string(site.path("logs/agent.log")).context("no log")?;
        let command = "sysctl -w net.ipv4.ip_local_reserved_ports=80,20000-29999";
        ensure!(log.matches(command).count() == 1 && log.contains("Read-only"), "{log}");
        ensure!(reserved(site)? == BEFORE, "{}", reserved(site)?);
        ensure!(!site.path("run/reserved-ports.json").exists(), "noted what was not done");
        Ok(())
    })
}
