//! Site tests: real namespaces, real Envoys, the real agent. They need root.

mod churn;
mod control;
mod exact;
mod forged;
mod gateway;
mod leave;
mod links;
mod matching;
mod plain;
mod readme;
mod refuse;
mod shop;
mod sidecar;
mod tool;
mod traffic;
