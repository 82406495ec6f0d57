//! The files of the Envoys that Clovisor configures, kept like the policy.
//!
//! **In**: `Policy`. **Out**: the files of [`render`](crate::render) per namespace, written in an order that never names
//! a cluster that does not exist. **Owns**: the folder of these files. **Never**: sockets.

/// Old and new files to an ordered list of writes; pure.
pub mod steps;

/// A namespace's folder on disk: its contents, and one write at a time.
pub mod folder;

/// The task that keeps the folders like the policy.
pub mod run;
