//! The HTTP service between the router and socketioxide.

use std::{
    mem,
    task::{Context, Poll},
};

use futures_util::{FutureExt, future::BoxFuture};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri::PathAndQuery,
};
use hyper::upgrade::OnUpgrade;
use socketioxide::socket::Sid;
use tower::Service;

use super::{sessions::Sessions, upgrade};
use crate::listener::Peer;

/// Prepares Engine.IO requests for socketioxide.
///
/// - Adds the `EIO=3` that the oldest clients leave out.
/// - Holds back the WebSocket request of a polling session until the upgrade loses nothing, see
///   `socketio/upgrade.rs`.
/// - Copies the parts of the head that are used. socketioxide keeps the head of a session's first request for
///   the lifetime of the session, and the original keeps hyper's whole read buffer (16 KiB) alive.
#[derive(Debug, Clone)]
pub struct EngineIoService<S> {
    inner: S,
    sessions: Sessions,
}

impl<S> EngineIoService<S> {
    /// Wraps the service of socketioxide.
    pub fn new(inner: S, sessions: Sessions) -> Self {
        Self { inner, sessions }
    }
}

/// Headers that are kept: those that this server reads, and those that engineioxide needs for its transports.
const KEPT_HEADERS: [HeaderName; 5] = [
    header::HOST,
    header::AUTHORIZATION,
    HeaderName::from_static("x-forwarded-for"),
    header::CONTENT_TYPE,
    header::SEC_WEBSOCKET_KEY,
];

impl<S, B, A> Service<Request<B>> for EngineIoService<S>
where
    S: Service<Request<B>, Response = Response<A>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Send + 'static,
    A: Default + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let session = parse_session(request.uri());
        let peer = request.extensions().get::<Peer>().cloned();
        *request.uri_mut() = with_engine_version(request.uri());
        *request.headers_mut() = copy_kept_headers(request.headers());
        // A fresh map: other extensions of the router, and the capacity of the old map, would stay allocated.
        let mut extensions = mem::take(request.extensions_mut());
        request.extensions_mut().insert(self.sessions.clone());
        if let Some(peer) = extensions.remove::<Peer>() {
            request.extensions_mut().insert(peer);
        }
        if let Some(upgrade) = extensions.remove::<OnUpgrade>() {
            request.extensions_mut().insert(upgrade);
        }
        let sessions = self.sessions.clone();
        match session {
            Some(("websocket", sid)) => {
                upgrade_session(self.inner.clone(), request, sessions, sid, peer).boxed()
            }
            Some(("polling", sid)) if request.method() == Method::GET => {
                upgrade::track_poll(sessions, sid, self.inner.call(request)).boxed()
            }
            _ => self.inner.call(request).boxed(),
        }
    }
}

/// Handles the request of a WebSocket that continues the session `sid`.
async fn upgrade_session<S, B, A>(
    mut inner: S,
    request: Request<B>,
    sessions: Sessions,
    sid: Sid,
    peer: Option<Peer>,
) -> Result<Response<A>, S::Error>
where
    S: Service<Request<B>, Response = Response<A>>,
    A: Default + 'static,
{
    // Held until the WebSocket is recorded: from then on packets are refused for that reason.
    let Some(_upgrade_guard) = upgrade::hold_until_drained(&sessions, sid).await else {
        let mut refusal = Response::new(A::default());
        *refusal.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return Ok(refusal);
    };
    let response = inner.call(request).await?;
    if let Some(peer) = peer.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
        sessions.record_websocket(sid, &peer);
    }
    Ok(response)
}

/// The transport of a request and the session that it continues.
fn parse_session(uri: &Uri) -> Option<(&'static str, Sid)> {
    let value_of = |name| uri.query()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let transport =
        ["websocket", "polling"].into_iter().find(|&known| value_of("transport") == Some(known))?;
    Some((transport, value_of("sid")?.parse().ok()?))
}

/// Copies `uri`, and adds `EIO=3` if it has no version.
fn with_engine_version(uri: &Uri) -> Uri {
    let query = uri.query().unwrap_or_default();
    let versioned = query.split('&').any(|pair| pair.starts_with("EIO="));
    let path_and_query = match (versioned, query) {
        (true, _) => format!("{}?{query}", uri.path()),
        (false, "") => format!("{}?EIO=3", uri.path()),
        (false, _) => format!("{}?EIO=3&{query}", uri.path()),
    };
    PathAndQuery::try_from(path_and_query).map_or_else(|_| uri.clone(), Uri::from)
}

/// Copies the [`KEPT_HEADERS`] of `headers`.
fn copy_kept_headers(headers: &HeaderMap) -> HeaderMap {
    let kept = || {
        KEPT_HEADERS
            .into_iter()
            .flat_map(|name| headers.get_all(&name).iter().map(move |value| (name.clone(), value)))
    };
    // A map that grows allocates more than it holds.
    let mut copy = HeaderMap::with_capacity(kept().count());
    for (name, value) in kept() {
        copy.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("copied from a header value"));
    }
    copy
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::ready, sync::Arc};

    use tower::ServiceExt;

    use super::*;

    #[test]
    fn a_request_without_eio_is_of_version_3() {
        for (given, expected) in [
            ("/socket.io/?transport=polling", "/socket.io/?EIO=3&transport=polling"),
            ("/socket.io/?EIO=4&transport=polling", "/socket.io/?EIO=4&transport=polling"),
            ("/socket.io/", "/socket.io/?EIO=3"),
        ] {
            assert_eq!(with_engine_version(&given.parse().unwrap()).to_string(), expected);
        }
    }

    #[test]
    fn a_request_belongs_to_the_session_that_it_names() {
        let parse = |uri: &str| parse_session(&uri.parse().unwrap());
        let sid: Sid = "CVKvAB0AhE1fNyE-".parse().unwrap();
        for transport in ["websocket", "polling"] {
            let uri = format!("/socket.io/?EIO=4&transport={transport}&sid={sid}");
            assert_eq!(parse(&uri), Some((transport, sid)));
        }
        for uri in [
            "/socket.io/?EIO=4&transport=websocket&sid=none",
            "/socket.io/?EIO=4&transport=websocket",
            "/socket.io/?EIO=4&transport=other&sid=CVKvAB0AhE1fNyE-",
            "/socket.io/?EIO=4&sid=CVKvAB0AhE1fNyE-",
            "/socket.io/",
        ] {
            assert_eq!(parse(uri), None, "{uri}");
        }
    }

    #[tokio::test]
    async fn a_websocket_is_recorded_only_if_the_protocol_was_switched() {
        for (status, recorded) in [(StatusCode::SWITCHING_PROTOCOLS, 1), (StatusCode::BAD_REQUEST, 0)] {
            let sessions = Sessions::default();
            let inner = tower::service_fn(move |_: Request<()>| {
                ready(Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap()))
            });
            let peer = Peer { address: ([127, 0, 0, 1], 1).into(), abort: Arc::default() };
            let mut request = Request::new(());
            *request.uri_mut() =
                "/socket.io/?EIO=4&transport=websocket&sid=CVKvAB0AhE1fNyE-".parse().unwrap();
            request.extensions_mut().insert(peer.clone());
            EngineIoService::new(inner, sessions.clone()).oneshot(request).await.unwrap();
            assert_eq!(sessions.websockets("CVKvAB0AhE1fNyE-".parse().unwrap()).len(), recorded, "{status}");
        }
    }

    #[test]
    fn only_the_headers_in_use_are_kept() {
        let given = [
            ("host", "a"),
            ("x-forwarded-for", "1"),
            ("cookie", "c"),
            ("x-forwarded-for", "2"),
            ("origin", "o"),
        ];
        let given =
            given.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let kept = copy_kept_headers(&given.into_iter().collect());
        assert_eq!(kept.len(), 3);
        assert_eq!(kept["host"], "a");
        assert_eq!(kept.get_all("x-forwarded-for").iter().collect::<Vec<_>>(), ["1", "2"]);
    }
}
