use super::parts::{Pod, SERVICE4, SERVICE6, Uplink};
use crate::netns::Netns;
use crate::truth::LinkSign;
use anyhow::Result;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;

/// Number of each link: its name, its subnets and its MAC addresses follow from it.
const LINKS: [u8; 2] = [8, 9];

/// Where the other end of a virtual `s9` is, below it.
const BELOW: [&str; 2] = ["10.19.0.2", "10.19.0.1"];

pub(super) fn signs(uplink: Uplink) -> Vec<LinkSign> {
    let sign = |link: u8| LinkSign {
        name: format!("s{link}"),
        mac: if link == 9 && uplink == Uplink::Tun { [0; 6] } else { [2, 0, 0, 0, link, 1] },
        sources: vec![
            Ipv4Addr::new(10, link, 0, 2).into(),
            Ipv6Addr::new(0xfd00, link.into(), 0, 0, 0, 0, 0, 2).into(),
        ],
    };
    LINKS.into_iter().map(sign).collect()
}

/// Edge and cloud with both links between them.
pub(super) fn links(edge: &Netns, cloud: &Netns, bridge: bool, uplink: Uplink) -> Result<()> {
    for netns in [edge, cloud] {
        quiet_ipv6(netns)?;
    }
    edge.sysctl(&[
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv6/conf/default/forwarding", "1"),
        // Strict, as on many distributions: packets that come back on a steered link must not mind.
        ("net/ipv4/conf/all/rp_filter", "1"),
        ("net/ipv4/conf/default/rp_filter", "1"),
    ])?;
    // The service answers by the link that the source address belongs to, and pods by s8.
    cloud.sysctl(&[("net/ipv4/conf/all/rp_filter", "0"), ("net/ipv4/conf/default/rp_filter", "0")])?;
    let (mut near, mut far) = devices(uplink, cloud.name());
    for link in LINKS {
        near += &format!(
            "addr add 10.{link}.0.2/24 dev s{link}\n\
             addr add fd00:{link}::2/64 dev s{link} nodad\n\
             link set s{link} up\n",
        );
        far += &format!(
            "addr add 10.{link}.0.1/24 dev s{link}\n\
             addr add 10.{link}.0.100/32 dev s{link}\n\
             addr add fd00:{link}::1/64 dev s{link} nodad\n\
             addr add fd00:{link}::100/128 dev s{link} nodad\n\
             link set s{link} up\n"
        );
    }
    near += "route add 0.0.0.0/0 via 10.8.0.1\nroute add ::/0 via fd00:8::1\n";
    far += &format!(
        "addr add {SERVICE4}/32 dev lo\naddr add {SERVICE6}/128 dev lo nodad\n\
         route add 10.244.0.0/24 via 10.8.0.2\nroute add fd00:244::/64 via fd00:8::2\n"
    );
    if bridge {
        near += "link add cni0 type bridge\naddr add 10.244.0.1/24 dev cni0\n\
                 addr add fd00:244::1/64 dev cni0 nodad\nlink set cni0 up\n";
    }
    edge.ip(&near)?;
    cloud.ip(&far)?;
    edge.nft(CNI)
}

/// The uplinks' devices on both sides.
fn devices(uplink: Uplink, cloud: &str) -> (String, String) {
    let veth = |name: &str, link: u8| {
        let mac = format!("02:00:00:00:0{link}:0");
        format!("link add {name} address {mac}2 type veth peer name {name} address {mac}1 netns {cloud}\n")
    };
    let mut near = veth("s8", 8);
    if uplink == Uplink::Veth {
        return (near + &veth("s9", 9), String::new());
    }
    near += &veth("u9", 7);
    let side = |near: bool| {
        let (own, other) = if near { (BELOW[0], BELOW[1]) } else { (BELOW[1], BELOW[0]) };
        let mac = format!("02:00:00:00:09:0{}", if near { 2 } else { 1 });
        let device = match uplink {
            Uplink::Veth => String::new(),
            Uplink::Macvlan => format!("link add s9 link u9 address {mac} type macvlan mode bridge\n"),
            Uplink::Vxlan => {
                format!("link add s9 address {mac} type vxlan id 9 dstport 4789 local {own} remote {other}\n")
            }
            Uplink::Tun => "tuntap add s9 mode tun\n".to_owned(),
        };
        format!("addr add {own}/24 dev u9\nlink set u9 up\n{device}")
    };
    (near + &side(true), side(false))
}

/// What carries the packets of a [`Uplink::Tun`]: one process on each side, over UDP, as a VPN in user space does.
pub(super) fn carriers(edge: &Netns, cloud: &Netns) -> [Command; 2] {
    [(edge, BELOW[0], BELOW[1]), (cloud, BELOW[1], BELOW[0])].map(|(netns, own, other)| {
        let mut command = netns.command("socat");
        command.arg("TUN,tun-name=s9,tun-type=tun,iff-no-pi,iff-up");
        command.arg(format!("UDP4-DATAGRAM:{other}:5555,bind={own}:5555"));
        command
    })
}

/// A pod and its veth, point-to-point as Calico's or as a port of the bridge.
pub(super) fn pod(index: usize, netns: Netns, edge: &Netns, bridge: bool) -> Result<Pod> {
    quiet_ipv6(&netns)?;
    let pod = Pod::new(index, netns)?;
    let (veth, ipv4, ipv6) = (&pod.veth, pod.ipv4, pod.ipv6);
    let pair = format!("link add {veth} type veth peer name eth0 netns {}\n", pod.netns.name());
    if bridge {
        edge.ip(&format!("{pair}link set {veth} master cni0\nlink set {veth} up\n"))?;
        pod.netns.ip(&format!(
            "addr add {ipv4}/24 dev eth0\naddr add {ipv6}/64 dev eth0 nodad\nlink set eth0 up\n\
             route add 0.0.0.0/0 via 10.244.0.1\nroute add ::/0 via fd00:244::1\n"
        ))?;
    } else {
        edge.ip(&format!(
            "{pair}addr add 169.254.1.1/32 dev {veth}\naddr add fe80::1/64 dev {veth} nodad\n\
             link set {veth} up\nroute add {ipv4}/32 dev {veth}\nroute add {ipv6}/128 dev {veth}\n"
        ))?;
        pod.netns.ip(&format!(
            "addr add {ipv4}/32 dev eth0\naddr add {ipv6}/128 dev eth0 nodad\nlink set eth0 up\n\
             route add 169.254.1.1/32 dev eth0 scope link\n\
             route add 0.0.0.0/0 via 169.254.1.1 dev eth0\nroute add ::/0 via fe80::1 dev eth0\n"
        ))?;
    }
    Ok(pod)
}

/// Addresses survive a device that goes down, and none come by themselves.
fn quiet_ipv6(netns: &Netns) -> Result<()> {
    netns.sysctl(&[
        ("net/ipv6/conf/all/accept_ra", "0"),
        ("net/ipv6/conf/default/accept_ra", "0"),
        ("net/ipv6/conf/all/keep_addr_on_down", "1"),
        ("net/ipv6/conf/default/keep_addr_on_down", "1"),
    ])
}

/// What a CNI plugin and kube-proxy set up: masquerade for pods, and no packet of an unknown connection.
const CNI: &str = "
table inet cni {
  chain postrouting {
    type nat hook postrouting priority 100;
    ip saddr 10.244.0.0/24 oifname { \"s8\", \"s9\" } masquerade
    ip6 saddr fd00:244::/64 oifname { \"s8\", \"s9\" } masquerade
  }
  chain forward {
    type filter hook forward priority 0;
    ct state invalid drop
  }
}
";
