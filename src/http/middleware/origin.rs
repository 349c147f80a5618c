//! Origin check in front of Socket.IO. CORS protects only HTTP responses and does not apply to WebSockets,
//! so the server checks the `Origin` header of every Socket.IO request itself.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    http::allowed_origins::AllowedOrigins,
    protocol::{Problem, ProblemKind},
};

/// Rejects a request whose origin is not allowed.
pub(in crate::http) async fn reject_disallowed_origin(
    State(origins): State<AllowedOrigins>,
    request: Request,
    next: Next,
) -> Response {
    if is_origin_allowed(request.headers(), &origins) {
        return next.run(request).await;
    }
    let detail = "this origin is not allowed to connect; ALLOWED_ORIGINS lists the allowed origins";
    Problem::new(ProblemKind::Forbidden, detail).into_response()
}

/// Native clients send no origin, or the server's own.
fn is_origin_allowed(headers: &HeaderMap, origins: &AllowedOrigins) -> bool {
    let mut sent = headers.get_all(header::ORIGIN).iter();
    match (sent.next(), sent.next()) {
        (None, _) => true,
        (Some(origin), None) => {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            origin.to_str().is_ok_and(|origin| is_same_origin(origin, host) || origins.allows(origin))
        }
        // A browser sends exactly one.
        (Some(_), Some(_)) => false,
    }
}

/// Whether `origin` names the `host` that the request was sent to. Ignores the scheme: behind a proxy the
/// server does not know its own, and some native clients send `ws` or `wss`.
fn is_same_origin(origin: &str, host: Option<&str>) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default = match scheme {
        "http" | "ws" => ":80",
        "https" | "wss" => ":443",
        _ => return false,
    };
    let bare = |authority: &str| authority.strip_suffix(default).unwrap_or(authority).to_ascii_lowercase();
    host.is_some_and(|host| !host.is_empty() && bare(host) == bare(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_origin_and_allowed_origins_may_connect() {
        let origins: AllowedOrigins = "https://app.example.com,https://*.example.org".parse().unwrap();
        for (origins_sent, host, allowed) in [
            (&[][..], "photos.example", true),
            (&["https://photos.example"], "photos.example", true),
            (&["https://photos.example"], "photos.example:443", true),
            (&["http://photos.example:80"], "photos.example", true),
            (&["wss://photos.example"], "photos.example", true),
            (&["http://127.0.0.1:3000"], "127.0.0.1:3000", true),
            (&["https://PHOTOS.example"], "photos.Example", true),
            (&["https://photos.example:8443"], "photos.example", false),
            (&["http://photos.example"], "photos.example:443", false),
            (&["http://127.0.0.1:3001"], "127.0.0.1:3000", false),
            (&["ftp://photos.example"], "photos.example", false),
            (&["https://photos.example.evil.net"], "photos.example", false),
            (&["https://app.example.com"], "photos.example", true),
            (&["https://a.example.org"], "photos.example", true),
            (&["https://evil.net"], "photos.example", false),
            (&["null"], "photos.example", false),
            (&[""], "photos.example", false),
            (&["https://"], "", false),
            (&["https://photos.example", "https://evil.net"], "photos.example", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            for origin in origins_sent {
                headers.append(header::ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(is_origin_allowed(&headers, &origins), allowed, "{origins_sent:?} to {host}");
        }
    }
}
