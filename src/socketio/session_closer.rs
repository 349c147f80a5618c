//! Closes polling sessions, which have no connection that could be aborted.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use socketioxide::{ProtocolVersion, socket::Sid};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

/// Closes a polling session by the Engine.IO close packet, posted as a client would.
#[derive(Clone, Default)]
pub struct SessionCloser(Arc<OnceLock<EngineIo>>);

type EngineIo = BoxCloneSyncService<Request<Full<Bytes>>, (), Infallible>;

impl SessionCloser {
    /// Sets the Engine.IO service that receives the packets.
    pub(super) fn set_service<S, B>(&self, service: S)
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
    pub(super) fn close_session(&self, sid: Sid, protocol: ProtocolVersion) {
        let Some(service) = self.0.get().cloned() else { return };
        // Engine.IO packet type 1 (close), in the framing of each version.
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

impl fmt::Debug for SessionCloser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionCloser")
    }
}
