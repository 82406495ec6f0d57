//! Settings of devices that steering depends on; read only.

use std::fs;
use std::path::Path;

const FOLDER: &str = "/proc/sys/net/ipv4/conf";

/// The device has a strict reverse path filter (`rp_filter` 1, RFC 3704).
pub(super) fn strict_reverse_path(device: &str) -> bool {
    let value = |name: &str| {
        let text = fs::read_to_string(Path::new(FOLDER).join(name).join("rp_filter"));
        text.ok().and_then(|text| text.trim().parse::<u8>().ok()).unwrap_or(0)
    };
    // ip-sysctl: the larger of the two counts; 2 is loose.
    value("all").max(value(device)) == 1
}
