//! Packets by their destination: what a mapping governs where no proxy sees requests.

use ipnet::IpNet;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What pods themselves send to some destinations, none of which is local: pods, nodes, Services, what the node's routing
/// sends by other devices than uplinks. The longest prefix of all mappings of the namespace decides, then
/// the narrowest range of ports.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficSelector {
    /// Labels of the pods. Empty: all pods of the namespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pods: BTreeMap<String, String>,
    /// Servers that the pods dial.
    #[schemars(length(min = 1, max = 64))]
    pub destinations: Vec<TrafficDestination>,
}

/// Servers by address, protocol and port.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.endPort) || (has(self.port) && self.endPort >= self.port)")
        .message("endPort needs a port that is not larger"),
    validation = Rule::new("!has(self.port) || self.protocol != 'ICMP'").message("ICMP has no ports")
)]
pub struct TrafficDestination {
    /// Network, e.g. "198.51.100.0/24" or "2001:db8::/32"; one host is "198.51.100.7/32".
    #[serde(deserialize_with = "network")]
    #[schemars(with = "String", length(min = 3, max = 43))]
    pub cidr: IpNet,
    /// Networks within `cidr` that are not meant: another destination, or the node's own routing, decides about them.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "networks")]
    #[schemars(with = "Vec<String>", length(max = 64), inner(length(min = 3, max = 43)))]
    pub except: Vec<IpNet>,
    /// Transport protocol; ICMP means echo requests and their replies.
    #[serde(default)]
    pub protocol: TrafficProtocol,
    /// Destination port. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Last port of a range that begins with `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<i32>,
}

/// A network; the parser's own complaint says that an IP address is needed.
#[derive(Deserialize)]
#[serde(transparent)]
struct Network {
    #[serde(deserialize_with = "network")]
    net: IpNet,
}

fn network<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNet, D::Error> {
    let text = String::deserialize(deserializer)?;
    let shown = || text.chars().take(60).collect::<String>();
    let needed = "a network like 192.0.2.0/24 or 2001:db8::/32 is needed";
    let parsed = text.parse();
    // Some readers take a leading zero for octal.
    let has_zeros = text
        .split('/')
        .next()
        .unwrap_or_default()
        .split('.')
        .any(|part| part.len() > 1 && part.starts_with('0'));
    match parsed {
        Ok(net @ IpNet::V6(_)) => Ok(net),
        Ok(net) if !has_zeros => Ok(net),
        Ok(_) => Err(D::Error::custom(format!("is {:?}; write the numbers without leading zeros", shown()))),
        Err(_) => Err(D::Error::custom(format!("is {:?}; {needed}", shown()))),
    }
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    Ok(Vec::<Network>::deserialize(deserializer)?.into_iter().map(|network| network.net).collect())
}

impl TrafficDestination {
    /// The first exception that is not within `cidr`.
    #[must_use]
    pub fn stray_exception(&self) -> Option<usize> {
        self.except.iter().position(|net| !self.cidr.contains(&net.trunc()))
    }

    /// First and last port; none where the fields contradict each other.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        let number = |port: i32| u16::try_from(port).ok().filter(|port| *port > 0);
        match (self.port, self.end_port, self.protocol) {
            (None, None, _) => Some((0, u16::MAX)),
            (Some(_), _, TrafficProtocol::Icmp) | (None, Some(_), _) => None,
            (Some(port), end, _) => {
                let (first, last) = (number(port)?, number(end.unwrap_or(port))?);
                (first <= last).then_some((first, last))
            }
        }
    }
}

/// What travels.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum TrafficProtocol {
    /// TCP.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP, QUIC included.
    #[serde(rename = "UDP")]
    Udp,
    /// Echo requests of ICMP and ICMPv6.
    #[serde(rename = "ICMP")]
    Icmp,
}

impl fmt::Display for TrafficProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Icmp => "ICMP",
        })
    }
}
