//! Raw IP packets to pods.

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// `IPPROTO_RAW`: the caller writes the IP header.
const RAW: i32 = 255;

/// A socket of each family, opened when first needed (CAP_NET_RAW).
#[derive(Debug, Default)]
pub struct RawSockets {
    v4: Option<Socket>,
    v6: Option<Socket>,
}

impl RawSockets {
    /// Sends an IP packet with its header by the route to `address`.
    ///
    /// # Errors
    /// No socket, no route.
    pub fn send(&mut self, address: IpAddr, packet: &[u8]) -> io::Result<()> {
        let (place, domain) = match address {
            IpAddr::V4(_) => (&mut self.v4, Domain::IPV4),
            IpAddr::V6(_) => (&mut self.v6, Domain::IPV6),
        };
        let socket = match place {
            Some(socket) => socket,
            None => place.insert(Socket::new(domain, Type::RAW, Some(Protocol::from(RAW)))?),
        };
        // IPv6 takes no port here but zero.
        socket.send_to(packet, &SockAddr::from(SocketAddr::new(address, 0))).map(drop)
    }
}
