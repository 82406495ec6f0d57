//! The contract between the proxies' routes and the agent's callout: names of headers and metadata.
//!
//! A route that a mapping with rules governs asks the agent. Its stream carries the names of the mapping; the answer is
//! one request header, by which the proxy chooses the route again.

/// Request header with the answer: the number of a class, or [`DEFAULT_ANSWER`]. The proxy removes a client's own copy
/// before it looks at routes; without the header, the route's own behaviour applies.
pub const CLASS_HEADER: &str = "x-clovisor-class";
/// Answer for a request that takes the default route.
pub const DEFAULT_ANSWER: &str = "default";
/// Metadata of the stream: the namespace of the mapping.
pub const NAMESPACE_KEY: &str = "x-clovisor-namespace";
/// Metadata of the stream: the name of the mapping.
pub const MAPPING_KEY: &str = "x-clovisor-mapping";
/// Prefix of the headers that Clovisor alone sets.
pub const OWN_HEADERS: &str = "x-clovisor-";

#[cfg(test)]
mod tests {
    use super::*;

    /// The proxy removes every header with the prefix from clients' requests and shows none to rules.
    #[test]
    fn every_name_has_the_prefix_of_clovisors_own_headers() {
        for name in [CLASS_HEADER, NAMESPACE_KEY, MAPPING_KEY] {
            assert!(name.starts_with(OWN_HEADERS), "{name}");
        }
    }
}
