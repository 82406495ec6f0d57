//! Connections past any proxy: idle ones whose link dies, ones under way that move, many that a neighbour floods around,
//! and pods that have the same ports or addresses.

use crate::echo::{MAPPING, by_link, dial, open, says};
use anyhow::{Context as _, Result, anyhow, ensure};
use harness::eventually::eventually;
use harness::netns::run;
use harness::objects;
use harness::site::Site;
use serde_json::Value;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Nobody sends anything: those who own the connections learn within a moment that these are over. The control: while the
/// agent hangs, they do not.
#[test]
fn idle_connections_of_a_dead_link_are_told() -> Result<()> {
    Site::builder("idle").run(|site| {
        open(site, "")?;
        let mut all = Vec::new();
        for ipv6 in [false, true] {
            for _ in 0..20 {
                let mut stream = dial(site, 0, ipv6, 0)?;
                says(&mut stream, b"one")?;
                all.push(stream);
            }
        }
        ensure!(by_link(site, "s9")? == 40, "not by s9");
        site.agent()?.hang()?;
        site.carrier("s9", false)?;
        let first = all.first_mut().context("no connection")?;
        first.set_read_timeout(Some(Duration::from_secs(2)))?;
        let error = first.read(&mut [0; 8]).map_err(|error| error.kind());
        ensure!(error == Err(ErrorKind::WouldBlock), "told while the agent hangs: {error:?}");
        site.agent()?.wake()?;
        let start = Instant::now();
        for stream in &mut all {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let error = stream.read(&mut [0; 8]).map_err(|error| error.kind());
            ensure!(error == Err(ErrorKind::ConnectionReset), "{error:?} after {:?}", start.elapsed());
        }
        println!("40 idle connections told after {:?}", start.elapsed());
        ensure!(by_link(site, "s9")? == 0, "still shown");
        let mut again = dial(site, 0, false, 0)?;
        says(&mut again, b"by s8")?;
        ensure!(by_link(site, "s8")? == 1, "not by s8");
        Ok(())
    })
}

/// A link that the mapping may not use any more is left at once, though it is up: by the connections that say nothing too.
/// The control: while the mapping has it, they stay, also where another link is first by now.
#[test]
fn connections_leave_a_link_that_their_mapping_lost() -> Result<()> {
    Site::builder("lost").run(|site| {
        open(site, "")?;
        let mut all = Vec::new();
        for n in 0..20 {
            let mut stream = dial(site, 0, n % 2 == 0, 0)?;
            says(&mut stream, b"one")?;
            all.push(stream);
        }
        ensure!(by_link(site, "s9")? == 20, "not by s9");
        site.apply("4-mappings.yaml", &MAPPING.replace("[s9, s8]", "[s8, s9]"))?;
        let mut new = dial(site, 0, false, 0)?;
        eventually("new connections by s8", Duration::from_secs(5), || {
            new = dial(site, 0, false, 0)?;
            says(&mut new, b"new")?;
            ensure!(by_link(site, "s8")? > 0, "none");
            Ok(())
        })?;
        for stream in &mut all {
            says(stream, b"two").context("while the mapping has the link")?;
        }
        ensure!(by_link(site, "s9")? >= 20, "they left a link that the mapping has");
        site.apply("4-mappings.yaml", &MAPPING.replace("[s9, s8]", "[s8]"))?;
        for stream in &mut all {
            let error = stream.read(&mut [0; 8]).map_err(|error| error.kind());
            ensure!(error == Err(ErrorKind::ConnectionReset), "{error:?}");
        }
        ensure!(by_link(site, "s9")? == 0, "still by s9");
        says(&mut new, b"goes on").context("on the link that the mapping still has")
    })
}

/// A NetworkPolicy for what pods send would be bypassed by a redirect: its namespace's connections leave redirected links
/// until that is accepted. The control: one for what they receive changes nothing.
#[test]
fn a_network_policy_needs_a_word() -> Result<()> {
    const POLICY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
                          metadata: {name: walled, namespace: shop}\n\
                          spec: {podSelector: {}, policyTypes: [Ingress], egress: []}\n";
    Site::builder("walled").run(|site| {
        open(site, "")?;
        let mut old = dial(site, 0, false, 0)?;
        says(&mut old, b"one")?;
        let before = site.agent()?.json("/v1/status")?["policyGeneration"].as_u64();
        site.apply("5-policy.yaml", POLICY)?;
        eventually("the policy is read", Duration::from_secs(5), || {
            let now = site.agent()?.json("/v1/status")?["policyGeneration"].as_u64();
            ensure!(now > before, "still {now:?}");
            Ok(())
        })?;
        says(&mut old, b"two").context("with a policy for what pods receive")?;
        ensure!(by_link(site, "s9")? == 1, "left for a policy for what pods receive");
        site.apply("5-policy.yaml", &POLICY.replace("Ingress", "Egress"))?;
        let error = old.read(&mut [0; 8]).map_err(|error| error.kind());
        ensure!(error == Err(ErrorKind::ConnectionReset), "goes on past the policy: {error:?}");
        for link in site.agent()?.links()? {
            let reason = link["reason"].as_str().unwrap_or_default();
            ensure!(link["state"] == "Up" && reason.contains("shop (walled)"), "{link}");
        }
        let mut new = dial(site, 0, false, 0)?;
        says(&mut new, b"by the default route")?;
        ensure!(by_link(site, "s9")? + by_link(site, "s8")? == 0, "redirected past the policy");
        let accepted = "  policyBypass: Accepted\n";
        site.apply("1-links.yaml", &(objects::link("s8", accepted) + &objects::link("s9", accepted)))?;
        eventually("by the link where that is accepted", Duration::from_secs(5), || {
            // Open while it is looked for.
            new = dial(site, 0, false, 0)?;
            says(&mut new, b"three")?;
            ensure!(by_link(site, "s9")? > 0, "not by s9");
            Ok(())
        })
    })
}

/// A link that was silent for a second and a half before it is down: the stream that moves goes on at once, not when its
/// sender's timer, doubled three times by then, runs out.
#[test]
fn a_stream_that_moves_does_not_wait_for_its_timer() -> Result<()> {
    for ipv6 in [false, true] {
        Site::builder(&format!("kick-{ipv6}")).run(|site| {
            open(site, "  nat: None\n")?;
            let mut stream = dial(site, 0, ipv6, 0)?;
            says(&mut stream, b"before")?;
            ensure!(by_link(site, "s9")? == 1, "not by s9");
            site.cloud.nft("table inet hole {\nchain in { type filter hook prerouting priority -300;\niifname s9 drop\n}\n}\n")?;
            stream.write_all(b"lost on the way")?;
            let cut = Instant::now() + Duration::from_millis(1600);
            let mut room = [0; 15];
            stream.set_read_timeout(Some(Duration::from_millis(1600)))?;
            let error = stream.read(&mut room).map_err(|error| error.kind());
            ensure!(error == Err(ErrorKind::WouldBlock), "the hole lets packets through: {error:?}");
            site.carrier("s9", false)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.read_exact(&mut room).context("the stream stands still")?;
            let stall = cut.elapsed();
            println!("IPv6 {ipv6}: goes on {stall:?} after the cut");
            // Its next attempt would be 1.4 s after the cut.
            ensure!(&room == b"lost on the way" && stall < Duration::from_secs(1), "after {stall:?}");
            says(&mut stream, b"after")?;
            ensure!(by_link(site, "s8")? == 1, "not moved to s8");
            Ok(())
        })?;
    }
    Ok(())
}

/// One pod opens flows as fast as it can, ten times what the tables hold; another one's connections, idle and new, live.
#[test]
fn a_flood_of_one_pod_is_its_own_problem() -> Result<()> {
    const FLOWS: u32 = 10 * 131_072;
    Site::builder("flood").pods(2).run(|site| {
        open(site, "")?;
        let mut kept = Vec::new();
        for n in 0..500 {
            let mut stream = dial(site, 1, false, 0)?;
            says(&mut stream, &[n as u8])?;
            kept.push(stream);
        }
        for packets in [1, 2, 4] {
            let done = AtomicBool::new(false);
            let (flooding, during) = std::thread::scope(|scope| {
                let flood = scope.spawn(|| {
                    let sent = flood(site, FLOWS / packets, packets);
                    done.store(true, Ordering::Relaxed);
                    sent
                });
                let mut dialled = 0;
                let during = loop {
                    match dial(site, 1, false, 0).and_then(|mut stream| says(&mut stream, b"new")) {
                        Ok(()) => dialled += 1,
                        Err(error) => break Err(error.context(format!("new connection {dialled}"))),
                    }
                    if done.load(Ordering::Relaxed) {
                        break Ok(dialled);
                    }
                };
                (flood.join().map_err(|_| anyhow!("the flood panicked")), during)
            });
            let (sent, during) = (flooding??, during?);
            println!("{packets} a flow: {sent} packets, meanwhile {during} new connections of the other pod");
            ensure!(during > 10, "only {during} connections");
            for (n, stream) in kept.iter_mut().enumerate() {
                says(stream, b"still").with_context(|| format!("established connection {n}"))?;
            }
        }
        ensure!(site.agent()?.counted("opens_limited")? > 0, "the flood was none");
        Ok(())
    })
}

/// UDP from ever other ports, by a raw socket as root of a pod can open one.
fn flood(site: &Site, flows: u32, packets: u32) -> Result<u64> {
    let (from, to) = (site.pods[0].ipv4, harness::site::SERVICE4);
    let seconds = Duration::from_secs(12);
    site.pods[0].netns.within(move || -> Result<u64> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(socket2::Protocol::from(255)))?;
        let target = SockAddr::from(SocketAddr::from((to, 0)));
        let (start, mut sent) = (Instant::now(), 0);
        for flow in 0..flows {
            let mut packet = [0; 29];
            packet[..12].copy_from_slice(&[0x45, 0, 0, 29, 0, 0, 0x40, 0, 64, 17, 0, 0]);
            packet[12..16].copy_from_slice(&from.octets());
            packet[16..20].copy_from_slice(&to.octets());
            packet[20..22].copy_from_slice(&((flow % 60_000) as u16 + 1024).to_be_bytes());
            packet[22..24].copy_from_slice(&((flow / 60_000) as u16 + 20_000).to_be_bytes());
            packet[24..26].copy_from_slice(&9_u16.to_be_bytes());
            for _ in 0..packets {
                // A full queue is the flood's own problem.
                sent += u64::from(socket.send_to(&packet, &target).is_ok());
            }
            if start.elapsed() > seconds {
                break;
            }
        }
        Ok(sent)
    })?
}

/// Both leave by one address of one link, and each gets its own answers.
#[test]
fn two_pods_may_have_the_same_port() -> Result<()> {
    Site::builder("same-port").pods(2).run(|site| {
        open(site, "")?;
        let mut both = [dial(site, 0, false, 40_001)?, dial(site, 1, false, 40_001)?];
        for round in 0..50_u8 {
            for (pod, stream) in both.iter_mut().enumerate() {
                says(stream, &[round, pod as u8, 7])?;
            }
        }
        let sessions = site.agent()?.sessions()?;
        let ports: Vec<&Value> = sessions.iter().map(|s| &s["translatedSource"]).collect();
        ensure!(ports.len() == 2 && ports[0] != ports[1], "{sessions:#?}");
        Ok(())
    })
}

/// A pod ends and another one gets its address, and dials from the port of a connection that was open: within a second it
/// is steered as what it is.
#[test]
fn an_address_that_another_pod_has_soon_after_is_that_pods() -> Result<()> {
    Site::builder("reused").run(|site| {
        open(site, "")?;
        let mut old = dial(site, 0, false, 40_002)?;
        says(&mut old, b"the first pod")?;
        let pod = &site.pods[0];
        let (veth, netns, ip) = (&pod.veth, pod.netns.name(), IpAddr::from(pod.ipv4));
        // The namespace goes on; to the node its device is another pod's.
        site.edge.ip(&format!(
            "link del {veth}\nlink add {veth} type veth peer name eth0 netns {netns}\n\
             addr add 169.254.1.1/32 dev {veth}\nlink set {veth} up\nroute add {ip}/32 dev {veth}\n"
        ))?;
        pod.netns.ip(&format!(
            "addr add {ip}/32 dev eth0\nlink set eth0 up\nroute add 169.254.1.1/32 dev eth0 scope link\n\
             route add 0.0.0.0/0 via 169.254.1.1 dev eth0\n"
        ))?;
        let start = Instant::now();
        // Its port is free at once.
        SockRef::from(&old).set_linger(Some(Duration::ZERO))?;
        drop(old);
        eventually("a steered connection of the new pod", Duration::from_secs(5), || {
            let mut new = dial(site, 0, false, 40_003)?;
            says(&mut new, b"the second pod")?;
            let sessions = site.agent()?.sessions()?;
            let own = |s: &&Value| s["source"] == format!("{ip}:40003") && s["link"] == "s9";
            ensure!(sessions.iter().any(|s| own(&s)), "{sessions:#?}");
            Ok(())
        })?;
        println!("steered after {:?}", start.elapsed());
        let mut same = dial(site, 0, false, 40_002)?;
        says(&mut same, b"from the old port")?;
        let list = run(site.edge.command("ip").args(["-o", "link", "show", &site.pods[0].veth]), None)?;
        let took = start.elapsed();
        ensure!(took < Duration::from_secs(2), "{took:?}: {list}");
        Ok(())
    })
}
