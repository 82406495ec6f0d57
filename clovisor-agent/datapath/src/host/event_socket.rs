//! A netlink socket for events alone. The answer to a request could be taken for an event of the same number, and the reverse.

use super::netlink::HostError;
use nix::libc::ENOBUFS;
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use std::io;

/// Room for events, bytes.
const ROOM: usize = 8 << 20;
/// Length of the header of a message, and the size to which messages are padded.
const HEADER: usize = 16;
const ALIGNED: usize = 4;
/// `RTM_NEWNEXTHOP`, `RTM_DELNEXTHOP`: the library does not read them.
const NEXT_HOPS: [u16; 2] = [104, 105];

/// What came from the kernel.
#[derive(Debug)]
pub(super) enum Notice {
    Message(Box<NetlinkMessage<RouteNetlinkMessage>>),
    /// A next hop that routes name (`ip nexthop`) is another one: the kernel does not tell of each route.
    NextHop,
    /// There was no room for some events.
    Overrun,
}

pub(super) struct EventSocket(TokioSocket);

impl EventSocket {
    /// # Errors
    /// There is no netlink socket.
    pub(super) fn subscribe(groups: &[MulticastGroup]) -> Result<Self, HostError> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let inner = socket.socket_mut();
        inner.bind(&SocketAddr::new(0, 0))?;
        for group in groups {
            inner.add_membership(*group as u32)?;
        }
        // Less room only means a dump sooner.
        if let Err(error) = setsockopt(&*inner, sockopt::RcvBufForce, &ROOM) {
            tracing::debug!(%error, "receive buffer of the netlink socket stays as it is");
        }
        Ok(Self(socket))
    }

    /// Waits for the next datagram.
    ///
    /// # Errors
    /// The socket is unusable.
    pub(super) async fn next(&self) -> io::Result<Vec<Notice>> {
        notices(self.0.recv_from_full().await)
    }

    /// The next datagram that is there already.
    ///
    /// # Errors
    /// The socket is unusable.
    pub(super) fn waiting(&self) -> io::Result<Option<Vec<Notice>>> {
        match self.0.socket_ref().recv_from_full() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            result => notices(result).map(Some),
        }
    }
}

fn notices(received: io::Result<(Vec<u8>, SocketAddr)>) -> io::Result<Vec<Notice>> {
    match received {
        Ok((datagram, _)) => Ok(parse(&datagram)),
        Err(error) if error.raw_os_error() == Some(ENOBUFS) => Ok(vec![Notice::Overrun]),
        Err(error) => Err(error),
    }
}

/// The messages of a datagram. One that cannot be read costs itself.
fn parse(mut datagram: &[u8]) -> Vec<Notice> {
    let mut notices = Vec::new();
    while let Some((length, kind)) = head(datagram) {
        let Some(message) = datagram.get(..length).filter(|_| length >= HEADER) else { break };
        if NEXT_HOPS.contains(&kind) {
            notices.push(Notice::NextHop);
        } else {
            match NetlinkMessage::deserialize(message) {
                Ok(message) => notices.push(Notice::Message(Box::new(message))),
                Err(error) => tracing::debug!(kind, %error, "event of the network not understood"),
            }
        }
        datagram = datagram.get(length.next_multiple_of(ALIGNED)..).unwrap_or_default();
    }
    notices
}

/// Length and type of the first message.
fn head(datagram: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(*datagram.first_chunk()?);
    let kind = u16::from_ne_bytes(*datagram.get(4..)?.first_chunk()?);
    Some((usize::try_from(length).ok()?, kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_route::link::LinkMessage;

    fn bytes(kind: Option<u16>) -> Vec<u8> {
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewLink(LinkMessage::default()));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        if let Some(kind) = kind {
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn a_message_that_cannot_be_read_costs_itself() {
        let datagram = [bytes(None), bytes(Some(0xffff)), bytes(Some(104)), bytes(None)].concat();
        let read = |datagram: &[u8]| {
            parse(datagram).iter().map(|notice| matches!(notice, Notice::Message(_))).collect()
        };
        let all: Vec<bool> = read(&datagram);
        assert_eq!(all, [true, false, true]);
        let cut: Vec<bool> = read(&datagram[..datagram.len() - 1]);
        assert_eq!(cut, [true, false], "the last one is not whole");
        assert!(parse(&[0; 16]).is_empty() && parse(&[]).is_empty());
    }
}
