//! Names that several resources, files or their readers share.

pub(crate) use clovisor_policy::callout::{
    CLASS_HEADER, DEFAULT_ANSWER, MAPPING_KEY, NAMESPACE_KEY, OWN_HEADERS,
};
use clovisor_policy::class::ClassId;
use std::time::Duration;

/// Cluster of the agent's socket.
pub(crate) const AGENT_CLUSTER: &str = "clovisor_agent";
/// Where requests go that no service knows: to the address that the client dialled.
pub(crate) const PASSTHROUGH: &str = "PassthroughCluster";
/// Where connections go that would come back to the listener for ever.
pub(crate) const BLACK_HOLE: &str = "BlackHoleCluster";
/// The callout filter, in the chain and in the routes that enable it.
pub(crate) const CALLOUT_FILTER: &str = "envoy.filters.http.ext_proc";

/// File with the bootstrap, by which Envoy starts.
pub const BOOTSTRAP_FILE: &str = "bootstrap.json";
/// File with the clusters.
pub const CLUSTERS_FILE: &str = "cds.json";
/// File with the listener.
pub const LISTENER_FILE: &str = "lds.json";
const ROUTES_PREFIX: &str = "rds-";

/// File with the route configuration of this name.
pub(crate) fn routes_file(configuration: &str) -> String {
    format!("{ROUTES_PREFIX}{configuration}.json")
}

/// Whether a file has routes.
#[must_use]
pub fn is_routes_file(name: &str) -> bool {
    name.starts_with(ROUTES_PREFIX)
}

/// Subset of a class; beside a subset of the user's own: that one's copy.
pub(crate) fn subset(ClassId(class): ClassId, of: Option<&str>) -> String {
    of.map_or_else(|| format!("clovisor-c{class}"), |of| format!("clovisor-c{class}-{of}"))
}

/// Cluster of the requests to a service without (none) or with a class.
pub(crate) fn cluster(host: &str, port: u16, class: Option<ClassId>) -> String {
    cluster_of_subset(host, port, class.map(|class| subset(class, None)).as_deref())
}

/// Istio's name of a cluster.
pub(crate) fn cluster_of_subset(host: &str, port: u16, subset: Option<&str>) -> String {
    format!("outbound|{port}|{}|{host}", subset.unwrap_or_default())
}

/// A duration as protobuf's JSON writes it, e.g. `0.050s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let (whole, nanos) = (duration.as_secs(), duration.subsec_nanos());
    match nanos {
        0 => format!("{whole}s"),
        n if n % 1_000_000 == 0 => format!("{whole}.{:03}s", n / 1_000_000),
        n => format!("{whole}.{n:09}s"),
    }
}
