//! The demo page and the client library.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse,
    routing::get,
};

use crate::http::state::{AppState, DemoPageSettings};

/// Path, content type and content of each file.
const ASSETS: [(&str, &str, &str); 6] = [
    ("/", "text/html; charset=utf-8", include_str!("../assets/index.html")),
    ("/assets/page.css", "text/css; charset=utf-8", include_str!("../assets/page.css")),
    ("/assets/page.js", "text/javascript; charset=utf-8", include_str!("../assets/page.js")),
    (
        "/assets/socket.io.esm.min.js",
        "text/javascript; charset=utf-8",
        include_str!("../assets/socket.io.esm.min.js"),
    ),
    (
        "/photoshare-client.js",
        "text/javascript; charset=utf-8",
        include_str!("../assets/photoshare-client.js"),
    ),
    (
        "/photoshare-client.d.ts",
        "text/plain; charset=utf-8",
        include_str!("../assets/photoshare-client.d.ts"),
    ),
];

/// Routes of the page, its assets and the client library.
pub(in crate::http) fn routes(settings: &DemoPageSettings) -> Router<AppState> {
    let policy = HeaderValue::try_from(content_security_policy(settings))
        .unwrap_or(HeaderValue::from_static("default-src 'self'"));
    ASSETS.into_iter().fold(Router::new(), |router, (path, content_type, content)| {
        let policy = policy.clone();
        router.route(path, get(async move || serve_file(content_type, content, policy)))
    })
}

fn serve_file(content_type: &'static str, content: &'static str, policy: HeaderValue) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    ];
    (headers, content)
}

/// Allows no inline code, and no origin other than the page's own and the bucket's.
fn content_security_policy(settings: &DemoPageSettings) -> String {
    let bucket = settings.bucket_origin.as_deref().unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data: {bucket}; \
         connect-src 'self' {bucket}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}
