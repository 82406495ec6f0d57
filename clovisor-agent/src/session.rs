//! Envoy's callout.
//!
//! **In**: ext_proc streams on a unix socket, the current `Policy`. **Out**: one answer per request that sets or
//! removes `x-clovisor-class`. **Never**: Istio types, header values in logs.
