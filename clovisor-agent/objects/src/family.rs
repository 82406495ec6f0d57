//! Address families: a link may be usable for one of them only, so each is decided by itself.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// An address family.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IpFamily {
    #[serde(rename = "IPv4")]
    V4,
    #[serde(rename = "IPv6")]
    V6,
}

impl IpFamily {
    /// Both, IPv4 first.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// As in Kubernetes' `ipFamilies`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One value for each address family.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerFamily<T> {
    #[serde(rename = "IPv4")]
    pub v4: T,
    #[serde(rename = "IPv6")]
    pub v6: T,
}

impl<T> PerFamily<T> {
    /// The value of `value` for each family.
    pub fn each(mut value: impl FnMut(IpFamily) -> T) -> Self {
        Self { v4: value(IpFamily::V4), v6: value(IpFamily::V6) }
    }

    /// The value for a family.
    pub const fn of(&self, family: IpFamily) -> &T {
        match family {
            IpFamily::V4 => &self.v4,
            IpFamily::V6 => &self.v6,
        }
    }

    /// The value for a family, to be changed.
    pub const fn of_mut(&mut self, family: IpFamily) -> &mut T {
        match family {
            IpFamily::V4 => &mut self.v4,
            IpFamily::V6 => &mut self.v6,
        }
    }

    /// Both values, IPv4's first.
    pub fn iter(&self) -> impl Iterator<Item = (IpFamily, &T)> {
        IpFamily::BOTH.into_iter().map(|family| (family, self.of(family)))
    }
}
