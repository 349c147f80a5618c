//! The feed as server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Extension, State},
    http::{HeaderMap, HeaderName},
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Context,
    api::ProblemDetails,
    extract::{Caller, Params},
};
use crate::{
    auth::{LEEWAY, Right},
    bucket::Base,
    feed::{Cursor, FeedId},
    hub::{Refused, Subscriber, Subscription},
    limit::Place,
    listener::Peer,
    log::{Entry, Read},
    wire::{JoinAnswer, Problem, Showcase},
};

/// Events that may wait for a slow reader; the rest waits in the log.
const QUEUE: usize = 64;
/// Between comments that keep proxies from closing a quiet stream.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
pub(super) struct StreamParams {
    cursor: Option<String>,
}

/// A stream, as the hub sees it.
struct Outgoing {
    queue: mpsc::Sender<Event>,
    showcase: Arc<Showcase>,
    base: Base,
    peer: Option<Peer>,
}

/// Streams what happens in a feed.
#[utoipa::path(
    get,
    path = "/v1/feeds/{feed}/events",
    tag = "events",
    params(("feed" = String, Path, description = "The feed id", min_length = 1, max_length = 64), ("cursor" = Option<String>, Query, description = "Where to go on from"), ("last-event-id" = Option<String>, Header, description = "Where to go on from, as EventSource sends it")),
    responses((status = 200, description = "The events, as AsyncAPI describes them", body = String, content_type = "text/event-stream"), (status = "default", description = "A problem", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn stream(
    State(context): State<Arc<Context>>,
    caller: Caller,
    Params(params): Params<StreamParams>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    caller.check(Right::View)?;
    let peer = peer.map(|Extension(peer)| peer);
    let place = context.limiter.place(context.limiter.address(peer.as_ref(), &headers))?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
    let cursor = last.map(str::to_owned).or(params.cursor).and_then(|cursor| Cursor::parse(&cursor).ok());
    let watching = context.hub.watch(&caller.feed);
    let joined = join(&context, &caller.feed, cursor).await?;
    let (queue, events) = mpsc::channel(QUEUE);
    let outgoing = Outgoing { queue, showcase: context.showcase.clone(), base: caller.base, peer };
    let subscription = watching.subscribe(joined.cursor, Arc::new(outgoing));
    let first = stream::once(std::future::ready(joined_event(&joined)));
    let events = first.chain(ReceiverStream::new(events)).map(Ok::<_, Infallible>);
    let end = ending(context, caller.access.expires_at);
    let events = held((subscription, place), events.take_until(Box::pin(end)));
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), "no");
    Ok(([unbuffered], Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))))
}

async fn join(context: &Context, feed: &FeedId, cursor: Option<Cursor>) -> Result<JoinAnswer, Problem> {
    let log = context.hub.log();
    let Some(cursor) = cursor else {
        return Ok(JoinAnswer::anew(feed.clone(), log.end(feed).await?));
    };
    Ok(match log.read_after(feed, cursor, 1).await? {
        Read::Lost(end) => JoinAnswer::anew(feed.clone(), end),
        Read::Entries(_) => JoinAnswer { feed: feed.clone(), recovered: true, cursor, events: Vec::new() },
    })
}

/// Ends the stream at the token's end, or when the process stops; `EventSource` comes back by itself.
async fn ending(context: Arc<Context>, expires_at: Option<Timestamp>) {
    let end = expires_at.and_then(|end| end.checked_add(LEEWAY).ok());
    let expired = async {
        let Some(end) = end else { return std::future::pending().await };
        let left = end.duration_since(Timestamp::now());
        tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
    };
    tokio::select! {
        () = context.stopping.cancelled() => {}
        () = expired => {}
    }
}

/// Keeps the places in the feed and among the connections for as long as the stream lives.
fn held<S: Stream>(places: (Subscription, Place), events: S) -> impl Stream<Item = S::Item> {
    events.map(move |event| {
        let _ = &places;
        event
    })
}

fn joined_event(answer: &JoinAnswer) -> Event {
    let data = serde_json::to_string(answer).unwrap_or_default();
    Event::default().event("joined").id(answer.cursor.to_string()).data(data)
}

impl Outgoing {
    fn send(&self, event: Event) -> Result<(), Refused> {
        self.queue.try_send(event).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Full,
            mpsc::error::TrySendError::Closed(_) => Refused::Gone,
        })
    }
}

impl Subscriber for Outgoing {
    fn deliver(
        &self,
        entries: &mut dyn Iterator<Item = &Entry>,
        position: &mut Cursor,
    ) -> Result<(), Refused> {
        let mut showing = self.showcase.open(&self.base, Timestamp::now());
        for entry in entries {
            let shown = showing.show(entry);
            let event = Event::default().event(shown.event).id(entry.cursor.to_string());
            self.send(event.data(shown.data.get()))?;
            *position = entry.cursor;
        }
        Ok(())
    }

    fn lost(&self, feed: &FeedId, end: Cursor) -> Result<(), Refused> {
        self.send(joined_event(&JoinAnswer::anew(feed.clone(), end)))
    }

    fn cut(&self) {
        if let Some(peer) = &self.peer {
            peer.cut.cancel();
        }
    }
}
