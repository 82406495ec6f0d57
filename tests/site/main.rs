//! Site tests: real namespaces, real Envoys, the real agent. They need root.

mod churn;
mod control;
mod exact;
mod forged;
mod gateway;
mod leave;
mod links;
mod plain;
mod refuse;
mod shop;
