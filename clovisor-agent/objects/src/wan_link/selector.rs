//! Which device of a node is meant, where its name differs from node to node.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Properties of a device; all that are given must hold, and for one device only.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.mac) || has(self.driver) || has(self.defaultRoute)")
        .message("give at least one of mac, driver, defaultRoute")
)]
pub struct DeviceSelector {
    /// Link-layer address, e.g. "02:42:ac:11:00:02".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", regex(pattern = r"^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$"))]
    pub mac: Option<Mac>,
    /// Driver as `ethtool -i` names it, e.g. "igb" or "qmi_wwan"; of virtual devices their kind, e.g. "vlan".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub driver: Option<String>,
    /// The device of the node's first, second, … default route, by metric, as it is at the first look: the link keeps
    /// that device, so that it never wanders to another when its route goes away. Another number looks anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub default_route: Option<i32>,
}

impl fmt::Display for DeviceSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mac = self.mac.map(|mac| format!("mac {mac}"));
        let driver = self.driver.as_ref().map(|driver| format!("driver {driver}"));
        let route = self.default_route.map(|number| format!("default route {number}"));
        let parts: Vec<String> = [mac, driver, route].into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

/// A link-layer address of six bytes, written as pairs of hexadecimal digits with colons between.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let refused =
            || format!("{text:?} is no link-layer address; write six pairs like \"02:42:ac:11:00:02\"");
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let pair = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            let part = parts.next().filter(pair).ok_or_else(refused)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| refused())?;
        }
        if parts.next().is_some() { Err(refused()) } else { Ok(Self(bytes)) }
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written_and_nothing_else_is_one() {
        assert_eq!(Mac::try_from("02:42:AC:11:00:02".to_owned()), Ok(Mac([2, 0x42, 0xac, 0x11, 0, 2])));
        assert_eq!(Mac([2, 0, 0, 0, 0, 255]).to_string(), "02:00:00:00:00:ff");
        for wrong in [
            "",
            "02",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "2:42:ac:11:0:2",
            "02:42:ac:11:00:+2",
            "é:é:é:é:é:é",
        ] {
            assert!(Mac::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
