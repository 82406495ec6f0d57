//! Reasons of verdicts, counted in `STATS`.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Reason of a verdict: index of `STATS`, label of the metric, word in the CLI.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason, in the order of `STATS`.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The name in metrics and in the CLI.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }
        }
    };
}

impl Reason {
    /// The proxy sent the packet and it takes the default route: its class is cleared, since it must not leave the node.
    #[must_use]
    pub const fn unmarks(self) -> bool {
        matches!(
            self,
            Self::UnknownClass
                | Self::ForeignDestination
                | Self::NoLinkDefault
                | Self::PortsExhausted
                | Self::MidStream
        )
    }
}

reasons! {
    /// Not a candidate: no class, not IP, not from a mapped pod. Left to the stack.
    Passed = "passed",
    /// First packet of a flow, pinned and sent on its link.
    FlowOpened = "flow_opened",
    /// Packet of a pinned flow, sent on its link.
    Steered = "steered",
    /// Packet that came back on the link, delivered to the pod.
    Returned = "returned",
    /// A class, but the sending socket is not the proxy's. Left to the stack.
    UntrustedSocket = "untrusted_socket",
    /// A source address that is not the pod's. Left to the stack.
    ForgedSource = "forged_source",
    /// A class that the pod's namespace does not have. Left to the stack.
    UnknownClass = "unknown_class",
    /// A destination that the class does not cover. Left to the stack.
    ForeignDestination = "foreign_destination",
    /// No usable link and `onLinksDown: Default`. Left to the stack.
    NoLinkDefault = "no_link_default",
    /// No usable link and `onLinksDown: Refuse`. Dropped.
    NoLinkRefused = "no_link_refused",
    /// The flow moved to its slot's new link (no NAT).
    FlowMoved = "flow_moved",
    /// The flow's link is down, or forbidden by its mapping, and the flow is bound to it by NAT: answered with a RST.
    FlowReset = "flow_reset",
    /// The flow's link is down or forbidden and the packet cannot be answered. Dropped.
    LinkDown = "link_down",
    /// The flow's link is down, and no other link is chosen yet or allowed: answered with "network unreachable", on which TCP
    /// keeps retransmitting without further back-off (RFC 6069).
    FlowHeld = "flow_held",
    /// Every source port of the link is in use towards this peer. Dropped or default, as the slot says.
    PortsExhausted = "ports_exhausted",
    /// The table of replied flows is full: the flow stays in the unreplied table, where others may displace it.
    FlowTableFull = "flow_table_full",
    /// Larger than the link's MTU: answered with ICMP "fragmentation needed" / "packet too big".
    MtuExceeded = "mtu_exceeded",
    /// A header that is not parsed, or a fragment whose first one was not steered, with a class. Left to the stack.
    Unsupported = "unsupported",
    /// At `wan_out`: a packet of a flow that is bound to another link. Dropped.
    LeakStopped = "leak_stopped",
    /// The kernel refused a packet helper. Dropped.
    HelperFailed = "helper_failed",
    /// Hop limit used up. Dropped: the stack's answer would let the packet escape the link.
    TtlExceeded = "ttl_exceeded",
    /// A class on a packet of a connection that has no flow. Dropped or default, as the slot says: another source address
    /// would break the connection.
    MidStream = "mid_stream",
    /// An ICMP error about a packet of a flow, translated with what it quotes and sent on, either way.
    ErrorTranslated = "error_translated",
    /// The pod has its quota of replied flows: this flow stays in the unreplied table.
    PodQuota = "pod_quota",
    /// The pod opens more flows at a time than a pod may. Dropped: the sender tries again.
    OpensLimited = "opens_limited",
    /// A datagram of an exchange that somebody outside began. Left to the stack.
    Answer = "answer",
}
