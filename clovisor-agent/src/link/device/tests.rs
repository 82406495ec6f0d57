use super::*;
use clovisor_datapath::host::routes::HostRoute;
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
        (ifindex, Device { ifindex, name, kind, driver, mac: vec![2, 0, 0, 0, 0, last], ..Device::default() })
    });
    let (v4, v6) = (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED));
    let default = |destination, ifindex, metric| HostRoute {
        destination,
        prefix: 0,
        gateway: None,
        ifindex,
        metric,
        source: None,
    };
    let routes = vec![default(v6, 5, 1), default(v4, 4, 200), default(v4, 2, 100), default(v6, 2, 1)];
    HostNet { devices: devices.into(), routes: routes.into(), ..HostNet::default() }
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
    net.routes = net.routes.iter().filter(|route| route.ifindex != 2).copied().collect();
    let name = |spec: &WanLinkSpec, net: &HostNet| device(spec, net, chosen.as_ref()).map(|d| d.name.clone());
    assert_eq!(name(&first, &net), Ok("eth0".into()));
    assert_eq!(name(&spec(r#"{"defaultRoute": 2}"#), &net), Ok("eth1".into()), "another number looks anew");
    assert_eq!(name(&spec(r#"{"defaultRoute": 1, "driver": "qmi_wwan"}"#), &net), Ok("wwan0".into()));
    net.devices.remove(&2);
    assert_eq!(name(&first, &net), Err(DownReason::DeviceMissing));
}
