//! Dumps of the node's network, as the events that would have told of it.

use super::driver::driver;
use super::event::{NetEvent, event};
use super::fwmark::PROTOCOL;
use super::net::{Device, HostNet};
use super::netlink::HostError;
use super::state::NetState;
use super::sysctl::strict_reverse_path;
use futures_util::stream::StreamExt as _;
use nix::libc::{ENODEV, ENOENT};
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage};
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Error, Handle, new_connection, new_connection_with_strict_check};

const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// The network as it is now, read afresh.
///
/// # Errors
/// No netlink socket, or a dump failed.
pub async fn read() -> Result<HostNet, HostError> {
    Ok(everything().await?.view())
}

/// All that events tell of.
pub(super) async fn everything() -> Result<NetState, HostError> {
    let mut state = NetState::default();
    let (connection, handle, _events) = new_connection()?;
    let connection = tokio::spawn(connection);
    let mut requests = vec![
        RouteNetlinkMessage::GetLink(LinkMessage::default()),
        RouteNetlinkMessage::GetAddress(AddressMessage::default()),
    ];
    for family in FAMILIES {
        let mut rules = RuleMessage::default();
        rules.header.family = family;
        requests.push(RouteNetlinkMessage::GetRule(rules));
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6, AddressFamily::Bridge] {
        let mut neighbours = NeighbourMessage::default();
        neighbours.header.family = family;
        requests.push(RouteNetlinkMessage::GetNeighbour(neighbours));
    }
    for request in requests {
        each(&handle, request, &mut |event| state.list(&event)).await?;
    }
    connection.abort();
    routes(None, &mut |event| state.list(&event)).await?;
    Ok(state)
}

/// The addresses of this device, and the routes of the main table by it.
pub(super) async fn device(ifindex: u32) -> Result<Vec<NetEvent>, HostError> {
    let mut found = Vec::new();
    let (connection, handle, _events) = new_connection_with_strict_check()?;
    let connection = tokio::spawn(connection);
    let mut addresses = AddressMessage::default();
    addresses.header.index = ifindex;
    each(&handle, RouteNetlinkMessage::GetAddress(addresses), &mut |event| found.push(event)).await?;
    connection.abort();
    routes(Some(ifindex), &mut |event| found.push(event)).await?;
    Ok(found)
}

/// Routes of the main table by the device, or all of them and those for marked packets. The kernel leaves out the rest.
async fn routes(ifindex: Option<u32>, each_event: &mut impl FnMut(NetEvent)) -> Result<(), HostError> {
    let (connection, handle, _events) = new_connection_with_strict_check()?;
    let connection = tokio::spawn(connection);
    for family in FAMILIES {
        let mut main = RouteMessage::default();
        main.header.address_family = family;
        main.attributes.push(RouteAttribute::Table(RouteHeader::RT_TABLE_MAIN.into()));
        main.attributes.extend(ifindex.map(RouteAttribute::Oif));
        let mut ours = RouteMessage::default();
        ours.header.address_family = family;
        ours.header.protocol = PROTOCOL;
        let requests = if ifindex.is_some() { vec![main] } else { vec![main, ours] };
        for request in requests {
            each(&handle, RouteNetlinkMessage::GetRoute(request), each_event).await?;
        }
    }
    connection.abort();
    Ok(())
}

async fn each(
    handle: &Handle,
    request: RouteNetlinkMessage,
    each_event: &mut impl FnMut(NetEvent),
) -> Result<(), HostError> {
    let mut message = NetlinkMessage::from(request);
    message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut answers = handle.clone().request(message).map_err(HostError::from)?;
    while let Some(answer) = answers.next().await {
        match &answer.payload {
            // No such table: there are no such routes. No such device: likewise.
            NetlinkPayload::Error(error) if [-ENOENT, -ENODEV].contains(&error.raw_code()) => {}
            NetlinkPayload::Error(error) => return Err(Error::NetlinkError(error.clone()).into()),
            _ => {
                if let Some(event) = event(&answer) {
                    each_event(complete(event));
                }
            }
        }
    }
    Ok(())
}

/// With what netlink does not tell of a device.
pub(super) fn complete(mut event: NetEvent) -> NetEvent {
    if let NetEvent::Device(device) = &mut event {
        fill(device);
    }
    event
}

/// Reads the settings of a device that no event tells of.
pub(super) fn fill(device: &mut Device) {
    device.driver = driver(device);
    device.strict = strict_reverse_path(&device.name);
}
