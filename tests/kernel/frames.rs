//! Frames in and out, by etherparse; its checksums are the judge of ours.

use anyhow::{Context as _, Result, bail, ensure};
use clovisor_common::abi::dscp_of_class;
use etherparse::{
    IpDscp, IpEcn, Ipv4Header, Ipv6Header, NetHeaders, PacketBuilder, PacketHeaders, TcpHeader,
    TcpOptionElement, TransportHeader,
};

use crate::machine::{CLASS, PEER4, PEER6, POD4, POD6, SPORT};

pub(crate) const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(crate) const SEQ: u32 = 1000;
pub(crate) const ACKED: u32 = 77_000;

/// A TCP packet to build; the default is the proxy's SYN of one class with an MSS of 1460.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) v6: bool,
    pub(crate) from: Option<Vec<u8>>,
    pub(crate) to: Option<Vec<u8>>,
    pub(crate) sport: u16,
    pub(crate) dport: u16,
    pub(crate) dscp: u8,
    pub(crate) ecn: u8,
    pub(crate) ttl: u8,
    pub(crate) flags: &'static str,
    pub(crate) mss: Option<u16>,
    pub(crate) payload: usize,
}

pub(crate) fn syn(v6: bool) -> Shape {
    Shape {
        v6,
        from: None,
        to: None,
        sport: SPORT,
        dport: 443,
        dscp: dscp_of_class(CLASS),
        ecn: 2,
        ttl: 64,
        flags: "S",
        mss: Some(1460),
        payload: 0,
    }
}

pub(crate) fn data(v6: bool, payload: usize) -> Shape {
    Shape { flags: "A", mss: None, payload, ..syn(v6) }
}

impl Shape {
    pub(crate) fn frame(&self) -> Result<Vec<u8>> {
        let builder = PacketBuilder::ethernet2(MAC_A, MAC_B);
        let mut tcp = TcpHeader::new(self.sport, self.dport, SEQ, 60_000);
        for flag in self.flags.chars() {
            match flag {
                'S' => tcp.syn = true,
                'A' => (tcp.ack, tcp.acknowledgment_number) = (true, ACKED),
                'F' => tcp.fin = true,
                'R' => tcp.rst = true,
                other => bail!("no TCP flag {other}"),
            }
        }
        if let Some(mss) = self.mss {
            tcp.set_options(&[TcpOptionElement::Noop, TcpOptionElement::MaximumSegmentSize(mss)])?;
        }
        let builder = if self.v6 {
            let header = Ipv6Header {
                traffic_class: self.dscp << 2 | self.ecn,
                hop_limit: self.ttl,
                source: address(self.from.as_deref().unwrap_or(&POD6))?,
                destination: address(self.to.as_deref().unwrap_or(&PEER6))?,
                ..Ipv6Header::default()
            };
            builder.ip(etherparse::IpHeaders::Ipv6(header, Default::default()))
        } else {
            let header = Ipv4Header {
                dscp: IpDscp::try_new(self.dscp)?,
                ecn: IpEcn::try_new(self.ecn)?,
                identification: 4711,
                dont_fragment: true,
                time_to_live: self.ttl,
                source: address(self.from.as_deref().unwrap_or(&POD4))?,
                destination: address(self.to.as_deref().unwrap_or(&PEER4))?,
                ..Ipv4Header::default()
            };
            builder.ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
        };
        let payload: Vec<u8> = (0..self.payload).map(|i| i as u8).collect();
        let mut frame = Vec::new();
        builder.tcp_header(tcp).write(&mut frame, &payload)?;
        Ok(frame)
    }
}

fn address<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().context("an address of the other family")
}

/// What a frame says, after its checksums were found right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) macs: ([u8; 6], [u8; 6]),
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
    pub(crate) dscp: u8,
    pub(crate) ecn: u8,
    pub(crate) ttl: u8,
    pub(crate) tcp: TcpHeader,
    pub(crate) payload: Vec<u8>,
}

impl Seen {
    pub(crate) fn mss(&self) -> Option<u16> {
        self.tcp.options_iterator().find_map(|option| match option {
            Ok(TcpOptionElement::MaximumSegmentSize(mss)) => Some(mss),
            _ => None,
        })
    }
}

pub(crate) fn seen(frame: &[u8]) -> Result<Seen> {
    let headers = PacketHeaders::from_ethernet_slice(frame)?;
    let Some(TransportHeader::Tcp(tcp)) = headers.transport else {
        bail!("no TCP in {frame:02x?}");
    };
    let payload = headers.payload.slice().to_vec();
    let (from, to, tos, ttl, checksum) = match headers.net.context("no IP header")? {
        NetHeaders::Ipv4(ip, _) => {
            ensure!(ip.header_checksum == ip.calc_header_checksum(), "wrong IP checksum");
            let tos = ip.dscp.value() << 2 | ip.ecn.value();
            let checksum = tcp.calc_checksum_ipv4(&ip, &payload)?;
            (ip.source.to_vec(), ip.destination.to_vec(), tos, ip.time_to_live, checksum)
        }
        NetHeaders::Ipv6(ip, _) => {
            let checksum = tcp.calc_checksum_ipv6(&ip, &payload)?;
            (ip.source.to_vec(), ip.destination.to_vec(), ip.traffic_class, ip.hop_limit, checksum)
        }
        other => bail!("neither IPv4 nor IPv6: {other:?}"),
    };
    ensure!(tcp.checksum == checksum, "wrong TCP checksum {:04x}, not {checksum:04x}", tcp.checksum);
    let link = headers.link.context("no Ethernet header")?.ethernet2().context("no Ethernet header")?;
    Ok(Seen {
        macs: (link.source, link.destination),
        from,
        to,
        dscp: tos >> 2,
        ecn: tos & 3,
        ttl,
        tcp,
        payload,
    })
}
