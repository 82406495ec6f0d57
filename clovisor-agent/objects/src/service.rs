//! The part of a `Service` that Clovisor reads: which ports it has and what they speak.

use serde::{Deserialize, Serialize};

/// `spec` of a `Service`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceObject {
    #[serde(default)]
    pub ports: Vec<Port>,
}

/// `ports[]`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    #[serde(default)]
    pub name: String,
    pub port: u16,
    pub app_protocol: Option<String>,
}
