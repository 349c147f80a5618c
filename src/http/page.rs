//! The demo page and the client files that we ship.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse,
    routing::get,
};

use super::{Context, PageSettings};

const FILES: [(&str, &str, &str); 6] = [
    ("/", "text/html; charset=utf-8", include_str!("assets/index.html")),
    ("/assets/page.css", "text/css; charset=utf-8", include_str!("assets/page.css")),
    ("/assets/page.js", "text/javascript; charset=utf-8", include_str!("assets/page.js")),
    (
        "/assets/socket.io.esm.min.js",
        "text/javascript; charset=utf-8",
        include_str!("assets/socket.io.esm.min.js"),
    ),
    ("/photoshare-client.js", "text/javascript; charset=utf-8", include_str!("assets/photoshare-client.js")),
    ("/photoshare-client.d.ts", "text/plain; charset=utf-8", include_str!("assets/photoshare-client.d.ts")),
];

/// The page, its files, and the client module.
pub(super) fn routes(settings: &PageSettings) -> Router<Arc<Context>> {
    let policy =
        HeaderValue::try_from(policy(settings)).unwrap_or(HeaderValue::from_static("default-src 'self'"));
    FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        let policy = policy.clone();
        router.route(path, get(async move || file(kind, text, policy)))
    })
}

fn file(kind: &'static str, text: &'static str, policy: HeaderValue) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    ];
    (headers, text)
}

/// Nothing inline, nothing from elsewhere but the bucket.
fn policy(settings: &PageSettings) -> String {
    let bucket = settings.bucket_origin.as_deref().unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data: {bucket}; \
         connect-src 'self' {bucket}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}
