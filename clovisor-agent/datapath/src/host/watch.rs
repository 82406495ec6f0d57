//! The netlink shell: dumps the node's network, again after each burst of events.

use super::driver::driver;
use super::forward_policy::ForwardPolicy;
use super::fwmark;
use super::net::{Device, FdbEntry, HostNet, HostRoute, Neighbour, Reachability};
use super::netlink::HostError;
use super::sysctl::strict_reverse_path;
use futures_util::stream::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressAttribute, AddressScope};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::SocketAddr as SocketAddrNetlink;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Events come in bursts; one dump serves a burst.
const BURST: Duration = Duration::from_millis(5);
/// A dump even without events, should one have been lost.
const REFRESH: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(500);

const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// Reads the network once and keeps following it in a task of its own.
///
/// # Errors
/// No netlink socket, or the first dump failed.
pub async fn watch() -> Result<watch::Receiver<Arc<HostNet>>, HostError> {
    let (connection, handle, mut events) = new_multicast_connection(&GROUPS)?;
    tokio::spawn(connection);
    let mut epochs = BTreeMap::new();
    let mut policy = ForwardPolicy::default();
    let mut first = dump(&handle, &epochs).await?;
    policy.look(&mut first, REFRESH).await;
    let (publish, host) = watch::channel(Arc::new(first));
    tokio::spawn(async move {
        loop {
            let event = timeout(REFRESH, events.next()).await;
            if matches!(event, Ok(None)) || publish.is_closed() {
                return;
            }
            note(&mut epochs, event.ok().flatten());
            sleep(BURST).await;
            while let Ok(Some(event)) = timeout(Duration::ZERO, events.next()).await {
                note(&mut epochs, Some(event));
            }
            match dump(&handle, &epochs).await {
                Ok(mut net) => {
                    policy.look(&mut net, REFRESH).await;
                    publish.send_if_modified(|old| {
                        let changed = **old != net;
                        *old = Arc::new(net);
                        changed
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "network of the node not read");
                    sleep(RETRY).await;
                }
            }
        }
    });
    Ok(host)
}

type Event = (NetlinkMessage<RouteNetlinkMessage>, SocketAddrNetlink);

/// A device that is deleted and made again within a burst looks the same afterwards, by ifindex and by name.
fn note(epochs: &mut BTreeMap<u32, u32>, event: Option<Event>) {
    let payload = event.map(|(message, _)| message.payload);
    if let Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(gone))) = payload
        && gone.header.interface_family != AddressFamily::Bridge
    {
        *epochs.entry(gone.header.index).or_default() += 1;
    }
}

async fn dump(handle: &Handle, epochs: &BTreeMap<u32, u32>) -> Result<HostNet, HostError> {
    let mut net = HostNet::default();
    let mut links = handle.link().get().execute();
    while let Some(message) = links.try_next().await? {
        let mut device = device(&message);
        device.driver = driver(&device);
        device.epoch = epochs.get(&device.ifindex).copied().unwrap_or(0);
        device.strict = strict_reverse_path(&device.name);
        net.devices.insert(device.ifindex, device);
    }
    let mut addresses = handle.address().get().execute();
    while let Some(message) = addresses.try_next().await? {
        let global = message.header.scope == AddressScope::Universe;
        let local = message
            .attributes
            .iter()
            .find_map(|a| if let AddressAttribute::Local(ip) = a { Some(*ip) } else { None });
        let plain = message
            .attributes
            .iter()
            .find_map(|a| if let AddressAttribute::Address(ip) = a { Some(*ip) } else { None });
        if let (true, Some(ip), Some(device)) =
            (global, local.or(plain), net.devices.get_mut(&message.header.index))
        {
            device.addresses.push((ip, message.header.prefix_len));
        }
    }
    let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
    for filter in [v4, v6] {
        let mut routes = handle.route().get(filter).execute();
        while let Some(message) = routes.try_next().await? {
            net.routes.extend(routes_of(&message));
            net.fwmark.extend(fwmark::route_of(&message));
        }
    }
    net.fwmark.extend(fwmark::found(handle).await?);
    for family in [AddressFamily::Inet, AddressFamily::Inet6, AddressFamily::Bridge] {
        let mut entries = handle.neighbours().get().set_address_family(family).execute();
        while let Some(message) = entries.try_next().await? {
            add_neighbour(&mut net, &message);
        }
    }
    Ok(net)
}

fn device(message: &LinkMessage) -> Device {
    let flags = message.header.flags;
    let mut device = Device {
        ifindex: message.header.index,
        l3: message.header.link_layer_type != LinkLayerType::Ether,
        carrier: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp),
        ..Device::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            LinkAttribute::Address(mac) => device.mac.clone_from(mac),
            LinkAttribute::Controller(master) => device.master = Some(*master),
            LinkAttribute::LinkInfo(infos) => {
                let kind = infos.iter().find_map(|i| if let LinkInfo::Kind(k) = i { Some(k) } else { None });
                device.kind = kind.map(kind_name).unwrap_or_default();
            }
            _ => {}
        }
    }
    device
}

fn kind_name(kind: &InfoKind) -> String {
    kind.to_string()
}

/// The unicast routes of the main table that a message names: one, or one for each of its next hops.
fn routes_of(message: &RouteMessage) -> Vec<HostRoute> {
    if message.header.table != RouteHeader::RT_TABLE_MAIN || message.header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let any = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let prefix = message.header.destination_prefix_length;
    let mut route = HostRoute { destination: any, prefix, gateway: None, ifindex: 0, metric: 0 };
    let mut hops: &[RouteNextHop] = &[];
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => route.destination = ip(address).unwrap_or(any),
            RouteAttribute::Gateway(address) => route.gateway = ip(address),
            RouteAttribute::Oif(index) => route.ifindex = *index,
            RouteAttribute::Priority(priority) => route.metric = *priority,
            RouteAttribute::MultiPath(all) => hops = all,
            _ => {}
        }
    }
    let through = |hop: &RouteNextHop| {
        let gateway = |a: &RouteAttribute| if let RouteAttribute::Gateway(to) = a { ip(to) } else { None };
        HostRoute {
            ifindex: hop.interface_index,
            gateway: hop.attributes.iter().find_map(gateway),
            ..route.clone()
        }
    };
    let mut all: Vec<HostRoute> = hops.iter().map(through).collect();
    all.push(route);
    all.retain(|route| route.ifindex != 0);
    all
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn add_neighbour(net: &mut HostNet, message: &NeighbourMessage) {
    let (mut address, mut mac, mut bridge) = (None, Vec::new(), None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac.clone_from(bytes),
            NeighbourAttribute::Controller(index) => bridge = Some(*index),
            _ => {}
        }
    }
    let ifindex = message.header.ifindex;
    if message.header.family == AddressFamily::Bridge {
        net.fdb.extend(bridge.map(|bridge| FdbEntry { mac, ifindex, bridge }));
    } else if let Some(address) = address {
        let reachability = match message.header.state {
            NeighbourState::Failed | NeighbourState::None => Reachability::Failed,
            NeighbourState::Incomplete => Reachability::Asked,
            _ if mac.is_empty() => Reachability::Asked,
            _ => Reachability::Known,
        };
        net.neighbours.push(Neighbour { address, ifindex, mac, reachability });
    }
}
