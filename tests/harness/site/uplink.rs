//! Kinds of devices that the second link may be.

/// Kinds of uplinks that this kernel has without a modem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uplink {
    Veth,
    /// A device of its own on the one below, as a container's or a VLAN is.
    Macvlan,
    /// A tunnel with an Ethernet header; its packets are 50 bytes smaller.
    Vxlan,
    /// A device without link layer, as WireGuard's and PPP's are.
    Tun,
}
