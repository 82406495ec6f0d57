//! Reasons why a link is down: codes and texts.

use super::table::DownReason;
use std::fmt;

impl DownReason {
    /// What helps two links of one device.
    pub(super) const SHARED: &'static str = "two links need two devices; give each of the gateways a device of its own, e.g. \
         a VLAN or macvlan, or set spec.state: Disabled on one of the links";

    /// The code, for conditions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeviceMissing => "DeviceMissing",
            Self::DeviceAmbiguous => "DeviceAmbiguous",
            Self::DeviceTaken => "DeviceTaken",
            Self::NoCarrier => "NoCarrier",
            Self::NoAddress => "NoAddress",
            Self::GatewayUnknown => "GatewayUnknown",
            Self::GatewayUnresolved => "GatewayUnresolved",
            Self::MarkUnrouted => "MarkUnrouted",
            Self::StrictReversePath => "StrictReversePath",
            Self::PolicyBypassed => "PolicyBypassed",
            Self::PolicyUnread(_) => "PolicyUnread",
            Self::Disabled => "Disabled",
        }
    }
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeviceMissing => "the device does not exist on this node",
            Self::DeviceAmbiguous => {
                "spec.deviceSelector matches several devices of this node; make it more specific"
            }
            Self::DeviceTaken => "the device is that of link",
            Self::NoCarrier => "the device is down or has no carrier",
            Self::NoAddress => "the device has no global address",
            Self::GatewayUnknown => "no route through the device names a gateway; set spec.gateway",
            Self::GatewayUnresolved => "the gateway does not answer (ARP or neighbour discovery)",
            Self::MarkUnrouted => "the rule and route for its mark are not set yet (ip rule, fwmark)",
            Self::StrictReversePath => {
                "the stack would drop what returns, since the default route is another one; set rp_filter of the device to 2"
            }
            Self::PolicyBypassed => {
                "the node drops some forwarded packets by rules that a redirect would bypass (the agent's log names \
                 them); set spec.mode: Mark, or spec.policyBypass: Accepted"
            }
            Self::PolicyUnread(tables) => {
                return write!(
                    f,
                    "the node has tables of iptables-legacy, whose rules the agent cannot read: {tables}; a redirect \
                     would bypass what they drop; set spec.mode: Mark, or spec.policyBypass: Accepted, or unload \
                     (modprobe -r) tables that iptables-legacy-save shows to be empty"
                );
            }
            Self::Disabled => "spec.state is Disabled",
        })
    }
}
