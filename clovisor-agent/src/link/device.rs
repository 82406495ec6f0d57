//! The device of a link; pure.

use super::table::{Chosen, DownReason};
use clovisor_datapath::host::net::{Device, HostNet};
use clovisor_objects::wan_link::WanLinkSpec;
use clovisor_objects::wan_link::selector::DeviceSelector;

/// The device of a link now. `chosen`: the device that was chosen earlier by the number of a default route.
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

/// The part of a choice that is kept.
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
    let mut devices = Vec::new();
    for route in net.routes.defaults() {
        if !devices.contains(&route.ifindex) {
            devices.push(route.ifindex);
        }
    }
    devices.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests;
