//! The Prometheus metrics and the token that guards them.

use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::{ExposeSecret, SecretString};

/// The Prometheus metrics and the token that guards them.
#[derive(Clone)]
pub struct MetricsEndpoint {
    /// Renders the metrics.
    pub prometheus: PrometheusHandle,
    /// Token that `/metrics` and the details of `/readyz` require; `None` makes both public.
    pub token: Option<SecretString>,
}

impl MetricsEndpoint {
    /// Whether a request with this bearer token may read the metrics.
    pub(super) fn authorizes(&self, sent: Option<&str>) -> bool {
        let Some(expected) = &self.token else { return true };
        let (expected, sent) = (expected.expose_secret().as_bytes(), sent.unwrap_or_default().as_bytes());
        // Compares every byte, so that the duration does not depend on where the tokens differ.
        let difference = expected.iter().zip(sent).fold(0, |difference, (a, b)| difference | (a ^ b));
        expected.len() == sent.len() && difference == 0
    }
}
