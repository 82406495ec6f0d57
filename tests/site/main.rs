//! Site tests: real namespaces, real Envoys, the real agent. They need root.

mod changes;
mod churn;
mod control;
mod exact;
mod forged;
mod gateway;
mod idle;
mod kinds;
mod leave;
mod links;
mod marked;
mod matching;
mod neighbours;
mod offloads;
mod plain;
mod policy;
mod ports;
mod readme;
mod refuse;
mod shop;
mod sidecar;
mod tool;
mod traffic;
