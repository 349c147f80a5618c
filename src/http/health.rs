//! Endpoints for operators: liveness, readiness and metrics.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header, request::Parts},
    response::IntoResponse,
};
use futures_util::{FutureExt, future::BoxFuture};
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;

use super::{AppState, api_docs::ProblemDetails, extract::bearer_token};
use crate::protocol::{Problem, ProblemKind};

/// Checks a dependency. Returns a human-readable status, `Err` if the dependency is unavailable.
pub type ReadinessCheck = Box<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// Readiness of this process: its checks, and whether it is shutting down.
#[derive(Default)]
pub struct Readiness {
    shutting_down: AtomicBool,
    checks: Vec<(&'static str, ReadinessCheck)>,
}

/// Result of all readiness checks.
#[derive(Serialize, ToSchema)]
pub(super) struct ReadinessReport {
    ready: bool,
    /// Status of each dependency. Omitted if the request lacks the `METRICS_TOKEN`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>, required = false)]
    parts: BTreeMap<&'static str, String>,
}

impl Readiness {
    /// Adds a dependency that must be available.
    pub fn add_check(&mut self, name: &'static str, check: ReadinessCheck) {
        self.checks.push((name, check));
    }

    /// Reports this process as not ready from now on, so that it receives no new traffic.
    pub fn begin_shutdown(&self) {
        self.shutting_down.store(true, Ordering::Relaxed);
    }

    async fn run_checks(&self) -> ReadinessReport {
        let checks = self.checks.iter().map(|(name, check)| check().map(|status| (*name, status)));
        let statuses = futures_util::future::join_all(checks).await;
        let shutting_down = self.shutting_down.load(Ordering::Relaxed);
        let mut parts: BTreeMap<_, _> = BTreeMap::new();
        let mut ready = !shutting_down;
        for (name, status) in statuses {
            ready &= status.is_ok();
            parts.insert(name, status.unwrap_or_else(|error| error));
        }
        if shutting_down {
            parts.insert("process", "stopping".into());
        }
        ReadinessReport { ready, parts }
    }
}

/// Reports that the process is running.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operators",
    security(()),
    responses((status = 200, description = "The process is running", body = String, content_type = "text/plain"), (status = "default", description = "Error", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn get_liveness() -> &'static str {
    "ok\n"
}

/// Reports whether the process is ready.
///
/// Includes the status of each dependency if the request carries the `METRICS_TOKEN`.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operators",
    responses((status = 200, description = "Ready", body = ReadinessReport), (status = 503, description = "Not ready", body = ReadinessReport), (status = "default", description = "Error", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn get_readiness(State(state): State<Arc<AppState>>, parts: Parts) -> impl IntoResponse {
    let mut report = state.readiness.run_checks().await;
    if !has_metrics_token(&state, &parts) {
        report.parts.clear();
    }
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report))
}

/// Returns the metrics in the Prometheus text format. Requires the `METRICS_TOKEN`, if one is set.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operators",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain"), (status = "default", description = "Error", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn get_metrics(
    State(state): State<Arc<AppState>>,
    parts: Parts,
) -> Result<impl IntoResponse, Problem> {
    if !has_metrics_token(&state, &parts) {
        let sent = bearer_token(&parts);
        let kind = sent.map_or(ProblemKind::TokenMissing, |_| ProblemKind::TokenInvalid);
        return Err(Problem::new(kind, "send the METRICS_TOKEN in the header 'Authorization: Bearer …'"));
    }
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((content_type, state.metrics.render()))
}

/// Whether the request carries the metrics token, or none is set.
fn has_metrics_token(state: &AppState, parts: &Parts) -> bool {
    let Some(expected) = &state.metrics_token else { return true };
    let (expected, sent) = (expected.expose_secret().as_bytes(), bearer_token(parts).unwrap_or_default());
    // Compares every byte, so that the duration does not depend on where the tokens differ.
    let difference = expected.iter().zip(sent.bytes()).fold(0, |difference, (a, b)| difference | (a ^ b));
    expected.len() == sent.len() && difference == 0
}
