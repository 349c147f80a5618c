//! Handlers for operators and their tools: liveness, readiness, metrics.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header, request::Parts},
    response::IntoResponse,
};

use crate::{
    http::{
        dto::ReadinessReport, extract::bearer_token, metrics_endpoint::MetricsEndpoint, readiness::Readiness,
    },
    protocol::{Problem, ProblemKind},
};

/// Reports that the process is running.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operators",
    security(()),
    responses((status = 200, description = "The process is running", body = String, content_type = "text/plain"), Problem),
)]
pub(in crate::http) async fn get_liveness() -> &'static str {
    "ok\n"
}

/// Reports whether the process is ready.
///
/// Includes the status of each dependency if the request carries the `METRICS_TOKEN`.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operators",
    responses((status = 200, description = "Ready", body = ReadinessReport), (status = 503, description = "Not ready", body = ReadinessReport), Problem),
)]
pub(in crate::http) async fn get_readiness(
    State(readiness): State<Arc<Readiness>>,
    State(metrics): State<MetricsEndpoint>,
    parts: Parts,
) -> impl IntoResponse {
    let mut report = readiness.run_checks().await;
    if !metrics.authorizes(bearer_token(&parts).as_deref()) {
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
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain"), Problem),
)]
pub(in crate::http) async fn get_metrics(
    State(metrics): State<MetricsEndpoint>,
    parts: Parts,
) -> Result<impl IntoResponse, Problem> {
    let sent = bearer_token(&parts);
    if !metrics.authorizes(sent.as_deref()) {
        let kind = sent.map_or(ProblemKind::TokenMissing, |_| ProblemKind::TokenInvalid);
        return Err(Problem::new(kind, "send the METRICS_TOKEN in the header 'Authorization: Bearer …'"));
    }
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((content_type, metrics.prometheus.render()))
}
