//! Which of the routes that Istio makes for its sidecars need a class; pure.
//!
//! Istio's control plane translates VirtualServices and HTTPRoutes itself, with all that they can say. Clovisor
//! only has to name each Envoy route that a mapping governs, and its destinations.

pub mod plan;

mod hosts;

mod destination;

mod http_route;

mod virtual_service;

mod patches;

pub(crate) mod services;

pub(crate) mod compile;
