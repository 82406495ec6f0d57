//! Which device a link means: pure.

use super::table::{Chosen, DownReason};
use crate::cluster::wan_link::WanLinkSpec;
use crate::cluster::wan_link::selector::DeviceSelector;
use crate::host::net::{Device, HostNet};

/// The device of a link now. `chosen`: what was taken by the number of a default route before.
///
/// # Errors
/// There is none, or the selector means several.
pub(super) fn device<'a>(
    spec: &WanLinkSpec,
    net: &'a HostNet,
    chosen: Option<&Chosen>,
) -> Result<&'a Device, DownReason> {
    let Some(selector) = &spec.device_selector else {
        return spec.device.as_deref().and_then(|name| net.device(name)).ok_or(DownReason::DeviceMissing);
    };
    let kept = chosen.filter(|chosen| Some(chosen.default_route) == selector.default_route);
    match kept.map(|chosen| net.device(&chosen.device)) {
        Some(Some(device)) if has(selector, device) => return Ok(device),
        // Away, like a modem that was unplugged: the next device in line would be another link.
        Some(None) => return Err(DownReason::DeviceMissing),
        Some(Some(_)) | None => {}
    }
    let by_route = selector.default_route.map(|number| default_route(net, number));
    let fits = |d: &&Device| has(selector, d) && by_route.is_none_or(|found| found == Some(d.ifindex));
    let all: Vec<&Device> = net.devices.values().filter(fits).collect();
    // A VLAN has the address of the device below it, which is the one that was meant.
    let physical = || all.iter().copied().filter(|d| d.kind.is_empty());
    match (all.as_slice(), physical().count()) {
        ([], _) => Err(DownReason::DeviceMissing),
        ([one], _) => Ok(one),
        (_, 1) => physical().next().ok_or(DownReason::DeviceAmbiguous),
        _ => Err(DownReason::DeviceAmbiguous),
    }
}

/// What is to be remembered of a choice.
pub(super) fn choice(spec: &WanLinkSpec, device: &Device) -> Option<Chosen> {
    let default_route = spec.device_selector.as_ref()?.default_route?;
    Some(Chosen { default_route, device: device.name.clone() })
}

/// Address and driver as the selector wants them.
fn has(selector: &DeviceSelector, device: &Device) -> bool {
    selector.mac.is_none_or(|mac| device.mac == mac.0)
        && selector.driver.as_ref().is_none_or(|driver| device.driver == *driver)
}

/// The device of the default route with this number, beginning with 1: IPv4 before IPv6, then by metric; a device
/// counts once.
fn default_route(net: &HostNet, number: i32) -> Option<u32> {
    let mut routes: Vec<_> = net.routes.iter().filter(|route| route.prefix == 0).collect();
    routes.sort_by_key(|route| (route.destination.is_ipv6(), route.metric));
    let mut devices = Vec::new();
    for route in routes {
        if !devices.contains(&route.ifindex) {
            devices.push(route.ifindex);
        }
    }
    devices.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::net::Route;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    fn spec(selector: &str) -> WanLinkSpec {
        let text = format!("{{\"deviceSelector\": {selector}}}");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {text}"))
    }

    fn net() -> HostNet {
        let rows = [
            (2, "eth0", "", "igb", 2),
            (3, "eth0.7", "vlan", "vlan", 2),
            (4, "wwan0", "", "qmi_wwan", 4),
            (5, "eth1", "", "igb", 5),
        ];
        let devices = rows.map(|(ifindex, name, kind, driver, last)| {
            let (name, kind, driver) = (name.into(), kind.into(), driver.into());
            (
                ifindex,
                Device { ifindex, name, kind, driver, mac: vec![2, 0, 0, 0, 0, last], ..Device::default() },
            )
        });
        let (v4, v6) = (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED));
        let default =
            |destination, ifindex, metric| Route { destination, prefix: 0, gateway: None, ifindex, metric };
        let routes = vec![default(v6, 5, 1), default(v4, 4, 200), default(v4, 2, 100), default(v6, 2, 1)];
        HostNet { devices: devices.into(), routes, ..HostNet::default() }
    }

    #[test]
    fn a_selector_means_one_device_or_says_why_not() {
        let (missing, ambiguous) = (Err(DownReason::DeviceMissing), Err(DownReason::DeviceAmbiguous));
        for (selector, expected) in [
            (r#"{"mac": "02:00:00:00:00:04"}"#, Ok("wwan0")),
            (r#"{"mac": "02:00:00:00:00:02"}"#, Ok("eth0")),
            (r#"{"mac": "02:00:00:00:00:02", "driver": "vlan"}"#, Ok("eth0.7")),
            (r#"{"mac": "02:00:00:00:00:09"}"#, missing),
            (r#"{"driver": "qmi_wwan"}"#, Ok("wwan0")),
            (r#"{"driver": "igb"}"#, ambiguous),
            (r#"{"driver": "igb", "defaultRoute": 1}"#, Ok("eth0")),
            (r#"{"driver": "igb", "defaultRoute": 2}"#, missing),
            (r#"{"defaultRoute": 1}"#, Ok("eth0")),
            (r#"{"defaultRoute": 2}"#, Ok("wwan0")),
            (r#"{"defaultRoute": 3}"#, Ok("eth1")),
            (r#"{"defaultRoute": 4}"#, missing),
        ] {
            let net = net();
            assert_eq!(device(&spec(selector), &net, None).map(|d| d.name.as_str()), expected, "{selector}");
        }
    }

    #[test]
    fn a_default_route_that_goes_away_leaves_its_link_where_it_is() {
        let (mut net, first) = (net(), spec(r#"{"defaultRoute": 1}"#));
        let chosen = device(&first, &net, None).ok().and_then(|device| choice(&first, device));
        net.routes.retain(|route| route.ifindex != 2);
        let name =
            |spec: &WanLinkSpec, net: &HostNet| device(spec, net, chosen.as_ref()).map(|d| d.name.clone());
        assert_eq!(name(&first, &net), Ok("eth0".into()));
        assert_eq!(
            name(&spec(r#"{"defaultRoute": 2}"#), &net),
            Ok("eth1".into()),
            "another number looks anew"
        );
        assert_eq!(name(&spec(r#"{"defaultRoute": 1, "driver": "qmi_wwan"}"#), &net), Ok("wwan0".into()));
        net.devices.remove(&2);
        assert_eq!(name(&first, &net), Err(DownReason::DeviceMissing));
    }
}
