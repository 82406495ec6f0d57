//! The driver of a device, from sysfs: netlink does not report it.

use super::net::Device;
use std::fs;
use std::path::Path;

/// Name of the driver: of a physical device by its sysfs link, of a virtual one its kind. Empty where sysfs is not
/// mounted or shows another network namespace.
pub(super) fn driver(device: &Device) -> String {
    if !device.kind.is_empty() {
        return device.kind.clone();
    }
    let folder = Path::new("/sys/class/net").join(&device.name);
    let index = fs::read_to_string(folder.join("ifindex")).ok();
    if index.and_then(|text| text.trim().parse().ok()) != Some(device.ifindex) {
        return String::new();
    }
    let target = fs::read_link(folder.join("device/driver")).ok();
    let name = target.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_default()
}
