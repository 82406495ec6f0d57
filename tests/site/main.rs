//! Site tests: real namespaces, real Envoys, the real agent. They need root.

mod changes;
mod churn;
mod coexistence;
mod connections;
mod control;
mod corpus;
mod exact;
mod forged;
mod forward_policy;
mod fwmark;
mod gateway;
mod host_network;
mod lifecycle;
mod links;
mod matching;
mod offloads;
mod plain;
mod plain_text;
mod readme;
mod refuse;
mod reserved_ports;
mod shop;
mod sidecar;
mod tool;
mod traffic;
mod uplinks;
