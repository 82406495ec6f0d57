//! The node's ephemeral port range and its reserved ports.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Longer than any list of the kernel: every second port is 190 KiB.
const LONGEST: usize = 256 << 10;

/// Settings of the agent's network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalPorts {
    /// First and last ephemeral port (`net.ipv4.ip_local_port_range`).
    pub range: Option<(u16, u16)>,
    /// Ports that are not assigned to sockets by themselves (`net.ipv4.ip_local_reserved_ports`).
    pub reserved: BTreeSet<u16>,
}

/// The settings now; nothing where `/proc` does not show them.
#[must_use]
pub fn local_ports() -> LocalPorts {
    let range = fs::read_to_string(RANGE).unwrap_or_default();
    LocalPorts { range: pair(&range), reserved: ports(&whole(RESERVED).unwrap_or_default()) }
}

/// Replaces the list of reserved ports.
///
/// # Errors
/// `/proc/sys` is read-only, as in a container without privileges, or CAP_NET_ADMIN is missing.
pub fn reserve(ports: &BTreeSet<u16>) -> io::Result<()> {
    // With a newline, since writing an empty string is no write.
    fs::write(RESERVED, list(ports) + "\n")
}

/// In one read: the kernel returns nothing at a second one, however much is left.
fn whole(path: &str) -> io::Result<String> {
    let mut buffer = vec![0; LONGEST];
    let length = File::open(path)?.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
}

fn pair(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_whitespace().map(str::parse);
    match (words.next(), words.next()) {
        (Some(Ok(first)), Some(Ok(last))) => Some((first, last)),
        _ => None,
    }
}

/// Ports of a list of numbers and ranges, separated by commas.
#[must_use]
pub fn ports(list: &str) -> BTreeSet<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

/// Numbers and ranges between commas, as the kernel prints them.
#[must_use]
pub fn list(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*port) => *last = *port,
            _ => ranges.push((*port, *port)),
        }
    }
    let shown = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(shown).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        for (text, again, count) in [
            ("\n", "", 0),
            ("80\n", "80", 1),
            ("80,10240-29999\n", "80,10240-29999", 19_761),
            ("10-12,13,20,20-30", "10-13,20-30", 15),
            ("65534-65535,1", "1,65534-65535", 3),
            ("80,x,90-,100", "80,100", 2),
        ] {
            let read = ports(text);
            assert_eq!((list(&read).as_str(), read.len()), (again, count), "{text}");
        }
    }

    #[test]
    fn the_range_is_two_numbers() {
        assert_eq!(pair("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(pair("32768"), None);
        assert_eq!(pair(""), None);
    }
}
