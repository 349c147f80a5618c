//! What stands between the router and socketioxide.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, uri::PathAndQuery};
use http_body_util::Full;
use socketioxide::ProtocolVersion;
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

use super::transport::Sessions;
use crate::listener::Peer;

/// Prepares requests for socketioxide: adds the `EIO=3` that the oldest clients leave out, notes where
/// a session goes on, and copies the head.
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

impl<S, B> Service<Request<B>> for EngineService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if let (Some(sid), Some(peer)) = (upgrading(request.uri()), request.extensions().get::<Peer>()) {
            self.sessions.upgrading(sid, peer);
        }
        *request.uri_mut() = with_version(request.uri());
        *request.headers_mut() = copied(request.headers());
        // Whatever else the router noted would be kept alive, too.
        let peer = request.extensions_mut().remove::<Peer>();
        let upgrade = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>();
        request.extensions_mut().clear();
        request.extensions_mut().insert(self.sessions.clone());
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        if let Some(upgrade) = upgrade {
            request.extensions_mut().insert(upgrade);
        }
        self.inner.call(request)
    }
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
    pub(super) fn close(&self, sid: &str, protocol: ProtocolVersion) {
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

/// The session that a WebSocket request wants to take over.
fn upgrading(uri: &Uri) -> Option<&str> {
    let query = uri.query()?;
    let websocket = query.split('&').any(|pair| pair == "transport=websocket");
    query.split('&').find_map(|pair| pair.strip_prefix("sid=")).filter(|_| websocket)
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

fn copied(headers: &HeaderMap) -> HeaderMap {
    let copy = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes()).ok();
    headers.iter().filter_map(|(name, value)| Some((name.clone(), copy(value)?))).collect()
}

#[cfg(test)]
mod tests {
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
    fn only_websocket_requests_take_a_session_over() {
        let sid = |uri: &str| upgrading(&uri.parse().unwrap()).map(str::to_owned);
        assert_eq!(sid("/socket.io/?EIO=4&transport=websocket&sid=a"), Some("a".into()));
        assert_eq!(sid("/socket.io/?EIO=4&transport=polling&sid=a"), None);
        assert_eq!(sid("/socket.io/?EIO=4&transport=websocket"), None);
    }
}
