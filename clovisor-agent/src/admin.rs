//! What the agent tells about itself.
//!
//! **In**: the watch channels of the other stages, flow dumps. **Out**: the local API on a unix socket.
//! **Never**: changes anything.

pub mod api;
