//! Changes of the node's network: neighbours and the clsact qdisc.

use super::netlink::{HostError, request, tolerate};
use futures_util::stream::StreamExt as _;
use nix::libc::{ENODEV, ENOENT};
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::tc::TcHandle;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::UdpSocket;

/// Makes the kernel look for the link-layer address of a neighbour, by one datagram to the discard port.
pub async fn solicit(address: IpAddr, device: &str) {
    let any =
        if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let sent = async {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
        socket.bind_device(Some(device.as_bytes()))?;
        socket.send_to(&[], SocketAddr::new(address, 9)).await
    };
    if let Err(error) = sent.await {
        tracing::debug!(%address, device, %error, "neighbour not solicited");
    }
}

/// Deletes a neighbour entry, and with it the packets queued on it. A socket does not retransmit while its packet is queued,
/// which takes three seconds otherwise.
///
/// # Errors
/// Netlink refused. A neighbour or device that is gone is no error.
pub async fn forget_neighbour(ifindex: u32, address: IpAddr) -> Result<(), HostError> {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = ifindex;
    let destination = match address {
        IpAddr::V4(v4) => {
            message.header.family = AddressFamily::Inet;
            NeighbourAddress::Inet(v4)
        }
        IpAddr::V6(v6) => {
            message.header.family = AddressFamily::Inet6;
            NeighbourAddress::Inet6(v6)
        }
    };
    message.attributes.push(NeighbourAttribute::Destination(destination));
    request(async |handle| tolerate(handle.neighbours().del(message).execute().await, &[ENODEV, ENOENT]))
        .await
}

/// Removes the clsact qdisc of a device, unless a filter is left on it, which belongs to another program then.
///
/// # Errors
/// Netlink refused. A device that is gone is no error.
pub async fn remove_clsact(ifindex: u32) -> Result<(), HostError> {
    request(async |handle| remove_unused_clsact(&handle, ifindex).await).await
}

async fn remove_unused_clsact(handle: &Handle, ifindex: u32) -> Result<(), rtnetlink::Error> {
    let Ok(index) = i32::try_from(ifindex) else { return Ok(()) };
    let mut filters = handle.traffic_filter(index);
    for request in [filters.get().ingress(), filters.get().egress()] {
        let left: Vec<_> = request.execute().collect().await;
        if left.iter().any(Result::is_ok) {
            return Ok(());
        }
    }
    let mut request = handle.qdisc().del(index);
    let header = &mut request.message_mut().header;
    (header.parent, header.handle) = (TcHandle::CLSACT, TcHandle { major: 0xffff, minor: 0 });
    tolerate(request.execute().await, &[ENODEV])
}
