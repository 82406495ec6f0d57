use super::*;
use std::net::Ipv4Addr;

fn own(address: &str) -> DeviceAddress {
    let net: IpNet = address.parse().unwrap_or_else(|e| panic!("{address}: {e}"));
    DeviceAddress::global(net.addr(), net.prefix_len())
}

fn ip(address: &str) -> IpAddr {
    address.parse().unwrap_or_else(|e| panic!("{address}: {e}"))
}

fn chosen(addresses: &[DeviceAddress], family: IpFamily, gateway: Option<&str>, src: Option<&str>) -> String {
    let device = Device { ifindex: 9, addresses: addresses.to_vec(), ..Device::default() };
    let net = HostNet { devices: [(9, device.clone())].into(), ..HostNet::default() };
    let route = HostRoute {
        destination: Ipv4Addr::UNSPECIFIED.into(),
        prefix: 0,
        gateway: gateway.map(ip),
        ifindex: 9,
        metric: 0,
        source: src.map(ip),
    };
    let source = source(&net, &device, Some(&route), gateway.map(ip), family);
    source.map_or_else(String::new, |source| source.to_string())
}

const V4: IpFamily = IpFamily::V4;
const V6: IpFamily = IpFamily::V6;

/// Each row: what the device has, in the kernel's order, and the one that is used.
#[test]
fn the_address_that_the_kernel_would_choose() {
    let tentative = |address| DeviceAddress { tentative: true, ..own(address) };
    let deprecated = |address| DeviceAddress { deprecated: true, ..own(address) };
    let secondary = |address| DeviceAddress { secondary: true, ..own(address) };
    let of_link = |address| DeviceAddress { scope: 253, ..own(address) };
    let of_host = |address| DeviceAddress { scope: 254, ..own(address) };
    let (new, old, ula) = ("2001:db8::2/64", "2001:db8::1/64", "fd00::1/64");
    for (addresses, family, chosen_one) in [
        (vec![own(new), own(old)], V6, "2001:db8::2"),
        (vec![deprecated(new), own(old)], V6, "2001:db8::1"),
        (vec![tentative(new), own(old)], V6, "2001:db8::1"),
        (vec![secondary(new), own(old)], V6, "2001:db8::1"),
        (vec![own(ula), own(old)], V6, "2001:db8::1"),
        (vec![own(ula), secondary(old)], V6, "2001:db8::1"),
        (vec![own(ula), deprecated(old)], V6, "fd00::1"),
        (vec![own("2002:a00::1/64"), own(old)], V6, "2001:db8::1"),
        (vec![deprecated(new), secondary(old)], V6, "2001:db8::1"),
        (vec![deprecated(new)], V6, "2001:db8::2"),
        (vec![own(ula)], V6, "fd00::1"),
        (vec![tentative(new), of_link("fe80::1/64")], V6, ""),
        (vec![own("10.9.0.2/24")], V6, ""),
        (vec![own("10.9.0.2/24"), secondary("10.9.0.3/24")], V4, "10.9.0.2"),
        (vec![deprecated("10.9.0.2/24"), secondary("10.9.0.3/24")], V4, "10.9.0.3"),
        (vec![own("10.7.0.2/24"), own("10.9.0.2/24")], V4, "10.9.0.2"),
        (vec![own("10.7.0.2/24"), deprecated("10.9.0.2/24")], V4, "10.9.0.2"),
        (vec![own("169.254.3.1/16"), own("10.7.0.2/24")], V4, "10.7.0.2"),
        (vec![own("169.254.3.1/16")], V4, "169.254.3.1"),
        (vec![of_host("10.9.0.9/24"), of_link("10.9.0.8/24"), own("10.9.0.2/24")], V4, "10.9.0.2"),
        (vec![own(new)], V4, ""),
    ] {
        let gateway = (family == V4).then_some("10.9.0.1");
        assert_eq!(chosen(&addresses, family, gateway, None), chosen_one, "{addresses:?}");
    }
}

#[test]
fn the_source_of_the_route_is_taken_if_the_node_has_it() {
    let addresses = [own("10.9.0.2/24"), DeviceAddress { secondary: true, ..own("10.9.0.7/24") }];
    for (src, want) in [(Some("10.9.0.7"), "10.9.0.7"), (Some("10.9.0.8"), "10.9.0.2"), (None, "10.9.0.2")] {
        assert_eq!(chosen(&addresses, V4, Some("10.9.0.1"), src), want, "{src:?}");
    }
    assert_eq!(chosen(&addresses, V6, None, Some("10.9.0.7")), "", "of the other family");
}

#[test]
fn a_unique_local_address_does_not_stand_in_for_a_global_one() {
    for (next, address, does) in [
        ("10.9.0.3", "10.9.0.2", true),
        ("2001:db8::2", "2001:db8::1", true),
        ("2001:db8::2", "fd00::1", true),
        ("fd00::1", "2001:db8::1", false),
        ("fd00::2", "fd00::1", true),
        ("2001:db8::2", "10.9.0.2", false),
    ] {
        assert_eq!(replaces(ip(next), ip(address)), does, "{next} for {address}");
    }
}
