//! Responses to operators and their tools.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

/// Result of all readiness checks.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ReadinessReport {
    pub(in crate::http) ready: bool,
    /// Status of each dependency. Omitted if the request lacks the `METRICS_TOKEN`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>, required = false)]
    pub(in crate::http) parts: BTreeMap<&'static str, String>,
}
