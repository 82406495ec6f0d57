//! Envoy's callout.
//!
//! **In**: ext_proc streams on a unix socket, the current `Policy`. **Out**: one answer per request that sets or
//! removes `x-clovisor-class`. **Owns**: the socket. **Never**: Istio types, header values in logs.

/// The answer to one message of the proxy; pure.
pub mod answer;

/// The socket: its folder, its rights, its connections.
pub mod listen;

/// The gRPC service and its limits.
pub mod serve;

/// Answers counted by reason.
pub mod counters;
