//! Tests against the real API server of Kubernetes. They need root and what `cargo xtask test cluster` builds.

mod charts;
mod controller;
mod crds;
mod kubernetes;
mod nodes;
mod rights;
mod scale;
mod steering;
mod tls;
