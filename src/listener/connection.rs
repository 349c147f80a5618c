//! Serves the HTTP requests of one connection.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    peer::Peer,
    request_timer::{Activity, RequestGuard},
    stream::AbortableStream,
};

/// Maximum size of a request head, in bytes, and of what is read of a body before a handler takes it. A
/// handshake with the longest token and a hundred feeds in the query fits.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// Serves the connection `stream` until it ends, or until `stop` is cancelled and its request is answered.
/// `once` closes it after its first response.
pub(super) async fn serve_connection(
    stream: AbortableStream,
    activity: Arc<Activity>,
    router: Router,
    once: bool,
    stop: CancellationToken,
) {
    let peer = stream.peer().clone();
    let service = service_fn(move |request: Request<Incoming>| {
        serve_request(request, peer.clone(), router.clone(), activity.begin_request())
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(MAX_BUFFER_BYTES)
        .keep_alive(!once)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection closed");
    }
}

async fn serve_request(
    request: Request<Incoming>,
    peer: Peer,
    router: Router,
    guard: RequestGuard,
) -> Result<Response<ResponseBody>, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    let response = router.oneshot(request).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        guard.upgrade();
        return Ok(response.map(|body| ResponseBody { body, _guard: None }));
    }
    Ok(response.map(|body| ResponseBody { body, _guard: Some(guard) }))
}

/// A response body. The request is in flight until the body has been sent.
struct ResponseBody {
    body: Body,
    _guard: Option<RequestGuard>,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
