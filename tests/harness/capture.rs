//! What passes the devices of a namespace, as the kernel shows it to packet sockets.

use crate::netns::Netns;
use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

/// Room for what comes until it is read.
const ROOM: usize = 64 << 20;

/// Sources and destinations of the packets of each device, either way.
pub type Pairs = BTreeMap<String, BTreeSet<(IpAddr, IpAddr)>>;

/// Packets of all devices of a namespace, from its start on.
#[derive(Debug)]
pub struct Capture {
    netns: Netns,
    socket: OwnedFd,
}

impl Capture {
    /// Starts.
    pub fn start(netns: &Netns) -> Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        // Datagrams of such a socket start with the network header on every kind of device.
        let open = || socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthAll);
        let socket = netns.within(open)?.context("no packet socket; run as root")?;
        setsockopt(&socket, sockopt::RcvBufForce, &ROOM)?;
        Ok(Self { netns: netns.clone(), socket })
    }

    /// Ends; what was seen, by the device's name.
    pub fn end(self) -> Result<Pairs> {
        let mut seen: BTreeMap<usize, BTreeSet<_>> = BTreeMap::new();
        let mut headers = [0; 64];
        loop {
            let (length, from) = match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut headers) {
                Ok(packet) => packet,
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(error).context("the packet socket failed"),
            };
            let from = from.context("a packet of no device")?;
            let packet = headers.get(..length).unwrap_or(&headers);
            if let Some(pair) = pair(u16::from_be(from.protocol()), packet) {
                seen.entry(from.ifindex()).or_default().insert(pair);
            }
        }
        ensure!(!seen.is_empty(), "no packet was seen at all");
        self.netns.within(|| {
            let named = seen.into_iter().map(|(index, pairs)| {
                let name = if_indextoname(index as u32).context("a device is gone")?;
                Ok((name.to_string_lossy().into_owned(), pairs))
            });
            named.collect()
        })?
    }
}

/// IP packets that pass the Ethernet devices of a namespace meanwhile, and how many of them have no Ethernet header, as
/// what captures or bridges there would see it.
pub fn without_ethernet(netns: &Netns, meanwhile: impl FnOnce() -> Result<()>) -> Result<(usize, usize)> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let open = || socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll);
    let socket = netns.within(open)?.context("no packet socket; run as root")?;
    setsockopt(&socket, sockopt::RcvBufForce, &ROOM)?;
    meanwhile()?;
    let (mut all, mut bare, mut frame) = (0, 0, [0; 64]);
    loop {
        let (length, from) = match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame) {
            Ok(frame) => frame,
            Err(Errno::EAGAIN) => return Ok((all, bare)),
            Err(error) => return Err(error).context("the packet socket failed"),
        };
        let protocol = from.context("a packet of no device")?.protocol().to_ne_bytes();
        if [libc::ETH_P_IP, libc::ETH_P_IPV6].contains(&u16::from_be_bytes(protocol).into()) {
            all += 1;
            bare += usize::from(length < 14 || frame.get(12..14) != Some(&protocol));
        }
    }
}

fn pair(protocol: u16, packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let v4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let v6 = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
    match i32::from(protocol) {
        libc::ETH_P_IP => Some((v4(12)?, v4(16)?)),
        libc::ETH_P_IPV6 => Some((v6(8)?, v6(24)?)),
        _ => None,
    }
}
