//! What stands between the router and socketioxide.

use std::{
    convert::Infallible,
    fmt, mem,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri::PathAndQuery,
};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use socketioxide::{ProtocolVersion, socket::Sid};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

use super::{transport::Sessions, upgrade};
use crate::listener::Peer;

/// Prepares requests for socketioxide: adds the `EIO=3` that the oldest clients leave out, notes where
/// a session goes on, and copies what is needed of the head.
///
/// socketioxide keeps the head of a session's first request for as long as the session lives, and with
/// it hyper's whole read buffer (16 KiB), of which the head is a part.
#[derive(Debug, Clone)]
pub struct EngineService<S> {
    inner: S,
    sessions: Sessions,
}

/// Closes polling sessions, by the packet that a client would send for it.
#[derive(Clone, Default)]
pub struct Closer(Arc<OnceLock<Engine>>);

type Engine = BoxCloneSyncService<Request<Full<Bytes>>, (), Infallible>;

impl<S> EngineService<S> {
    /// Stands before `inner`.
    pub fn new(inner: S, sessions: Sessions) -> Self {
        Self { inner, sessions }
    }
}

/// What is read of a head: by us, and for the transports by engineioxide.
const NEEDED: [HeaderName; 5] = [
    header::HOST,
    header::AUTHORIZATION,
    HeaderName::from_static("x-forwarded-for"),
    header::CONTENT_TYPE,
    header::SEC_WEBSOCKET_KEY,
];

impl<S, B, A> Service<Request<B>> for EngineService<S>
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
        let session = session(request.uri());
        let peer = request.extensions().get::<Peer>().cloned();
        *request.uri_mut() = with_version(request.uri());
        *request.headers_mut() = needed(request.headers());
        // Whatever else the router noted would be kept alive, too, and the room that it took.
        let mut noted = mem::take(request.extensions_mut());
        request.extensions_mut().insert(self.sessions.clone());
        if let Some(peer) = noted.remove::<Peer>() {
            request.extensions_mut().insert(peer);
        }
        if let Some(upgrade) = noted.remove::<OnUpgrade>() {
            request.extensions_mut().insert(upgrade);
        }
        let sessions = self.sessions.clone();
        match session {
            Some(("websocket", sid)) => take_over(self.inner.clone(), request, sessions, sid, peer).boxed(),
            Some(("polling", sid)) if request.method() == Method::GET => {
                upgrade::watched(sessions, sid, self.inner.call(request)).boxed()
            }
            _ => self.inner.call(request).boxed(),
        }
    }
}

/// The answer to a WebSocket that wants to go on with the session `sid`.
async fn take_over<S, B, A>(
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
    let Some(_nothing_is_sent) = upgrade::wait_for(&sessions, sid).await else {
        let mut refusal = Response::new(A::default());
        *refusal.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return Ok(refusal);
    };
    let answer = inner.call(request).await?;
    if let Some(peer) = peer.filter(|_| answer.status() == StatusCode::SWITCHING_PROTOCOLS) {
        sessions.moves(sid, &peer);
    }
    Ok(answer)
}

impl Closer {
    /// Closes sessions through `service`.
    pub(super) fn set<S, B>(&self, service: S)
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
        B: 'static,
    {
        let _ = self.0.set(BoxCloneSyncService::new(service.map_response(drop)));
    }

    /// Closes the polling session `sid`.
    pub(super) fn close(&self, sid: Sid, protocol: ProtocolVersion) {
        let Some(service) = self.0.get().cloned() else { return };
        // Engine.IO's packet type 1, in the framing of each version.
        let (version, packet) = match protocol {
            ProtocolVersion::V4 => (3, "1:1"),
            ProtocolVersion::V5 => (4, "1"),
        };
        let uri = format!("/socket.io/?EIO={version}&transport=polling&sid={sid}");
        let request = Request::post(uri)
            .header("content-type", "text/plain;charset=UTF-8")
            .body(Full::from(packet))
            .expect("a session id is of URL-safe characters");
        tokio::spawn(service.oneshot(request));
    }
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closer")
    }
}

/// The transport that a request is of, and the session that it goes on with.
fn session(uri: &Uri) -> Option<(&'static str, Sid)> {
    let value_of = |name| uri.query()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let transport =
        ["websocket", "polling"].into_iter().find(|&known| value_of("transport") == Some(known))?;
    Some((transport, value_of("sid")?.parse().ok()?))
}

/// A fresh copy of `uri`, with the version that clients meant when they named none.
fn with_version(uri: &Uri) -> Uri {
    let query = uri.query().unwrap_or_default();
    let versioned = query.split('&').any(|pair| pair.starts_with("EIO="));
    let path_and_query = match (versioned, query) {
        (true, _) => format!("{}?{query}", uri.path()),
        (false, "") => format!("{}?EIO=3", uri.path()),
        (false, _) => format!("{}?EIO=3&{query}", uri.path()),
    };
    PathAndQuery::try_from(path_and_query).map_or_else(|_| uri.clone(), Uri::from)
}

/// A fresh copy of what is needed of `headers`.
fn needed(headers: &HeaderMap) -> HeaderMap {
    let needed = || {
        NEEDED
            .into_iter()
            .flat_map(|name| headers.get_all(&name).iter().map(move |value| (name.clone(), value)))
    };
    // A map that grows makes room for more than it holds.
    let mut copy = HeaderMap::with_capacity(needed().count());
    for (name, value) in needed() {
        copy.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("it was one"));
    }
    copy
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[test]
    fn trap_33_no_eio_at_all_means_3() {
        for (given, expected) in [
            ("/socket.io/?transport=polling", "/socket.io/?EIO=3&transport=polling"),
            ("/socket.io/?EIO=4&transport=polling", "/socket.io/?EIO=4&transport=polling"),
            ("/socket.io/", "/socket.io/?EIO=3"),
        ] {
            assert_eq!(with_version(&given.parse().unwrap()).to_string(), expected);
        }
    }

    #[test]
    fn a_request_is_of_the_session_that_it_names() {
        let session = |uri: &str| session(&uri.parse().unwrap());
        let sid: Sid = "CVKvAB0AhE1fNyE-".parse().unwrap();
        for transport in ["websocket", "polling"] {
            let uri = format!("/socket.io/?EIO=4&transport={transport}&sid={sid}");
            assert_eq!(session(&uri), Some((transport, sid)));
        }
        for uri in [
            "/socket.io/?EIO=4&transport=websocket&sid=none",
            "/socket.io/?EIO=4&transport=websocket",
            "/socket.io/?EIO=4&transport=other&sid=CVKvAB0AhE1fNyE-",
            "/socket.io/?EIO=4&sid=CVKvAB0AhE1fNyE-",
            "/socket.io/",
        ] {
            assert_eq!(session(uri), None, "{uri}");
        }
    }

    #[tokio::test]
    async fn a_session_moves_only_if_the_answer_lets_it() {
        for (status, moves) in [(StatusCode::SWITCHING_PROTOCOLS, 1), (StatusCode::BAD_REQUEST, 0)] {
            let sessions = Sessions::default();
            let answer = tower::service_fn(move |_: Request<()>| {
                ready(Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap()))
            });
            let peer = Peer { address: ([127, 0, 0, 1], 1).into(), cut: Arc::default() };
            let mut request = Request::new(());
            *request.uri_mut() =
                "/socket.io/?EIO=4&transport=websocket&sid=CVKvAB0AhE1fNyE-".parse().unwrap();
            request.extensions_mut().insert(peer.clone());
            EngineService::new(answer, sessions.clone()).oneshot(request).await.unwrap();
            assert_eq!(sessions.connections("CVKvAB0AhE1fNyE-".parse().unwrap()).len(), moves, "{status}");
        }
    }

    #[test]
    fn of_a_head_only_what_is_needed_is_kept() {
        let given = [
            ("host", "a"),
            ("x-forwarded-for", "1"),
            ("cookie", "c"),
            ("x-forwarded-for", "2"),
            ("origin", "o"),
        ];
        let given =
            given.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let kept = needed(&given.into_iter().collect());
        assert_eq!(kept.len(), 3);
        assert_eq!(kept["host"], "a");
        assert_eq!(kept.get_all("x-forwarded-for").iter().collect::<Vec<_>>(), ["1", "2"]);
    }
}
