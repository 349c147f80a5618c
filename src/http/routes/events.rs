//! Handler that streams a feed as server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, header},
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{LEEWAY, Right},
    bucket::BucketUrl,
    feed::{Cursor, FeedId},
    http::{
        dto::{FeedPath, StreamEventsQuery},
        extract::{FeedCaller, QueryParams, StreamConnection},
    },
    hub::{DeliveryError, Hub, Subscriber, Subscription},
    limit::ConnectionPermit,
    listener::Peer,
    log::{Entry, ReadResult},
    protocol::{EventEncoder, JoinResponse, Problem},
};

/// Maximum number of events that are queued for a slow client; further events stay in the log.
const MAX_QUEUED_EVENTS: usize = 64;
/// Interval of the comments that keep proxies from closing an idle stream.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// Subscriber that writes to an event stream.
struct SseSubscriber {
    tx: mpsc::Sender<Event>,
    event_encoder: Arc<EventEncoder>,
    bucket_url: BucketUrl,
    peer: Option<Peer>,
}

/// Streams the events of a feed.
#[utoipa::path(
    get,
    path = "/feeds/{feed}/events",
    tag = "events",
    params(FeedPath, StreamEventsQuery, ("last-event-id" = Option<String>, Header, description = "Cursor to continue from, sent by EventSource on a reconnect")),
    responses((status = 200, description = "The events; see /asyncapi.json for their schemas", body = String, content_type = "text/event-stream"), Problem),
)]
pub(in crate::http) async fn stream_events(
    State(hub): State<Arc<Hub>>,
    State(event_encoder): State<Arc<EventEncoder>>,
    State(shutdown): State<CancellationToken>,
    caller: FeedCaller,
    query: Result<QueryParams<StreamEventsQuery>, Problem>,
    connection: Result<StreamConnection, Problem>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    caller.require(Right::View)?;
    let QueryParams(StreamEventsQuery { cursor }) = query?;
    let StreamConnection { permit, peer } = connection?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
    let cursor = last.map(str::to_owned).or(cursor).and_then(|cursor| Cursor::parse(&cursor).ok());
    // Watch before reading the log: the hub then delivers every entry that follows the read.
    let watch = hub.watch(&caller.feed);
    let joined = join_feed(&hub, &caller.feed, cursor).await?;
    let (tx, rx) = mpsc::channel(MAX_QUEUED_EVENTS);
    let subscriber = SseSubscriber { tx, event_encoder, bucket_url: caller.bucket_url, peer };
    let subscription = watch.subscribe(joined.cursor, Arc::new(subscriber));
    let first = stream::once(std::future::ready(encode_joined(&joined)));
    let events = first.chain(ReceiverStream::new(rx)).map(Ok::<_, Infallible>);
    let end = wait_for_end(shutdown, caller.access.expires_at);
    let events = hold_while_streaming((subscription, permit), events.take_until(Box::pin(end)));
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), "no");
    // A proxy that compresses the stream would hold back events until a block is full.
    let not_stored = (header::CACHE_CONTROL, "no-store, no-transform");
    Ok((
        [unbuffered, not_stored],
        Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL)),
    ))
}

async fn join_feed(hub: &Hub, feed: &FeedId, cursor: Option<Cursor>) -> Result<JoinResponse, Problem> {
    let log = hub.log();
    let Some(cursor) = cursor else {
        return Ok(JoinResponse::without_recovery(feed.clone(), log.read_end(feed).await?));
    };
    Ok(match log.read_after(feed, cursor, 1).await? {
        ReadResult::Lost(end) => JoinResponse::without_recovery(feed.clone(), end),
        ReadResult::Entries(_) => {
            JoinResponse { feed: feed.clone(), recovered: true, cursor, events: Vec::new() }
        }
    })
}

/// Completes when the token expires or the process shuts down. `EventSource` reconnects by itself.
async fn wait_for_end(shutdown: CancellationToken, expires_at: Option<Timestamp>) {
    let end = expires_at.and_then(|end| end.checked_add(LEEWAY).ok());
    let expired = async {
        let Some(end) = end else { return std::future::pending().await };
        let remaining = end.duration_since(Timestamp::now());
        tokio::time::sleep(Duration::try_from(remaining).unwrap_or_default()).await;
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = expired => {}
    }
}

/// Holds the subscription and the connection permit until the stream is dropped.
fn hold_while_streaming<S: Stream>(
    guards: (Subscription, ConnectionPermit),
    events: S,
) -> impl Stream<Item = S::Item> {
    events.map(move |event| {
        let _ = &guards;
        event
    })
}

fn encode_joined(response: &JoinResponse) -> Event {
    let data = serde_json::to_string(response).unwrap_or_default();
    Event::default().event("joined").id(response.cursor.to_string()).data(data)
}

impl SseSubscriber {
    fn send(&self, event: Event) -> Result<(), DeliveryError> {
        self.tx.try_send(event).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => DeliveryError::Full,
            mpsc::error::TrySendError::Closed(_) => DeliveryError::Disconnected,
        })
    }
}

impl Subscriber for SseSubscriber {
    fn deliver(
        &self,
        entries: &mut dyn Iterator<Item = &Entry>,
        position: &mut Cursor,
    ) -> Result<(), DeliveryError> {
        let mut encoder = self.event_encoder.lock(&self.bucket_url, Timestamp::now());
        for entry in entries {
            let encoded = encoder.encode(entry);
            let event = Event::default().event(encoded.event).id(entry.cursor.to_string());
            self.send(event.data(encoded.data.get()))?;
            *position = entry.cursor;
        }
        Ok(())
    }

    fn notify_lost(&self, feed: &FeedId, end: Cursor) -> Result<(), DeliveryError> {
        self.send(encode_joined(&JoinResponse::without_recovery(feed.clone(), end)))
    }

    fn abort(&self) {
        if let Some(peer) = &self.peer {
            peer.abort.cancel();
        }
    }
}
