//! The HTTP service between the router and socketioxide.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header,
    request::Parts,
};
use http_body::Body;
use http_body_util::{BodyExt, Either, Full};
use hyper::upgrade::OnUpgrade;
use serde::Deserialize;
use socketioxide::socket::Sid;
use tower::{Service, ServiceExt};

use super::{
    query::{EngineQuery, EngineVersion, QueryError, Transport},
    sessions::{SessionOrigin, Sessions},
    upgrade,
    websocket_handshake::{HandshakeError, check_handshake},
};
use crate::{
    limit::{BodyError, BodyReader},
    listener::Peer,
};

/// Checks and prepares Engine.IO requests for socketioxide.
///
/// - Parses the query once, and writes it again from the result, see `socketio/query.rs`. Adds the `EIO=3` that
///   the oldest clients leave out, and refuses another version than that of the session: engineioxide decodes
///   by the version of the request.
/// - Reads the body of a request first: engineioxide validates an incomplete one from its start whenever more
///   of it arrives.
/// - Refuses WebSocket requests that no WebSocket can follow.
/// - Holds back the WebSocket request of a polling session until the upgrade loses nothing, see
///   `socketio/upgrade.rs`.
/// - Copies the parts of the head that are used. socketioxide keeps the head of a session's first request for
///   the lifetime of the session, and the original keeps hyper's whole read buffer (16 KiB) alive.
#[derive(Debug, Clone)]
pub struct EngineIoService<S> {
    inner: S,
    sessions: Sessions,
    body_reader: BodyReader,
}

impl<S> EngineIoService<S> {
    /// Wraps the service of socketioxide.
    pub fn new(inner: S, sessions: Sessions, body_reader: BodyReader) -> Self {
        Self { inner, sessions, body_reader }
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

/// The request is not handed on.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Query(#[from] QueryError),
    /// `EIO` is not the version with which the session was opened.
    #[error("EIO is not the version of the session")]
    VersionMismatch,
    #[error("{}", .0.detail())]
    Handshake(HandshakeError),
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The polls of the session do not drain its queue.
    #[error("The session has packets that must be polled first")]
    NotDrained,
}

/// Responses are those of socketioxide, or complete.
type ResponseBody<A> = Either<A, Full<Bytes>>;

impl<S, B, A> Service<Request<B>> for EngineIoService<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<A>> + Clone + Send + 'static,
    S: Sync,
    S::Future: Send,
    S::Error: Send,
    B: Body<Data: Send, Error: Send> + Unpin + Send + 'static,
    A: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<ResponseBody<A>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        async move {
            match service.prepare(request).await {
                Ok(prepared) => service.forward(prepared).await,
                Err(refusal) => Ok(refusal.into_response()),
            }
        }
        .boxed()
    }
}

/// A request as socketioxide receives it, and what was read of it.
struct PreparedRequest {
    request: Request<Full<Bytes>>,
    transport: Transport,
    sid: Option<Sid>,
    peer: Option<Peer>,
    /// Set in a request that opens a session.
    origin: Option<Arc<SessionOrigin>>,
}

impl<S> EngineIoService<S> {
    async fn prepare<B: Body + Unpin>(&self, request: Request<B>) -> Result<PreparedRequest, Refusal> {
        let (mut parts, body) = request.into_parts();
        let query = EngineQuery::parse(parts.uri.query().unwrap_or_default())?;
        let (transport, sid) = (query.transport, query.sid);
        let session = sid.and_then(|sid| self.sessions.origin(sid));
        let version = resolve_version(query.version, session.as_deref())?;
        if transport == Transport::WebSocket {
            check_handshake(&parts, !body.is_end_stream()).map_err(Refusal::Handshake)?;
        }
        let uri = format!("{}?{}", parts.uri.path(), query.write(version));
        // Without a session to send it to, a body is not worth reading.
        let is_read = parts.method == Method::POST && session.is_some();
        let body = if is_read { self.body_reader.read(body).await? } else { Bytes::new() };

        let peer = parts.extensions.get::<Peer>().cloned();
        let origin = sid.is_none().then(|| Arc::new(SessionOrigin { version, transport }));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = uri.parse().expect("made of the parts of a URI");
        *request.headers_mut() = copy_kept_headers(&parts.headers);
        *request.extensions_mut() = self.build_extensions(&mut parts, origin.clone());
        Ok(PreparedRequest { request, transport, sid, peer, origin })
    }

    /// A fresh map: other extensions of the router, and the capacity of the old map, would stay allocated.
    fn build_extensions(&self, parts: &mut Parts, origin: Option<Arc<SessionOrigin>>) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(self.sessions.clone());
        if let Some(peer) = parts.extensions.remove::<Peer>() {
            extensions.insert(peer);
        }
        if let Some(upgrade) = parts.extensions.remove::<OnUpgrade>() {
            extensions.insert(upgrade);
        }
        if let Some(origin) = origin {
            extensions.insert(origin);
        }
        extensions
    }

    async fn forward<A>(self, prepared: PreparedRequest) -> Result<Response<ResponseBody<A>>, S::Error>
    where
        S: Service<Request<Full<Bytes>>, Response = Response<A>>,
        A: Body<Data = Bytes>,
    {
        let PreparedRequest { request, transport, sid, peer, origin } = prepared;
        let is_get = request.method() == Method::GET;
        let Self { inner, sessions, .. } = self;
        match (transport, sid) {
            (Transport::WebSocket, Some(sid)) => upgrade_session(inner, request, sessions, sid, peer).await,
            (Transport::Polling, Some(sid)) if is_get => {
                let response = upgrade::track_poll(sessions, sid, inner.oneshot(request)).await?;
                Ok(response.map(Either::Left))
            }
            (Transport::Polling, None) if is_get => {
                let response = inner.oneshot(request).await?;
                Ok(record_session(response, &sessions, origin).await)
            }
            _ => Ok(inner.oneshot(request).await?.map(Either::Left)),
        }
    }
}

/// The version of a request: that of its session, or else its own, or else that of the oldest clients.
fn resolve_version(
    requested: Option<EngineVersion>,
    session: Option<&SessionOrigin>,
) -> Result<EngineVersion, Refusal> {
    match (requested, session) {
        (Some(version), Some(session)) if version != session.version => Err(Refusal::VersionMismatch),
        (_, Some(session)) => Ok(session.version),
        (version, None) => Ok(version.unwrap_or(EngineVersion::V3)),
    }
}

/// Records the session that a poll has opened, by the open packet in its response.
async fn record_session<A: Body<Data = Bytes>>(
    response: Response<A>,
    sessions: &Sessions,
    origin: Option<Arc<SessionOrigin>>,
) -> Response<ResponseBody<A>> {
    let (parts, body) = response.into_parts();
    let packet = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    if let (Some(sid), Some(origin)) = (parse_open_packet(&packet), origin) {
        sessions.record_origin(sid, &origin);
    }
    Response::from_parts(parts, Either::Right(Full::new(packet)))
}

/// The session id of an open packet: `0{"sid":"…"}`, in version 3 after its length.
fn parse_open_packet(packet: &[u8]) -> Option<Sid> {
    #[derive(Deserialize)]
    struct OpenPacket {
        sid: Sid,
    }
    let json = packet.iter().position(|&byte| byte == b'{')?;
    let open: OpenPacket = serde_json::from_slice(&packet[json..]).ok()?;
    Some(open.sid)
}

/// Handles the request of a WebSocket that continues the session `sid`.
async fn upgrade_session<S, A>(
    inner: S,
    request: Request<Full<Bytes>>,
    sessions: Sessions,
    sid: Sid,
    peer: Option<Peer>,
) -> Result<Response<ResponseBody<A>>, S::Error>
where
    S: Service<Request<Full<Bytes>>, Response = Response<A>>,
{
    // Held until the WebSocket is recorded: from then on packets are refused for that reason.
    let Some(_upgrade_guard) = upgrade::hold_until_drained(&sessions, sid).await else {
        return Ok(Refusal::NotDrained.into_response());
    };
    let response = inner.oneshot(request).await?;
    if let Some(peer) = peer.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
        sessions.record_websocket(sid, &peer);
    }
    Ok(response.map(Either::Left))
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Query(_) | Self::VersionMismatch | Self::Body(BodyError::Failed) => StatusCode::BAD_REQUEST,
            Self::Handshake(error) => error.status(),
            Self::Body(BodyError::TooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BodyError::TimedOut(_)) => StatusCode::REQUEST_TIMEOUT,
            Self::Body(BodyError::OutOfMemory) | Self::NotDrained => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The code of an Engine.IO server for the error.
    fn code(&self) -> &'static str {
        match self {
            Self::Query(QueryError::UnknownTransport) => "0",
            Self::Query(QueryError::UnknownSession) => "1",
            Self::Query(QueryError::UnsupportedVersion) => "5",
            _ => "3",
        }
    }

    /// The response, in the format of an Engine.IO server.
    fn into_response<A>(self) -> Response<ResponseBody<A>> {
        let body = serde_json::json!({ "code": self.code(), "message": self.to_string() }).to_string();
        let mut response = Response::new(Either::Right(Full::from(body)));
        *response.status_mut() = self.status();
        if let Self::Handshake(error) = self {
            *response.headers_mut() = error.headers();
        }
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
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
    use std::{convert::Infallible, time::Duration};

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{Empty, StreamBody};

    use super::*;

    const SID: &str = "CVKvAB0AhE1fNyE-";
    const WEBSOCKET: &[(&str, &str)] = &[
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn request(method: Method, query: &str, headers: &[(&str, &str)]) -> Request<Empty<Bytes>> {
        let request = Request::builder().method(method).uri(format!("/socket.io/?{query}"));
        let request = headers.iter().fold(request, |request, &(name, value)| request.header(name, value));
        request.body(Empty::new()).unwrap()
    }

    /// Sends a request to a service whose inner one answers `status` and the URI and body that it receives.
    async fn send<B>(sessions: &Sessions, status: StatusCode, request: Request<B>) -> (StatusCode, String)
    where
        B: Body<Data: Send, Error: Send> + Unpin + Send + 'static,
    {
        let inner = tower::service_fn(move |request: Request<Full<Bytes>>| async move {
            let (parts, body) = request.into_parts();
            let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
            let answer = Full::<Bytes>::from(format!("{} {body}", parts.uri.query().unwrap()));
            Ok::<_, Infallible>(Response::builder().status(status).body(answer).unwrap())
        });
        let reader = BodyReader::new(1000, Duration::from_secs(1), 1000);
        let response = EngineIoService::new(inner, sessions.clone(), reader).oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn open_session(version: EngineVersion) -> (Sessions, Arc<SessionOrigin>) {
        let sessions = Sessions::default();
        let origin = Arc::new(SessionOrigin { version, transport: Transport::Polling });
        sessions.record_origin(SID.parse().unwrap(), &origin);
        (sessions, origin)
    }

    #[tokio::test]
    async fn a_request_has_the_version_of_its_session() {
        for (version, sent, expected) in [
            (EngineVersion::V4, "EIO=4&", Some("EIO=4")),
            (EngineVersion::V4, "", Some("EIO=4")),
            (EngineVersion::V4, "EIO=3&", None),
            (EngineVersion::V3, "EIO=3&", Some("EIO=3")),
            (EngineVersion::V3, "", Some("EIO=3")),
            (EngineVersion::V3, "EIO=4&", None),
        ] {
            let (sessions, _origin) = open_session(version);
            for (method, transport, headers) in [
                (Method::GET, "polling", &[][..]),
                (Method::POST, "polling", &[]),
                (Method::GET, "websocket", WEBSOCKET),
            ] {
                let query = format!("{sent}transport={transport}&sid={SID}");
                let (status, answer) =
                    send(&sessions, StatusCode::OK, request(method, &query, headers)).await;
                match expected {
                    Some(expected) => assert!(answer.starts_with(expected), "{query}: {answer}"),
                    None => assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {answer}"),
                }
            }
        }
        let (_, answer) =
            send(&Sessions::default(), StatusCode::OK, request(Method::GET, "transport=polling", &[])).await;
        assert_eq!(answer, "EIO=3&transport=polling ", "a request without EIO opens a session of version 3");
    }

    #[tokio::test]
    async fn a_session_is_recorded_by_its_open_packet_as_long_as_it_exists() {
        let sid: Sid = SID.parse().unwrap();
        for packet in
            [format!("0{{\"sid\":\"{SID}\",\"upgrades\":[]}}"), format!("40:0{{\"sid\":\"{SID}\"}}")]
        {
            let (sessions, origin) = (
                Sessions::default(),
                Arc::new(SessionOrigin { version: EngineVersion::V4, transport: Transport::Polling }),
            );
            let response = Response::new(Full::<Bytes>::from(packet.clone()));
            let response = record_session(response, &sessions, Some(origin.clone())).await;
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), packet);
            assert_eq!(sessions.origin(sid), Some(origin));
            assert_eq!(sessions.origin(sid), None);
        }
        assert_eq!(parse_open_packet(b"44{\"message\":\"no\"}"), None);
    }

    #[tokio::test]
    async fn a_body_is_handed_on_whole_and_only_to_a_session() {
        let body = || {
            let chunks = ["4", "0", "{}"].map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::from(chunk))));
            StreamBody::new(stream::iter(chunks))
        };
        let post = || {
            let query = format!("EIO=4&transport=polling&sid={SID}");
            request(Method::POST, &query, &[]).map(|_| body())
        };
        let (sessions, origin) = open_session(EngineVersion::V4);
        let (_, answer) = send(&sessions, StatusCode::OK, post()).await;
        assert!(answer.ends_with(" 40{}"), "{answer}");
        drop(origin);
        let (_, answer) = send(&sessions, StatusCode::OK, post()).await;
        assert!(answer.ends_with(' '), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_too_large_or_too_slow_is_refused() {
        let (sessions, _origin) = open_session(EngineVersion::V4);
        let post = || request(Method::POST, &format!("EIO=4&transport=polling&sid={SID}"), &[]);
        let large = post().map(|_| Full::<Bytes>::from(vec![b'4'; 1001]));
        let (status, _) = send(&sessions, StatusCode::OK, large).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        let stalled = post().map(|_| StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>()));
        let (status, _) = send(&sessions, StatusCode::OK, stalled).await;
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn a_refusal_names_its_reason() {
        let sessions = Sessions::default();
        for (query, headers, expected, code) in [
            ("EIO=4&transport=polling&transport=websocket", &[][..], 400, "3"),
            ("EIO=4", &[], 400, "0"),
            ("EIO=4&transport=polling&sid=none", &[], 400, "1"),
            ("EIO=5&transport=polling", &[], 400, "5"),
            ("EIO=4&transport=websocket", &[], 426, "3"),
            ("EIO=4&transport=websocket", &WEBSOCKET[..3], 400, "3"),
        ] {
            let (status, body) = send(&sessions, StatusCode::OK, request(Method::GET, query, headers)).await;
            assert_eq!(status, expected, "{query}");
            assert!(body.contains(&format!("\"code\":\"{code}\"")), "{query}: {body}");
        }
    }

    #[tokio::test]
    async fn a_websocket_is_recorded_only_if_the_protocol_was_switched() {
        for (status, recorded) in [(StatusCode::SWITCHING_PROTOCOLS, 1), (StatusCode::BAD_REQUEST, 0)] {
            let sessions = Sessions::default();
            let peer = Peer { address: ([127, 0, 0, 1], 1).into(), abort: Arc::default() };
            let query = format!("EIO=4&transport=websocket&sid={SID}");
            let mut request = request(Method::GET, &query, WEBSOCKET);
            request.extensions_mut().insert(peer.clone());
            send(&sessions, status, request).await;
            assert_eq!(sessions.websockets(SID.parse().unwrap()).len(), recorded, "{status}");
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
