//! Who may call from a page of another origin.

use std::{str::FromStr, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use tower::ServiceExt;
use tower_http::cors::{AllowOrigin, CorsLayer};

/// Origins, exact or with a first label of `*`.
#[derive(Debug, Clone, Default)]
pub struct AllowedOrigins(Vec<Pattern>);

#[derive(Debug, Clone)]
enum Pattern {
    Any,
    Exact(String),
    /// What stands around the star.
    Under {
        scheme: String,
        domain: String,
    },
}

/// Not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no origin: use https://app.example.com, https://*.example.com or *")]
pub struct OriginError(String);

impl AllowedOrigins {
    /// Whether a page of `origin` may call.
    #[must_use]
    pub fn allow(&self, origin: &str) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Pattern::Any => true,
            Pattern::Exact(exact) => exact == origin,
            Pattern::Under { scheme, domain } => {
                let host = origin.strip_prefix(scheme.as_str());
                host.and_then(|host| host.strip_suffix(domain.as_str()))
                    .is_some_and(|label| !label.is_empty() && !label.contains(['/', ':', '@']))
            }
        })
    }
}

impl FromStr for AllowedOrigins {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let origins = text.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        origins.map(pattern).collect::<Result<_, _>>().map(Self)
    }
}

fn pattern(origin: &str) -> Result<Pattern, OriginError> {
    let bad = || OriginError(origin.to_owned());
    // As browsers send it.
    let origin = origin.to_ascii_lowercase();
    if origin == "*" {
        return Ok(Pattern::Any);
    }
    let (scheme, host) = origin.split_once("://").ok_or_else(bad)?;
    if scheme.is_empty() || host.is_empty() || host.contains(['/', '?', '#', '@']) {
        return Err(bad());
    }
    match host.strip_prefix('*') {
        Some(domain) if domain.starts_with('.') && !domain.contains('*') => {
            Ok(Pattern::Under { scheme: format!("{scheme}://"), domain: domain.into() })
        }
        None if !host.contains('*') => Ok(Pattern::Exact(origin)),
        _ => Err(bad()),
    }
}

/// `router` with CORS, for the API and for Socket.IO's polling. The layer answers every OPTIONS itself:
/// one that no browser sent to ask for leave goes past it.
pub(super) fn around(router: Router, origins: &AllowedOrigins) -> Router {
    let bare = router.clone();
    router.layer(layer(origins)).layer(from_fn_with_state(bare, only_preflights))
}

async fn only_preflights(State(bare): State<Router>, request: Request, next: Next) -> Response {
    if request.method() == Method::OPTIONS && !is_preflight(request.headers()) {
        return bare.oneshot(request).await.into_response();
    }
    next.run(request).await
}

/// <https://fetch.spec.whatwg.org/#cors-preflight-request>
fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn layer(origins: &AllowedOrigins) -> CorsLayer {
    let origins = origins.clone();
    let allowed =
        move |origin: &HeaderValue, _: &Parts| origin.to_str().is_ok_and(|origin| origins.allow(origin));
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(allowed))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
        .expose_headers([header::ETAG, header::RETRY_AFTER, HeaderName::from_static("x-request-id")])
        .max_age(Duration::from_hours(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_exact_or_under_a_star() {
        let origins = "https://app.example.com, https://*.example.org, https://*.Example.NET";
        let origins: AllowedOrigins = origins.parse().unwrap();
        for (origin, allowed) in [
            ("https://app.example.com", true),
            ("http://app.example.com", false),
            ("https://app.example.com.evil.net", false),
            ("https://a.example.org", true),
            ("https://example.org", false),
            ("https://evil.net/.example.org", false),
            ("https://a.example.net", true),
        ] {
            assert_eq!(origins.allow(origin), allowed, "{origin}");
        }
        for bad in ["app.example.com", "https://", "https://*", "https://a.*.com", "https://a/b"] {
            assert!(bad.parse::<AllowedOrigins>().is_err(), "{bad}");
        }
    }
}
