//! One connection: handles its requests, one at a time.

use std::{
    future::pending,
    ops::ControlFlow,
    sync::{Arc, Weak},
    time::Duration,
};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::{
    adapter::{PacketSender, SocketRef},
    context::{CLOSE_DELAY, ConnectionContext},
    request::{JoinRequest, QueuedRequest, Reply, Request, UrgentQueue},
    socket_subscriber::{SocketSubscriber, delivery_error, encode_json},
    transport,
};
use crate::{
    auth::{Access, LEEWAY, Right},
    bucket::BucketUrl,
    feed::{Cursor, FeedId},
    hub::{DeliveryError, Subscription, WatchGuard},
    limit::{ConnectionPermit, JoinRateLimiter},
    log::ReadResult,
    protocol::{JoinResponse, MAX_JOIN_EVENTS, Problem, ProblemKind},
};

/// Time between two attempts to send to a full packet queue.
const SEND_RETRY_DELAY: Duration = Duration::from_millis(10);
/// Bytes of events that the join responses of one connection may carry in total.
// A response is one packet whatever its size, so the packet queue does not limit it. Events that exceed this
// budget are delivered one by one.
const JOIN_EVENT_BYTES: usize = 1024 * 1024;
/// Time before the token's end at which the client receives `tokenExpiring`.
const EXPIRY_WARNING: Duration = Duration::from_mins(1);

/// What an authenticated handshake provides.
pub(super) struct AdmittedClient {
    pub(super) context: Arc<ConnectionContext>,
    pub(super) packet_sender: PacketSender,
    pub(super) base: BucketUrl,
    pub(super) access: Access,
    pub(super) permit: ConnectionPermit,
}

/// One connection. Owns its connection permit and its subscriptions.
pub(super) struct SocketConnection {
    context: Arc<ConnectionContext>,
    subscriber: Arc<SocketSubscriber>,
    access: Access,
    /// Receives the requests of the expiry timer. Weak, since the queue owns this connection.
    queue: Weak<dyn UrgentQueue>,
    /// Timer for the end of the token of `access`.
    expiry_timer: Option<AbortOnDropHandle<()>>,
    subscriptions: Vec<Subscription>,
    join_limiter: JoinRateLimiter,
    /// What is left of [`JOIN_EVENT_BYTES`].
    join_event_bytes: usize,
    _permit: ConnectionPermit,
}

/// A join whose response is to be sent before delivery starts.
struct PreparedJoin {
    response: JoinResponse,
    source: DeliverySource,
}

/// What delivers the events after a join response.
enum DeliverySource {
    /// A new subscription, from the cursor of the response on.
    New(WatchGuard),
    /// The subscription that the connection had, from its position on: it may not have delivered everything
    /// yet.
    Existing(Subscription),
}

impl SocketConnection {
    pub(super) fn new(
        socket: SocketRef,
        AdmittedClient { context, packet_sender, base, access, permit }: AdmittedClient,
        queue: Weak<dyn UrgentQueue>,
    ) -> Self {
        Self {
            expiry_timer: spawn_expiry_timer(&queue, &access),
            queue,
            join_limiter: context.rate_limits.join_limiter(),
            subscriber: Arc::new(SocketSubscriber::new(
                socket,
                context.event_encoder.clone(),
                base,
                packet_sender,
            )),
            context,
            access,
            subscriptions: Vec::new(),
            join_event_bytes: JOIN_EVENT_BYTES,
            _permit: permit,
        }
    }

    /// Handles one request. Breaks when the connection has ended.
    pub(super) async fn handle(
        &mut self,
        QueuedRequest { request, reply }: QueuedRequest,
    ) -> ControlFlow<()> {
        match request {
            Request::Handshake(feeds) => self.join_handshake_feeds(feeds).await,
            Request::Join(join) => {
                let result = self.join_rate_limited(join).await;
                if reply.has_callback() {
                    self.reply_to_join(&reply, result).await;
                } else {
                    self.emit_joined(result).await;
                }
            }
            Request::Leave(feed) => {
                let result = feed.map(|feed| {
                    self.remove_subscription(&feed);
                    json!({ "feed": feed })
                });
                self.send_result(&reply, result).await;
            }
            Request::Authenticate(token) => {
                let result = self.authenticate(token).await;
                self.send_result(&reply, result).await;
            }
            Request::UploadNotification(feed) => self.send_result(&reply, feed.map(|_| json!({}))).await,
            Request::Unknown(event) => {
                let problem =
                    Problem::new(ProblemKind::UnknownEvent, format!("the server knows no event {event:?}"));
                self.send_problem(&reply, problem).await;
            }
            // The client may have sent another token while the request of the timer was queued.
            Request::TokenExpiring(end) if self.access.expires_at == Some(end) => {
                let _ = self.emit("tokenExpiring", &json!({ "expiresAt": end })).await;
            }
            Request::TokenExpired(end) if self.access.expires_at == Some(end) => {
                self.disconnect_expired();
                return ControlFlow::Break(());
            }
            Request::TokenExpiring(_) | Request::TokenExpired(_) => {}
        }
        ControlFlow::Continue(())
    }

    async fn join_handshake_feeds(&mut self, feeds: Vec<Result<JoinRequest, Problem>>) {
        let limit = self.context.limits.feeds_per_connection;
        for (index, join) in feeds.into_iter().enumerate() {
            // Each reconnect brings up to as many feeds as a connection may join: these do not count against
            // the rate limit. More of them count like later joins.
            let result =
                if index < limit { self.join(join).await } else { self.join_rate_limited(join).await };
            self.emit_joined(result).await;
        }
    }

    async fn join_rate_limited(
        &mut self,
        join: Result<JoinRequest, Problem>,
    ) -> Result<PreparedJoin, Problem> {
        match (self.join_limiter.check(), join) {
            (Ok(()), join) => self.join(join).await,
            (Err(exceeded), Ok(join)) => Err(Problem::from(exceeded).with_feed(join.feed.as_str())),
            (Err(exceeded), Err(_)) => Err(exceeded.into()),
        }
    }

    /// Prepares a join. The feed delivers nothing until [`Self::start_delivery`].
    async fn join(&mut self, join: Result<JoinRequest, Problem>) -> Result<PreparedJoin, Problem> {
        let JoinRequest { feed, cursor } = join?;
        self.join_feed(&feed, cursor).await.map_err(|problem| problem.with_feed(feed.as_str()))
    }

    async fn join_feed(&mut self, feed: &FeedId, cursor: Option<Cursor>) -> Result<PreparedJoin, Problem> {
        self.access.check(feed, Right::View)?;
        let limit = self.context.limits.feeds_per_connection;
        // Paused, not dropped: a join that fails must leave the subscription as it was.
        let existing = self.remove_subscription(feed).inspect(Subscription::pause);
        if existing.is_none() && self.subscriptions.len() >= limit {
            let detail = format!("a connection may be in at most {limit} feeds");
            return Err(Problem::new(ProblemKind::TooManyFeeds, detail));
        }
        // Before the log is read, see the invariants of the hub.
        let watch = self.context.hub.watch(feed);
        match (self.build_response(feed.clone(), cursor).await, existing) {
            (Ok(response), Some(existing)) if !response.recovered => {
                Ok(PreparedJoin { response, source: DeliverySource::Existing(existing) })
            }
            (Ok(response), _) => Ok(PreparedJoin { response, source: DeliverySource::New(watch) }),
            (Err(problem), existing) => {
                self.subscriptions.extend(existing.inspect(Subscription::resume));
                Err(problem)
            }
        }
    }

    async fn build_response(
        &mut self,
        feed: FeedId,
        cursor: Option<Cursor>,
    ) -> Result<JoinResponse, Problem> {
        let log = self.context.hub.log();
        let Some(mut cursor) = cursor else {
            let end = log.read_end(&feed).await?;
            return Ok(JoinResponse::without_recovery(feed, end));
        };
        match log.read_after(&feed, cursor, MAX_JOIN_EVENTS).await? {
            ReadResult::Lost(end) => Ok(JoinResponse::without_recovery(feed, end)),
            ReadResult::Entries(entries) => {
                let mut events = Vec::new();
                let SocketSubscriber { event_encoder, base, .. } = &*self.subscriber;
                let mut encoder = event_encoder.lock(base, Timestamp::now());
                for entry in entries {
                    let encoded = encoder.encode(&entry);
                    let Some(left) = self.join_event_bytes.checked_sub(encoded.data.get().len()) else {
                        break;
                    };
                    self.join_event_bytes = left;
                    cursor = entry.cursor;
                    events.push(encoded.into());
                }
                Ok(JoinResponse { feed, recovered: true, cursor, events })
            }
        }
    }

    async fn reply_to_join(&mut self, reply: &Reply, result: Result<PreparedJoin, Problem>) {
        match result {
            Ok(join) => {
                if self.send_reply(reply, &join.response).await.is_ok() {
                    self.start_delivery(join);
                }
            }
            Err(problem) => self.send_problem(reply, problem).await,
        }
    }

    /// Responds to a join without a callback: one of the handshake, or of an old client.
    async fn emit_joined(&mut self, result: Result<PreparedJoin, Problem>) {
        match result {
            Ok(join) => {
                if self.emit("joined", &join.response).await.is_ok() {
                    self.start_delivery(join);
                }
            }
            Err(problem) => self.emit_problem(&problem).await,
        }
    }

    fn start_delivery(&mut self, PreparedJoin { response, source }: PreparedJoin) {
        let subscription = match source {
            DeliverySource::New(watch) => watch.subscribe(response.cursor, self.subscriber.clone()),
            DeliverySource::Existing(subscription) => {
                subscription.resume();
                subscription
            }
        };
        self.subscriptions.push(subscription);
    }

    fn remove_subscription(&mut self, feed: &FeedId) -> Option<Subscription> {
        let index = self.subscriptions.iter().position(|subscription| subscription.feed() == feed)?;
        Some(self.subscriptions.swap_remove(index))
    }

    async fn authenticate(
        &mut self,
        token: Result<SecretString, Problem>,
    ) -> Result<serde_json::Value, Problem> {
        let token = token?;
        self.access = self.context.authenticator.authenticate(Some(token.expose_secret())).await?;
        self.expiry_timer = spawn_expiry_timer(&self.queue, &self.access);
        // Unsubscribe from all of them before the first `left` is sent: sending waits for a slow client.
        let access = &self.access;
        let no_longer_allowed =
            self.subscriptions.extract_if(.., |joined| access.check(joined.feed(), Right::View).is_err());
        for feed in no_longer_allowed.map(|left| left.feed().clone()).collect::<Vec<_>>() {
            let left = json!({ "feed": feed, "reason": "the new token has no right 'view' on this feed" });
            let _ = self.emit("left", &left).await;
        }
        Ok(self.access.expires_at.map_or_else(|| json!({}), |end| json!({ "expiresAt": end })))
    }

    /// Disconnects a client whose token has expired. By a Socket.IO disconnect, after which official clients
    /// do not reconnect: with the same token they would be refused.
    fn disconnect_expired(&mut self) {
        self.subscriptions.clear();
        let socket = self.subscriber.socket.clone();
        if socket.clone().disconnect().is_err() {
            transport::abort(&socket);
        } else {
            transport::abort_after(socket, CLOSE_DELAY);
        }
    }

    async fn send_result<T: Serialize>(&self, reply: &Reply, result: Result<T, Problem>) {
        match result {
            Ok(response) => {
                let _ = self.send_reply(reply, &response).await;
            }
            Err(problem) => self.send_problem(reply, problem).await,
        }
    }

    async fn send_problem(&self, reply: &Reply, problem: Problem) {
        if reply.has_callback() {
            problem.log_cause();
            // The callback belongs to one feed, and clients may recognize a successful join by its `feed`.
            let _ = self.send_reply(reply, &problem.without_feed()).await;
        } else {
            self.emit_problem(&problem).await;
        }
    }

    async fn emit_problem(&self, problem: &Problem) {
        problem.log_cause();
        let _ = self.emit("problem", problem).await;
    }

    /// Replies by the request's callback, and waits for room in the packet queue.
    async fn send_reply<T: Serialize>(&self, reply: &Reply, response: &T) -> Result<(), DeliveryError> {
        let encoded = encode_json(response)?;
        let send = || {
            let Some(sender) = reply.ack_sender() else { return Ok(()) };
            self.subscriber.try_reserve(encoded.get().len())?;
            sender.send(&*encoded).map_err(|error| delivery_error(&error))
        };
        self.retry_while_full(send).await
    }

    /// Emits an event, and waits for room in the packet queue.
    async fn emit<T: Serialize>(&self, event: &str, data: &T) -> Result<(), DeliveryError> {
        let encoded = encode_json(data)?;
        self.retry_while_full(|| self.subscriber.emit(event, &encoded)).await
    }

    async fn retry_while_full(
        &self,
        mut send: impl FnMut() -> Result<(), DeliveryError>,
    ) -> Result<(), DeliveryError> {
        let deadline = tokio::time::Instant::now() + self.context.limits.stall_timeout;
        loop {
            match send() {
                Err(DeliveryError::Full) if tokio::time::Instant::now() >= deadline => {
                    transport::abort(&self.subscriber.socket);
                    return Err(DeliveryError::Disconnected);
                }
                Err(DeliveryError::Full) => sleep(SEND_RETRY_DELAY).await,
                result => return result,
            }
        }
    }
}

/// Queues a request shortly before the token of `access` expires, and another one when it has expired.
fn spawn_expiry_timer(queue: &Weak<dyn UrgentQueue>, access: &Access) -> Option<AbortOnDropHandle<()>> {
    let end = access.expires_at?;
    let queue = queue.clone();
    let push = move |request| {
        if let Some(queue) = queue.upgrade() {
            queue.push_urgent(request);
        }
    };
    let timer = async move {
        sleep_until(end.checked_sub(EXPIRY_WARNING)).await;
        push(Request::TokenExpiring(end));
        sleep_until(end.checked_add(LEEWAY)).await;
        push(Request::TokenExpired(end));
    };
    Some(AbortOnDropHandle::new(tokio::spawn(timer)))
}

/// Sleeps until `time`; indefinitely if it is out of range.
async fn sleep_until(time: Result<Timestamp, jiff::Error>) {
    let Ok(time) = time else { return pending().await };
    let wait = Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default();
    sleep(wait).await;
}
