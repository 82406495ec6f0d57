//! Files for the Envoys that Clovisor configures.
//!
//! **In**: `Policy`. **Out**: bootstrap, listener, cluster and route files per namespace, written in an order
//! that never names a cluster that is not there. **Never**: sockets.
