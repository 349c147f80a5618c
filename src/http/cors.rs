//! Cross-origin resource sharing (CORS).

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

/// The allowed origins: exact ones, subdomain wildcards (`https://*.example.com`) or `*`.
#[derive(Debug, Clone, Default)]
pub struct AllowedOrigins(Vec<OriginPattern>);

#[derive(Debug, Clone)]
enum OriginPattern {
    Any,
    Exact(String),
    /// The text before and after the `*`.
    Subdomains {
        scheme: String,
        domain: String,
    },
}

/// The text is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid origin: use https://app.example.com, https://*.example.com or *")]
pub struct OriginError(String);

impl AllowedOrigins {
    /// Whether a page of `origin` may call the API.
    #[must_use]
    pub fn allows(&self, origin: &str) -> bool {
        self.0.iter().any(|pattern| match pattern {
            OriginPattern::Any => true,
            OriginPattern::Exact(exact) => exact == origin,
            OriginPattern::Subdomains { scheme, domain } => {
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
        origins.map(parse_pattern).collect::<Result<_, _>>().map(Self)
    }
}

fn parse_pattern(origin: &str) -> Result<OriginPattern, OriginError> {
    let invalid = || OriginError(origin.to_owned());
    // Browsers send origins in lower case.
    let origin = origin.to_ascii_lowercase();
    if origin == "*" {
        return Ok(OriginPattern::Any);
    }
    let (scheme, host) = origin.split_once("://").ok_or_else(invalid)?;
    if scheme.is_empty() || host.is_empty() || host.contains(['/', '?', '#', '@']) {
        return Err(invalid());
    }
    match host.strip_prefix('*') {
        Some(domain) if domain.starts_with('.') && !domain.contains('*') => {
            Ok(OriginPattern::Subdomains { scheme: format!("{scheme}://"), domain: domain.into() })
        }
        None if !host.contains('*') => Ok(OriginPattern::Exact(origin)),
        _ => Err(invalid()),
    }
}

/// Adds CORS to `router`, for the API and for Socket.IO's polling. The CORS layer responds to every OPTIONS
/// request itself, so OPTIONS requests that are not preflights bypass it.
pub(super) fn with_cors(router: Router, origins: &AllowedOrigins) -> Router {
    let without_cors = router.clone();
    router.layer(cors_layer(origins)).layer(from_fn_with_state(without_cors, bypass_unless_preflight))
}

async fn bypass_unless_preflight(
    State(without_cors): State<Router>,
    request: Request,
    next: Next,
) -> Response {
    if request.method() == Method::OPTIONS && !is_preflight(request.headers()) {
        return without_cors.oneshot(request).await.into_response();
    }
    next.run(request).await
}

/// <https://fetch.spec.whatwg.org/#cors-preflight-request>
fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn cors_layer(origins: &AllowedOrigins) -> CorsLayer {
    let origins = origins.clone();
    let is_allowed =
        move |origin: &HeaderValue, _: &Parts| origin.to_str().is_ok_and(|origin| origins.allows(origin));
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(is_allowed))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
        .expose_headers([header::ETAG, header::RETRY_AFTER, HeaderName::from_static("x-request-id")])
        .max_age(Duration::from_hours(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_match_exactly_or_as_subdomains_of_a_wildcard() {
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
            assert_eq!(origins.allows(origin), allowed, "{origin}");
        }
        for bad in ["app.example.com", "https://", "https://*", "https://a.*.com", "https://a/b"] {
            assert!(bad.parse::<AllowedOrigins>().is_err(), "{bad}");
        }
    }
}
