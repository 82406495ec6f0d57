//! Datagrams and echoes to build, and what a program made of them.

use anyhow::{Context as _, Result, bail, ensure};
use etherparse::{
    Icmpv4Type, Icmpv6Type, IpDscp, IpEcn, IpHeaders, Ipv4Header, Ipv6Header, NetHeaders, PacketBuilder,
    PacketHeaders, TransportHeader,
};

use crate::frames::{MAC_A, MAC_B};
use crate::machine::{PEER4, PEER6, POD4, POD6, SPORT};

/// The DSCP of the application in these packets: expedited forwarding.
pub(crate) const APPLICATION: u8 = 46;

/// What travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Udp { sport: u16, dport: u16 },
    Request { id: u16 },
    Reply { id: u16 },
}

pub(crate) const UDP: Kind = Kind::Udp { sport: SPORT, dport: 5060 };
pub(crate) const ECHO: Kind = Kind::Request { id: SPORT };

/// A packet; the default goes from the pod to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    pub(crate) kind: Kind,
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
    pub(crate) dscp: u8,
    pub(crate) ttl: u8,
    pub(crate) payload: usize,
}

pub(crate) fn datagram(kind: Kind, v6: bool) -> Datagram {
    let (from, to) = if v6 { (POD6.to_vec(), PEER6.to_vec()) } else { (POD4.to_vec(), PEER4.to_vec()) };
    Datagram { kind, from, to, dscp: APPLICATION, ttl: 64, payload: 20 }
}

impl Datagram {
    fn ip(&self) -> Result<IpHeaders> {
        Ok(match (<[u8; 4]>::try_from(&self.from[..]), <[u8; 4]>::try_from(&self.to[..])) {
            (Ok(source), Ok(destination)) => IpHeaders::Ipv4(
                Ipv4Header {
                    dscp: IpDscp::try_new(self.dscp)?,
                    ecn: IpEcn::ONE,
                    time_to_live: self.ttl,
                    dont_fragment: true,
                    source,
                    destination,
                    ..Ipv4Header::default()
                },
                Default::default(),
            ),
            _ => IpHeaders::Ipv6(
                Ipv6Header {
                    traffic_class: self.dscp << 2 | 1,
                    hop_limit: self.ttl,
                    source: self.from[..].try_into()?,
                    destination: self.to[..].try_into()?,
                    ..Ipv6Header::default()
                },
                Default::default(),
            ),
        })
    }

    /// The frame with right checksums.
    pub(crate) fn frame(&self) -> Result<Vec<u8>> {
        let builder = PacketBuilder::ethernet2(MAC_A, MAC_B).ip(self.ip()?);
        let payload: Vec<u8> = (0..self.payload).map(|i| i as u8).collect();
        let (mut frame, v6) = (Vec::new(), self.from.len() == 16);
        match (self.kind, v6) {
            (Kind::Udp { sport, dport }, _) => builder.udp(sport, dport).write(&mut frame, &payload)?,
            (Kind::Request { id }, false) => {
                builder.icmpv4_echo_request(id, 1).write(&mut frame, &payload)?
            }
            (Kind::Reply { id }, false) => builder.icmpv4_echo_reply(id, 1).write(&mut frame, &payload)?,
            (Kind::Request { id }, true) => builder.icmpv6_echo_request(id, 1).write(&mut frame, &payload)?,
            (Kind::Reply { id }, true) => builder.icmpv6_echo_reply(id, 1).write(&mut frame, &payload)?,
        }
        Ok(frame)
    }
}

/// What a frame says, after its checksums were found right.
pub(crate) fn seen(frame: &[u8]) -> Result<Datagram> {
    let headers = PacketHeaders::from_ethernet_slice(frame)?;
    let data = headers.payload.slice();
    let (from, to, tos, ttl) = match headers.net.as_ref().context("no IP header")? {
        NetHeaders::Ipv4(ip, _) => {
            ensure!(ip.header_checksum == ip.calc_header_checksum(), "wrong IP checksum");
            let tos = ip.dscp.value() << 2 | ip.ecn.value();
            (ip.source.to_vec(), ip.destination.to_vec(), tos, ip.time_to_live)
        }
        NetHeaders::Ipv6(ip, _) => {
            (ip.source.to_vec(), ip.destination.to_vec(), ip.traffic_class, ip.hop_limit)
        }
        other => bail!("neither IPv4 nor IPv6: {other:?}"),
    };
    ensure!(tos & 3 == 1, "ECN was changed");
    let (kind, found, right) = match (headers.transport.context("no transport")?, headers.net) {
        (TransportHeader::Udp(udp), Some(NetHeaders::Ipv4(ip, _))) => {
            let right = udp.calc_checksum_ipv4(&ip, data)?;
            let right = if udp.checksum == 0 { 0 } else { right };
            (Kind::Udp { sport: udp.source_port, dport: udp.destination_port }, udp.checksum, right)
        }
        (TransportHeader::Udp(udp), Some(NetHeaders::Ipv6(ip, _))) => {
            let right = udp.calc_checksum_ipv6(&ip, data)?;
            (Kind::Udp { sport: udp.source_port, dport: udp.destination_port }, udp.checksum, right)
        }
        (TransportHeader::Icmpv4(icmp), _) => {
            let kind = match icmp.icmp_type {
                Icmpv4Type::EchoRequest(echo) => Kind::Request { id: echo.id },
                Icmpv4Type::EchoReply(echo) => Kind::Reply { id: echo.id },
                other => bail!("no echo: {other:?}"),
            };
            (kind, icmp.checksum, icmp.icmp_type.calc_checksum(data))
        }
        (TransportHeader::Icmpv6(icmp), Some(NetHeaders::Ipv6(ip, _))) => {
            let kind = match icmp.icmp_type {
                Icmpv6Type::EchoRequest(echo) => Kind::Request { id: echo.id },
                Icmpv6Type::EchoReply(echo) => Kind::Reply { id: echo.id },
                other => bail!("no echo: {other:?}"),
            };
            (kind, icmp.checksum, icmp.icmp_type.calc_checksum(ip.source, ip.destination, data)?)
        }
        (other, _) => bail!("neither datagram nor echo: {other:?}"),
    };
    ensure!(found == right, "wrong checksum {found:04x}, not {right:04x}");
    Ok(Datagram { kind, from, to, dscp: tos >> 2, ttl, payload: data.len() })
}
