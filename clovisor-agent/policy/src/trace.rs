//! The way of a request or packet through the policy, for people.

use super::class::ClassId;
use clovisor_objects::family::IpFamily;
use std::collections::BTreeSet;

/// The way of one request or packet through the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// `HOST:PORT`; none: no service has this name.
    pub service: Option<String>,
    /// Routes in order, up to the one taken.
    pub routes: Vec<TraceStep>,
    /// Rules in order, up to the one that decides, where the route asks the agent.
    pub rules: Vec<TraceStep>,
    pub mapping: Option<String>,
    pub class: Option<ClassId>,
    /// Address families of the destination; empty: not known.
    pub families: BTreeSet<IpFamily>,
    /// The destination is local: no mapping of traffic takes it.
    pub local: bool,
    /// Why the request has this class, or none, as one sentence.
    pub reason: String,
}

/// A route or a rule on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceStep {
    pub name: String,
    pub taken: bool,
    pub reason: String,
}
