//! One entry of an EnvoyFilter's `configPatches`.

use serde_json::{Value, json};

/// One patch of the outbound side of sidecars.
pub(super) fn patch(apply_to: &str, condition: &Value, operation: &str, value: &Value) -> Value {
    let mut condition = condition.clone();
    condition["context"] = json!("SIDECAR_OUTBOUND");
    json!({ "applyTo": apply_to, "match": condition, "patch": { "operation": operation, "value": value } })
}
