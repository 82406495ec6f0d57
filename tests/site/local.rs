//! Local traffic stays local, whatever a mapping of traffic covers.

use crate::traffic::{self, ECHO};
use anyhow::{Context as _, Result, ensure};
use harness::agent::ctl;
use harness::netns::Netns;
use harness::site::Site;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// Everything by s9, but for one network.
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
    - {cidr: \"::/0\"}
    - {cidr: \"::/0\", protocol: UDP}
    - {cidr: \"::/0\", protocol: ICMP}
  links: [s9]
---
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: kube-system}
spec: {clusterIP: 10.96.0.10, ports: [{port: 5060}]}
";

/// The Service's address, as kube-proxy has it, and a LAN beside the uplinks.
const NODE: &str = "
table inet services {
  chain prerouting {
    type nat hook prerouting priority -100;
    ip daddr 10.96.0.10 udp dport 5060 dnat ip to 10.244.0.11:5060
    ip daddr 10.96.0.10 tcp dport 5060 dnat ip to 10.244.0.11:5060
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
    let to = SocketAddr::new(address, ECHO);
    let any: IpAddr = if address.is_ipv4() { ip("0.0.0.0")? } else { ip("::")? };
    let work = move || -> Result<()> {
        let (sent, mut got) = (*b"question", [0; 8]);
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        socket.connect(to)?;
        socket.send(&sent)?;
        socket.recv(&mut got).context("no answer to a datagram")?;
        ensure!(got == sent, "another answer");
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(3)).context("no connection")?;
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
         addr add 203.0.113.20/32 dev lo\n",
    )?;
    traffic::open(site, EVERYTHING)
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

/// A mapping of 0.0.0.0/0 and ::/0: pods, the node, a Service, link-local, a LAN, flags and exceptions are answered as without
/// it, and no flow of theirs is on a link. The control: the internet address beside them is on s9.
#[test]
fn local_traffic_is_not_steered() -> Result<()> {
    Site::builder("local").pods(2).local_cidrs("203.0.113.64/26,198.51.100.0/24").run(|site| {
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
            ("203.0.113.130", None),
            ("203.0.113.20", None),
        ];
        for (address, _) in cloud {
            serve(&site.cloud, ip(address)?)?;
        }
        let client = site.pods[0].netns.clone();
        let only = ["10.96.0.10", "192.168.7.9", "203.0.113.70", "203.0.113.130"];
        for address in local.into_iter().map(|(_, address, _)| address).chain(only) {
            ask(&client, ip(address)?)?;
        }
        let multicast = ip("224.0.0.99")?;
        client.within(move || UdpSocket::bind("0.0.0.0:0")?.send_to(b"x", (multicast, ECHO)))??;
        ensure!(destinations(site)?.is_empty(), "{:?}", destinations(site)?);
        let control = ip("203.0.113.20")?;
        ask(&client, control)?;
        ensure!(destinations(site)? == BTreeSet::from([control]), "{:?}", destinations(site)?);
        let reasons = local.into_iter().map(|(_, address, reason)| (address, Some(reason)));
        let others =
            [("10.96.0.10", Some("clusterIP of Service kube-system/dns")), ("ff02::1", Some("multicast"))];
        for (address, reason) in reasons.chain(cloud).chain(others) {
            let host = SocketAddr::new(ip(address)?, ECHO).to_string();
            let words = ["explain", "--pod", "shop/client-0", "--host", &host, "--protocol", "udp"];
            let said = ctl(&site.path(""), &words)?;
            let expected = reason.map(|reason| format!("is local ({reason}"));
            ensure!(
                expected.as_ref().map_or(!said.contains("local"), |text| said.contains(text)),
                "{address}: {said}"
            );
        }
        Ok(())
    })
}
