//! What operators and their tools ask.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Json as Body,
    extract::State,
    http::{StatusCode, header, request::Parts},
    response::IntoResponse,
};
use futures_util::{FutureExt, future::BoxFuture};
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Context, api::ProblemDetails, extract::token};
use crate::wire::{Problem, ProblemKind};

/// Asks a part whether it is there, and why or why not; for people.
pub type Part = Box<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// Whether this process can do its work.
#[derive(Default)]
pub struct Readiness {
    stopping: AtomicBool,
    parts: Vec<(&'static str, Part)>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Ready {
    ready: bool,
    /// How each part is; for those who may know.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>, required = false)]
    parts: BTreeMap<&'static str, String>,
}

impl Readiness {
    /// Adds a part that must be there.
    pub fn add(&mut self, name: &'static str, part: Part) {
        self.parts.push((name, part));
    }

    /// From now on nobody shall send anything new.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    async fn judge(&self) -> Ready {
        let asked = self.parts.iter().map(|(name, part)| part().map(|answer| (*name, answer)));
        let answers = futures_util::future::join_all(asked).await;
        let stopping = self.stopping.load(Ordering::Relaxed);
        let mut parts: BTreeMap<_, _> = BTreeMap::new();
        let mut ready = !stopping;
        for (name, answer) in answers {
            ready &= answer.is_ok();
            parts.insert(name, answer.unwrap_or_else(|why_not| why_not));
        }
        if stopping {
            parts.insert("process", "stopping".into());
        }
        Ready { ready, parts }
    }
}

/// Tells that the process lives.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operators",
    security(()),
    responses((status = 200, description = "It does", body = String, content_type = "text/plain"), (status = "default", description = "A problem", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Tells whether the process can do its work; the parts, to those who have the `METRICS_TOKEN`.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operators",
    responses((status = 200, description = "It can", body = Ready), (status = 503, description = "It can't", body = Ready), (status = "default", description = "A problem", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn readyz(State(context): State<Arc<Context>>, parts: Parts) -> impl IntoResponse {
    let mut ready = context.readiness.judge().await;
    if !may_look(&context, &parts) {
        ready.parts.clear();
    }
    let status = if ready.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Body(ready))
}

/// Tells what was counted, as Prometheus text, to those who have the `METRICS_TOKEN`.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operators",
    responses((status = 200, description = "The counters", body = String, content_type = "text/plain"), (status = "default", description = "A problem", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn metrics(
    State(context): State<Arc<Context>>,
    parts: Parts,
) -> Result<impl IntoResponse, Problem> {
    if !may_look(&context, &parts) {
        let given = token(&parts);
        let kind = given.map_or(ProblemKind::TokenMissing, |_| ProblemKind::TokenInvalid);
        return Err(Problem::new(kind, "send the METRICS_TOKEN as 'Authorization: Bearer'"));
    }
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, context.metrics.render()))
}

fn may_look(context: &Context, parts: &Parts) -> bool {
    let Some(wanted) = &context.metrics_token else { return true };
    let (wanted, given) = (wanted.expose_secret().as_bytes(), token(parts).unwrap_or_default());
    // Compares all of it whatever differs, so that the time taken tells nothing.
    let differing = wanted.iter().zip(given.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b));
    wanted.len() == given.len() && differing == 0
}
