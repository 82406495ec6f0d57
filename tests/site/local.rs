//! Local traffic stays local, whatever a mapping of traffic covers.

use crate::traffic::{self, ECHO};
use anyhow::{Context as _, Result, ensure};
use harness::agent::ctl;
use harness::netns::Netns;
use harness::site::Site;
use harness::site::builder::Builder;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// Everything by s9, but for one network of each family.
pub(crate) const EVERYTHING: &str = "---
apiVersion: clovisor.io/v1alpha1
kind: WanMapping
metadata: {name: all, namespace: shop}
spec:
  traffic:
    destinations:
    - {cidr: 0.0.0.0/0, except: [203.0.113.128/25]}
    - {cidr: 0.0.0.0/0, except: [203.0.113.128/25], protocol: UDP}
    - {cidr: 0.0.0.0/0, protocol: ICMP}
    - {cidr: \"::/0\", except: [\"2001:db8:e::/48\"]}
    - {cidr: \"::/0\", except: [\"2001:db8:e::/48\"], protocol: UDP}
    - {cidr: \"::/0\", protocol: ICMP}
  links: [s9]
---
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: kube-system}
spec: {clusterIPs: [10.96.0.10, \"fd96::a\"], ports: [{port: 5060}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: bank}
spec: {ports: [{port: 5060, nodePort: 30060}]}
status: {loadBalancer: {ingress: [{ip: 203.0.113.211}, {ip: \"2001:db8:9::211\"}]}}
---
apiVersion: v1
kind: Node
metadata: {name: edge-2}
spec: {podCIDRs: [203.0.113.192/28, \"2001:db8:2::/64\"]}
status: {addresses: [{type: InternalIP, address: 203.0.113.210}, {type: InternalIP, address: \"2001:db8:9::210\"}]}
";

/// Addresses and ports of Services, as kube-proxy has them, a port of the node for a pod, and a LAN beside the uplinks.
const NODE: &str = "
table inet services {
  chain prerouting {
    type nat hook prerouting priority -100;
    ip daddr 10.96.0.10 udp dport 5060 dnat ip to 10.244.0.11:5060
    ip daddr 10.96.0.10 tcp dport 5060 dnat ip to 10.244.0.11:5060
    ip6 daddr fd96::a udp dport 5060 dnat ip6 to [fd00:244::11]:5060
    ip6 daddr fd96::a tcp dport 5060 dnat ip6 to [fd00:244::11]:5060
    ip daddr 10.8.0.2 udp dport 30060 dnat ip to 10.244.0.11:5060
    ip daddr 10.8.0.2 tcp dport 30060 dnat ip to 10.244.0.11:5060
    iifname { s8, s9, lan0 } ip daddr != 10.244.0.0/24 udp dport 7000 dnat ip to 10.244.0.10:5060
    iifname { s8, s9, lan0 } ip daddr != 10.244.0.0/24 tcp dport 7000 dnat ip to 10.244.0.10:5060
    iifname { s8, s9 } ip6 daddr fd00:8::2 udp dport 7000 dnat ip6 to [fd00:244::10]:5060
    iifname { s8, s9 } ip6 daddr fd00:8::2 tcp dport 7000 dnat ip6 to [fd00:244::10]:5060
  }
  chain postrouting {
    type nat hook postrouting priority 100;
    oifname lan0 masquerade
  }
}
";

fn ip(text: &str) -> Result<IpAddr> {
    text.parse().with_context(|| format!("{text} is no address"))
}

/// Answers datagrams and connections with what they carry.
fn serve(netns: &Netns, address: IpAddr) -> Result<()> {
    let at = SocketAddr::new(address, ECHO);
    let (datagrams, connections) = netns
        .within(move || Ok::<_, std::io::Error>((UdpSocket::bind(at)?, TcpListener::bind(at)?)))?
        .with_context(|| format!("cannot bind {at}"))?;
    // Both end with the process: a test's echo has nothing to tidy up.
    std::thread::spawn(move || {
        let mut room = [0; 64];
        while let Ok((len, from)) = datagrams.recv_from(&mut room) {
            let _answered = room.get(..len).map(|bytes| datagrams.send_to(bytes, from));
        }
    });
    std::thread::spawn(move || {
        for mut stream in connections.incoming().flatten() {
            let mut room = [0; 8];
            let _answered = stream.read_exact(&mut room).and_then(|()| stream.write_all(&room));
        }
    });
    Ok(())
}

/// A datagram and a connection, each answered.
fn ask(netns: &Netns, address: IpAddr) -> Result<()> {
    let any = if address.is_ipv4() { "0.0.0.0" } else { "::" };
    ask_from(netns, ip(any)?, SocketAddr::new(address, ECHO), 1)
}

/// So many datagrams of one socket, and a connection, from an address.
fn ask_from(netns: &Netns, own: IpAddr, to: SocketAddr, datagrams: usize) -> Result<()> {
    let work = move || -> Result<()> {
        let (sent, mut got) = (*b"question", [0; 8]);
        let socket = UdpSocket::bind((own, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        socket.connect(to)?;
        for _ in 0..datagrams {
            socket.send(&sent)?;
            socket.recv(&mut got).context("no answer to a datagram")?;
            ensure!(got == sent, "another answer");
        }
        let client = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        client.bind(&SocketAddr::new(own, 0).into())?;
        client.connect_timeout(&to.into(), Duration::from_secs(3)).context("no connection")?;
        let mut stream = TcpStream::from(client);
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        stream.write_all(&sent)?;
        stream.read_exact(&mut got).context("no answer on a connection")?;
        ensure!(got == sent, "another answer");
        Ok(())
    };
    netns.within(work)?.with_context(|| format!("to {to}"))
}

fn open(site: &mut Site) -> Result<()> {
    site.edge.nft(NODE)?;
    let cloud = site.cloud.name().to_owned();
    site.edge.ip(&format!("link add lan0 type veth peer name lan0 netns {cloud}\naddr add 192.168.7.1/24 dev lan0\nlink set lan0 up\n"))?;
    site.cloud.ip(
        "addr add 192.168.7.9/24 dev lan0\nlink set lan0 up\naddr add 203.0.113.70/32 dev lo\naddr add 203.0.113.130/32 dev lo\n\
         addr add 203.0.113.20/32 dev lo\naddr add 203.0.113.193/32 dev lo\naddr add 203.0.113.210/32 dev lo\n\
         addr add 203.0.113.211/32 dev lo\naddr add 2001:db8:9::20/128 dev lo nodad\n\
         addr add 2001:db8:9::70/128 dev lo nodad\naddr add 2001:db8:e::1/128 dev lo nodad\n\
         addr add 2001:db8:2::9/128 dev lo nodad\naddr add 2001:db8:9::210/128 dev lo nodad\n\
         addr add 2001:db8:9::211/128 dev lo nodad\n",
    )?;
    traffic::open(site, EVERYTHING)
}

/// Datagrams to broadcast, multicast and link-local addresses, which nobody answers.
fn unanswered() -> Result<()> {
    let v4 = UdpSocket::bind("0.0.0.0:0")?;
    v4.set_broadcast(true)?;
    for to in ["224.0.0.99", "239.255.255.250", "255.255.255.255", "10.8.0.255", "169.254.169.254"] {
        // The pod's own stack may have no way to it; what it sends is what counts.
        let _sent = v4.send_to(b"x", (to, ECHO));
    }
    let device = nix::net::if_::if_nametoindex("eth0")?;
    let v6 = UdpSocket::bind("[::]:0")?;
    for to in ["fe80::1", "ff02::99", "ff05::99"] {
        let _sent = v6.send_to(b"x", SocketAddrV6::new(to.parse()?, ECHO, 0, device));
    }
    Ok(())
}

/// The addresses by which steered flows went.
fn destinations(site: &mut Site) -> Result<BTreeSet<IpAddr>> {
    let sessions = site.agent()?.sessions()?;
    let of = |session: &Value| -> Result<IpAddr> {
        let text = session["destination"].as_str().context("no destination")?;
        Ok(text.parse::<SocketAddr>().with_context(|| text.to_owned())?.ip())
    };
    sessions.iter().map(of).collect()
}

/// Rows of what no server of the test answers.
const OTHERS: [(&str, Option<&str>); 6] = [
    ("10.96.0.10", Some("clusterIP of Service kube-system/dns")),
    ("fd96::a", Some("clusterIP of Service kube-system/dns")),
    ("10.8.0.255", Some("an address of s8, or its broadcast address")),
    ("255.255.255.255", Some("broadcast")),
    ("fe80::1", Some("link-local")),
    ("ff02::1", Some("multicast")),
];

/// `explain` says why an address is local, or nothing of the kind.
fn explained(site: &Site, address: &str, reason: Option<&str>) -> Result<()> {
    let host = SocketAddr::new(ip(address)?, ECHO).to_string();
    let words = ["explain", "--pod", "shop/client-0", "--host", &host, "--protocol", "udp"];
    let said = ctl(&site.path(""), &words)?;
    let link = said.lines().find_map(|line| line.strip_prefix("Link ")).unwrap_or_default().trim();
    ensure!((link == "local") == reason.is_some(), "{address}: {said}");
    let expected = reason.map(|reason| format!("is local ({reason}"));
    ensure!(expected.is_none_or(|text| said.contains(&text)), "{address}: {said}");
    Ok(())
}

/// A mapping of 0.0.0.0/0 and ::/0: pods, the node, a Service, link-local, a LAN, flags and exceptions are answered as without
/// it, and no flow of theirs is on a link. The control: the internet address beside them is on s9.
#[test]
fn local_traffic_is_not_steered() -> Result<()> {
    Site::builder("local").pods(2).local_cidrs("203.0.113.64/26,2001:db8:9::70/128").run(|site| {
        open(site)?;
        let local = [
            (Some(1), "10.244.0.11", "address of Pod shop/client-1"),
            (Some(1), "fd00:244::11", "address of Pod shop/client-1"),
            (None, "10.8.0.2", "an address of s8"),
            (None, "10.9.0.2", "an address of s9"),
            (None, "fd00:9::2", "an address of s9"),
            (None, "169.254.1.1", "link-local"),
        ];
        for (pod, address, _) in local {
            let netns = pod.map_or(&site.edge, |pod: usize| &site.pods[pod].netns);
            serve(netns, ip(address)?)?;
        }
        let cloud = [
            ("192.168.7.9", Some("the node's route 192.168.7.0/24 by lan0")),
            ("203.0.113.70", Some("--local-cidrs")),
            ("2001:db8:9::70", Some("--local-cidrs")),
            ("203.0.113.193", Some("pods of Node edge-2")),
            ("2001:db8:2::9", Some("pods of Node edge-2")),
            ("203.0.113.210", Some("address of Node edge-2")),
            ("2001:db8:9::210", Some("address of Node edge-2")),
            ("203.0.113.211", Some("load balancer address of Service bank/web")),
            ("2001:db8:9::211", Some("load balancer address of Service bank/web")),
            ("203.0.113.130", None),
            ("2001:db8:e::1", None),
            ("203.0.113.20", None),
            ("2001:db8:9::20", None),
        ];
        for (address, _) in cloud {
            serve(&site.cloud, ip(address)?)?;
        }
        let client = site.pods[0].netns.clone();
        let controls = BTreeSet::from([ip("203.0.113.20")?, ip("2001:db8:9::20")?]);
        for address in local.into_iter().map(|(_, address, _)| address).chain(["10.96.0.10", "fd96::a"]) {
            ask(&client, ip(address)?)?;
        }
        for (address, _) in cloud {
            if !controls.contains(&ip(address)?) {
                ask(&client, ip(address)?)?;
            }
        }
        ask_from(&client, ip("0.0.0.0")?, "10.8.0.2:30060".parse()?, 2).context("a NodePort")?;
        client.within(unanswered)??;
        ensure!(destinations(site)?.is_empty(), "{:?}", destinations(site)?);
        controls.iter().try_for_each(|control| ask(&client, *control))?;
        ensure!(destinations(site)? == controls, "{:?}", destinations(site)?);
        let reasons = local.into_iter().map(|(_, address, reason)| (address, Some(reason)));
        reasons.chain(cloud).chain(OTHERS).try_for_each(|(address, reason)| explained(site, address, reason))
    })
}

#[test]
fn what_a_pod_answers_is_not_steered() -> Result<()> {
    answers(Site::builder("answers"))
}

#[test]
fn what_a_pod_behind_a_bridge_answers_is_not_steered() -> Result<()> {
    answers(Site::builder("answers-bridge").bridge().attach("clsact"))
}

/// Somebody dials a pod: by a port of the node, from the internet and from the LAN, and by its own address. What it answers, by TCP
/// and by datagrams, reaches him and is on no link. What it asks the same host itself is.
fn answers(site: Builder) -> Result<()> {
    site.pods(2).run(|site| {
        open(site)?;
        for own in ["10.244.0.10", "fd00:244::10"] {
            serve(&site.pods[0].netns, ip(own)?)?;
        }
        let clients = [
            ("203.0.113.20", "10.8.0.2:7000"),
            ("203.0.113.20", "10.244.0.10:5060"),
            ("192.168.7.9", "192.168.7.1:7000"),
            ("10.9.0.1", "10.9.0.2:7000"),
            ("2001:db8:9::20", "[fd00:8::2]:7000"),
            ("2001:db8:9::20", "[fd00:244::10]:5060"),
        ];
        for (own, to) in clients {
            ask_from(&site.cloud, ip(own)?, to.parse()?, 3).with_context(|| format!("{own} asks {to}"))?;
        }
        ensure!(destinations(site)?.is_empty(), "{:?}", destinations(site)?);
        let answers = site.agent()?.counted("answer")?;
        // All but those to the LAN, which is local whoever began.
        ensure!(answers == 15, "{answers} datagrams counted as answers");
        let controls = [ip("203.0.113.20")?, ip("2001:db8:9::20")?];
        for control in controls {
            serve(&site.cloud, control)?;
            ask(&site.pods[0].netns, control)?;
        }
        ensure!(destinations(site)? == BTreeSet::from(controls), "{:?}", destinations(site)?);
        Ok(())
    })
}
