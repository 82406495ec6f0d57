//! Settings of the node's network that steering depends on; read only.

use std::fs;
use std::path::Path;

const FOLDER: &str = "/proc/sys/net/ipv4";

/// Does the device drop what comes from where it would not send (`rp_filter` 1, RFC 3704 strict)?
pub(super) fn strict_reverse_path(device: &str) -> bool {
    let value = |name: &str| {
        let text = fs::read_to_string(Path::new(FOLDER).join("conf").join(name).join("rp_filter"));
        text.ok().and_then(|text| text.trim().parse::<u8>().ok()).unwrap_or(0)
    };
    // ip-sysctl: the larger of the two counts; 2 is loose.
    value("all").max(value(device)) == 1
}

/// Ports of `min..=max` that the node's own sockets may take by themselves; none: the range is the caller's alone.
#[must_use]
pub fn shared_ports(min: u16, max: u16) -> Option<(u16, u16)> {
    let read = |name: &str| fs::read_to_string(Path::new(FOLDER).join(name)).unwrap_or_default();
    shared((min, max), &read("ip_local_port_range"), &read("ip_local_reserved_ports"))
}

/// `local`: two numbers; `reserved`: numbers and ranges between commas.
fn shared((min, max): (u16, u16), local: &str, reserved: &str) -> Option<(u16, u16)> {
    let mut words = local.split_whitespace().map(|word| word.parse::<u16>());
    let (Some(Ok(low)), Some(Ok(high))) = (words.next(), words.next()) else { return None };
    let ranges: Vec<(u16, u16)> = reserved
        .trim()
        .split(',')
        .filter_map(|part| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            Some((low.parse().ok()?, high.parse().ok()?))
        })
        .collect();
    let free = |port: &u16| !ranges.iter().any(|(low, high)| (low..=high).contains(&port));
    let mut both = (min.max(low)..=max.min(high)).filter(free);
    let first = both.next()?;
    Some((first, both.next_back().unwrap_or(first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_ones_own_when_sockets_do_not_take_it() {
        let range = (10_240, 29_999);
        for (local, reserved, wanted) in [
            ("32768\t60999\n", "\n", None),
            ("1024 65000", "", Some(range)),
            ("1024 65000", "10240-29999", None),
            ("1024 65000", "80,10240-29997", Some((29_998, 29_999))),
            ("29999 40000", "", Some((29_999, 29_999))),
            ("", "", None),
        ] {
            assert_eq!(shared(range, local, reserved), wanted, "{local} {reserved}");
        }
    }
}
