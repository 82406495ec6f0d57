//! Classes by destination: the maps `TRAFFIC` and `LOCAL`.

/// Data of a key of `TRAFFIC` (longest prefix match over its bits, from the first byte): destinations of packets without
/// a class from a proxy. `zone` and `proto` are always part of the prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrafficKey {
    pub zone: u16,
    pub proto: u8,
    pub pad: u8,
    pub addr: [u8; 16],
}

impl TrafficKey {
    /// Bits before the address.
    pub const HEAD: u32 = 32;
    /// Bits of the whole key, as in a lookup.
    pub const BITS: u32 = Self::HEAD + 128;
}

/// Rules of one prefix of `TRAFFIC`.
pub const TRAFFIC_RULES: usize = 16;

/// Value of `TRAFFIC`: the first rule whose ports hold and whose class the pod may have. It repeats the rules of the
/// shorter prefixes around it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Traffic {
    pub rules: [PortRule; TRAFFIC_RULES],
}

/// Destination ports of one class; an ICMP echo has port 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub struct PortRule {
    /// Host byte order, inclusive.
    pub min: u16,
    pub max: u16,
    /// 1..=16; 0: no rule.
    pub class: u8,
    pub pad: u8,
}

/// Value of `LOCAL` (longest prefix match over a 16-byte address): no packet to it takes a link by `TRAFFIC`, nor by a class that
/// may go anywhere.
pub const LOCAL: u32 = 1;

/// Value of `LOCAL` for a network within a local one that is behind a link. What has no entry is not local either.
pub const NOT_LOCAL: u32 = 0;

/// Entries of `LOCAL`.
pub const MAX_LOCAL: u32 = 131_072;
