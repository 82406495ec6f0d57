//! Why an object, or a part of one, is not in force.

use std::fmt;

macro_rules! reasons {
    ($($variant:ident: $doc:literal,)*) => {
        /// Reason of a problem: condition reason in Kubernetes, label of the metric, word in the CLI. In the order of
        /// the names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ProblemReason { $(#[doc = $doc] $variant,)* }

        impl ProblemReason {
            /// Every reason, by name.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The reason's name in CamelCase.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }

            /// What the reason means, for the README.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

impl ProblemReason {
    /// The object stays in force without the part that the problem names.
    #[must_use]
    pub const fn is_partial(self) -> bool {
        matches!(self, Self::LinkNotFound | Self::NoEffect | Self::NotPermitted | Self::PodNotSteered)
    }
}

impl fmt::Display for ProblemReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

reasons! {
    ClassNotSeparable: "Another WanMapping governs the route: the older one, else the first by name; or `sourceLabels` split pods that share one Envoy \
        configuration; or rules target a weighted route; or two Envoy routes have the same name.",
    EncryptedBeforeProxy: "The service's port speaks TLS or another opaque protocol: the proxy sees no requests.",
    EnvoyFilesNotWritten: "The agent cannot write Envoy's configuration files; the previous files stay.",
    InvalidObject: "The YAML or one of its fields is not understood; its last good state stays in force, if it has one.",
    InvalidRule: "A rule, pattern or field is invalid, or a VirtualService or HTTPRoute uses a feature that \
        managed proxies do not support.",
    LinkDown: "A link takes nothing on this node, or nothing of one address family; mappings use their other links.",
    LinkNotFound: "A link does not exist; the mapping's other links stay in use.",
    NoEffect: "A part of an object changes nothing: a link that stands twice, bits behind a prefix, labels that no pod has, \
        a condition that no request meets, a field outside `spec` that does not exist; the rest is in force.",
    NotPermitted: "A link does not allow the mapping's namespace; the mapping's other links stay in use.",
    NotProgrammed: "The kernel's programs or maps could not be updated.",
    OutOfClasses: "The namespace needs more than 16 classes, or the node has too many namespaces.",
    Pending: "The mapping's status has no class numbers yet: the controller has not processed it.",
    PodNotSteered: "A WanMapping selects a pod whose packets come through no device of its own (hostNetwork).",
    RouteUnnamed: "Routes that must be told apart have no name.",
    RuleNotEffective: "The target does not exist, another object takes precedence over it, or no HTTP service uses it.",
    StateNotWritten: "The agent cannot write its state folder; class and link numbers may change at the next restart.",
    TlsNotSupported: "A DestinationRule asks for TLS that managed proxies do not support, or it is not certain which \
        connections it means; requests to the host get 503, none leaves in plain text.",
    Unconfirmed: "A file or a list of the API server lacks objects that it had; they stay in force until a second reading \
        agrees.",
    Unreadable: "The API server does not return the objects of a kind; their last known state stays in force.",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_in_the_order_of_their_names_and_say_what_they_mean() {
        assert!(ProblemReason::ALL.is_sorted_by_key(|reason| reason.name()));
        for reason in ProblemReason::ALL {
            let doc = reason.doc();
            assert!(
                doc.ends_with('.') && !doc.contains(['|', '\n']) && !doc.contains("  "),
                "{reason}: {doc}"
            );
        }
    }
}
