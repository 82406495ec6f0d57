//! The device that the steered link is.

use super::addresses::addressed;
use crate::netns::{Netns, run};
use anyhow::Result;

/// Kinds of the steered link's device. All but the first need what not every kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uplink {
    Veth,
    Vlan,
    /// On the device of the link that routing takes.
    VlanOnOther,
    /// See [`Uplink::VlanOnOther`].
    MacvlanOnOther,
    /// Without an Ethernet header, its peer chosen by the packet's destination.
    WireGuard,
    /// An IP tunnel, without an Ethernet header.
    Gre,
}

/// What carries a link that is no device of its own: on the edge, and at the far end.
const BELOW: [&str; 2] = ["u1", "d1"];
/// Of the link that routing takes.
const OTHER: [&str; 2] = ["w0", "c0"];
/// Where tunnels end.
const ENDS: [&str; 2] = ["10.9.12.1", "10.9.12.2"];
/// The link's device on both sides.
const NAMES: [&str; 2] = ["w1", "c1"];

impl Uplink {
    /// Do packets start with the IP header?
    #[must_use]
    pub const fn l3(self) -> bool {
        matches!(self, Self::WireGuard | Self::Gre)
    }

    /// As the kernel sets it on the device.
    #[must_use]
    pub const fn mtu(self) -> u16 {
        match self {
            Self::Veth | Self::Vlan | Self::VlanOnOther | Self::MacvlanOnOther => 1500,
            Self::WireGuard => 1420,
            Self::Gre => 1476,
        }
    }

    /// Makes the device on both sides, without addresses.
    pub(super) fn connect(self, edge: &Netns, far: &Netns) -> Result<()> {
        let veth = |near: &str, there: &str| {
            edge.ip(&format!("link add {near} type veth peer name {there} netns {}\n", far.name()))
        };
        if self == Self::Veth {
            return veth(NAMES[0], NAMES[1]);
        }
        let stacked = matches!(self, Self::VlanOnOther | Self::MacvlanOnOther);
        if !stacked {
            veth(BELOW[0], BELOW[1])?;
            edge.ip(&addressed(&[(BELOW[0], 12, 1)]))?;
            far.ip(&addressed(&[(BELOW[1], 12, 2)]))?;
        }
        if self == Self::MacvlanOnOther {
            // Both devices are on one segment: each answers for its own address only.
            for netns in [edge, far] {
                netns.sysctl(&[("net/ipv4/conf/all/arp_ignore", "1")])?;
            }
        }
        let ends = [(edge, 0), (far, 1)];
        for (netns, own) in ends {
            let (name, below) = (NAMES[own], if stacked { OTHER[own] } else { BELOW[own] });
            let (local, remote) = (ENDS[own], ENDS[1 - own]);
            netns.ip(&match self {
                Self::Veth => String::new(),
                Self::Vlan | Self::VlanOnOther => {
                    format!("link add link {below} name {name} type vlan id 7\n")
                }
                Self::MacvlanOnOther => {
                    format!("link add link {below} name {name} type macvlan mode bridge\n")
                }
                Self::WireGuard => format!("link add {name} type wireguard\n"),
                Self::Gre => format!("link add {name} type gre local {local} remote {remote}\n"),
            })?;
        }
        if self == Self::WireGuard { keyed(ends) } else { Ok(()) }
    }
}

/// Each end gets a key, and the other one as its only peer.
fn keyed(ends: [(&Netns, usize); 2]) -> Result<()> {
    let key = |(netns, _): (&Netns, usize)| -> Result<(String, String)> {
        let private = run(netns.command("wg").arg("genkey"), None)?;
        let public = run(netns.command("wg").arg("pubkey"), Some(&private))?;
        Ok((private, public))
    };
    let keys = [key(ends[0])?, key(ends[1])?];
    for (netns, own) in ends {
        let ((private, _), (_, public), remote) = (&keys[own], &keys[1 - own], ENDS[1 - own]);
        let settings = format!(
            "[Interface]\nPrivateKey = {private}ListenPort = 51820\n[Peer]\nPublicKey = {public}\
             Endpoint = {remote}:51820\nAllowedIPs = 0.0.0.0/0, ::/0\n"
        );
        run(netns.command("wg").args(["setconf", NAMES[own], "/proc/self/fd/0"]), Some(&settings))?;
    }
    Ok(())
}
