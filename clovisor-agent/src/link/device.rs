//! The device of a link; pure.

use super::table::{Chosen, DownReason, LinkId, LinkTable};
use clovisor_datapath::host::net::{Device, HostNet};
use clovisor_objects::wan_link::selector::DeviceSelector;
use clovisor_objects::wan_link::{LinkState, WanLinkSpec};
use std::collections::BTreeMap;
use std::sync::Arc;

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

/// The device of each link, where a device is one link's: the maps know a link by its device.
pub(super) struct Claims<'a> {
    found: BTreeMap<&'a str, Result<&'a Device, DownReason>>,
    /// By ifindex.
    owners: BTreeMap<u32, &'a str>,
}

impl<'a> Claims<'a> {
    /// Of several links with the same device the one has it that is not disabled, that had it before, then the one with the lowest
    /// number (`number`).
    pub(super) fn of(
        specs: &BTreeMap<String, Arc<WanLinkSpec>>,
        found: impl Iterator<Item = (&'a str, Result<&'a Device, DownReason>)>,
        before: &LinkTable,
        number: impl Fn(&String) -> Option<LinkId>,
    ) -> Self {
        let found: BTreeMap<_, _> = found.collect();
        let mut owners = BTreeMap::new();
        let claim = |name: &str, ifindex| {
            let disabled = specs.get(name).is_none_or(|spec| spec.state == LinkState::Disabled);
            let had = before.links.get(name).is_some_and(|link| link.ifindex == Some(ifindex));
            let id = number(&name.to_owned());
            (disabled, !had, id.is_none(), id, name.to_owned())
        };
        for (name, device) in &found {
            let Ok(device) = device else { continue };
            let owner = owners.entry(device.ifindex).or_insert(*name);
            if claim(name, device.ifindex) < claim(owner, device.ifindex) {
                *owner = name;
            }
        }
        Self { found, owners }
    }

    /// The device of a link.
    ///
    /// # Errors
    /// There is none, or it is another link's.
    pub(super) fn device(&self, name: &str) -> Result<&'a Device, DownReason> {
        let device = self.found.get(name).copied().unwrap_or(Err(DownReason::DeviceMissing))?;
        if self.owner(name).is_some() { Err(DownReason::DeviceTaken) } else { Ok(device) }
    }

    /// The other link that has the device of this one.
    pub(super) fn owner(&self, name: &str) -> Option<&'a str> {
        let device = self.found.get(name)?.ok()?;
        self.owners.get(&device.ifindex).copied().filter(|owner| *owner != name)
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
