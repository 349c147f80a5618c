//! Whose pages may connect. CORS guards answers from scripts; a WebSocket it does not guard at all, so
//! the origin of every request to Socket.IO is judged before it gets there.

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use tower::Service;

use super::AllowedOrigins;
use crate::wire::{Problem, ProblemKind};

/// Routes to Socket.IO's `engine`, past the judgement of origins.
pub fn socket_io<S, R>(engine: S, origins: &AllowedOrigins) -> Router
where
    S: Service<axum::http::Request<Body>, Response = R, Error = std::convert::Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
    R: IntoResponse,
{
    Router::new()
        .route_service("/socket.io/", engine)
        .layer(from_fn_with_state(origins.clone(), only_allowed))
}

async fn only_allowed(State(origins): State<AllowedOrigins>, request: Request, next: Next) -> Response {
    if may_connect(request.headers(), &origins) {
        return next.run(request).await;
    }
    let detail = "pages of this origin may not connect; ALLOWED_ORIGINS names those that may";
    Problem::new(ProblemKind::Forbidden, detail).into_response()
}

/// Native clients send no origin, or that of the server itself.
fn may_connect(headers: &HeaderMap, origins: &AllowedOrigins) -> bool {
    let mut sent = headers.get_all(header::ORIGIN).iter();
    match (sent.next(), sent.next()) {
        (None, _) => true,
        (Some(origin), None) => {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            origin.to_str().is_ok_and(|origin| is_own(origin, host) || origins.allow(origin))
        }
        // A browser sends one.
        (Some(_), Some(_)) => false,
    }
}

/// Whether `origin` names the `host` that the request was sent to. Its scheme says nothing: behind a
/// proxy we don't know our own, and some native clients say `ws` or `wss`.
fn is_own(origin: &str, host: Option<&str>) -> bool {
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
    fn an_origin_is_our_own_or_allowed_or_refused() {
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
            assert_eq!(may_connect(&headers, &origins), allowed, "{origins_sent:?} to {host}");
        }
    }
}
