//! Names and addresses of the cluster's machines.

/// Address of the control plane.
pub const API: &str = "10.250.0.1";
/// The nodes: name, address, pod subnet.
pub const NODES: [(&str, &str, &str); 2] =
    [("edge", "10.250.0.11", "10.244.0.0/24"), ("cloud", "10.250.0.12", "10.244.2.0/24")];
