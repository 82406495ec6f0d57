//! Site tests: real namespaces, real Envoys, the real agent. They need root.

mod gateway;
mod plain;
