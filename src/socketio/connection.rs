//! One connection: deals with its requests, one at a time.

use std::{future::pending, sync::Arc, time::Duration};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Context, SocketRef,
    adapter::Direct,
    mailbox::Mailbox,
    outgoing::{Outgoing, encoded, refused},
    request::{Join, Letter, Reply, Request},
    transport,
};
use crate::{
    auth::{Access, LEEWAY, Right},
    bucket::Base,
    feed::{Cursor, FeedId},
    hub::{Refused, Subscription, Watching},
    limit::{JoinRate, Place},
    log::Read,
    wire::{JOIN_EVENTS, JoinAnswer, Problem, ProblemKind},
};

/// A full queue is tried again after this.
const RETRY: Duration = Duration::from_millis(10);
/// What the events in one connection's join answers may have in bytes, all together. An answer is one
/// packet, whatever it holds, so a queue of them would have no other limit; events that are told one by
/// one have.
const ANSWERED: usize = 1024 * 1024;
/// How long before the token's end the client is told.
const WARNING: Duration = Duration::from_mins(1);

/// What a connection begins with.
pub(super) struct Admitted {
    pub(super) context: Arc<Context>,
    pub(super) direct: Direct,
    pub(super) base: Base,
    pub(super) access: Access,
    pub(super) place: Place,
}

/// One connection. Owns its place among the connections and in every feed.
pub(super) struct Connection {
    context: Arc<Context>,
    outgoing: Arc<Outgoing>,
    access: Access,
    /// Tells when the token of `access` ends.
    expiry: Option<AbortOnDropHandle<()>>,
    joined: Vec<Subscription>,
    join_rate: JoinRate,
    /// What is left of [`ANSWERED`].
    answerable: usize,
    _place: Place,
}

/// An answer that was put together, and where the feed goes on once it has been sent.
struct Joined {
    answer: JoinAnswer,
    place: FeedPlace,
}

enum FeedPlace {
    /// From the answer's position on.
    New(Watching),
    /// From where it was: what had not been told yet is still to come.
    Kept(Subscription),
}

impl Connection {
    pub(super) fn new(
        socket: SocketRef,
        Admitted { context, direct, base, access, place }: Admitted,
    ) -> Self {
        Self {
            expiry: watch_token(&socket, &access),
            join_rate: context.limiter.joins(),
            outgoing: Arc::new(Outgoing::new(socket, context.showcase.clone(), base, direct)),
            context,
            access,
            joined: Vec::new(),
            answerable: ANSWERED,
            _place: place,
        }
    }

    async fn join_all(&mut self, feeds: Vec<Result<Join, Problem>>) {
        let free = self.context.limits.feeds_per_connection;
        for (number, join) in feeds.into_iter().enumerate() {
            // As many as a connection may be in come at once with every reconnect; more count as they
            // would later.
            let answer = if number < free { self.join(join).await } else { self.counted_join(join).await };
            self.joined_unasked(answer).await;
        }
    }

    async fn counted_join(&mut self, join: Result<Join, Problem>) -> Result<Joined, Problem> {
        match (self.join_rate.join(), join) {
            (Ok(()), join) => self.join(join).await,
            (Err(too_many), Ok(join)) => Err(Problem::from(too_many).about(join.feed.as_str())),
            (Err(too_many), Err(_)) => Err(too_many.into()),
        }
    }

    pub(super) async fn deal_with(&mut self, Letter { request, reply }: Letter) {
        match request {
            Request::Handshake(feeds) => self.join_all(feeds).await,
            Request::Join(join) => {
                let answer = self.counted_join(join).await;
                if reply.is_awaited() {
                    self.answer_join(&reply, answer).await;
                } else {
                    self.joined_unasked(answer).await;
                }
            }
            Request::Leave(feed) => {
                let answer = feed.map(|feed| {
                    self.leave(&feed);
                    json!({ "feed": feed })
                });
                self.answer(&reply, answer).await;
            }
            Request::Authenticate(token) => {
                let answer = self.authenticate(token).await;
                self.answer(&reply, answer).await;
            }
            Request::UploadNotification(feed) => self.answer(&reply, feed.map(|_| json!({}))).await,
            Request::Unknown(event) => {
                let problem =
                    Problem::new(ProblemKind::UnknownEvent, format!("the server knows no event {event:?}"));
                self.answer(&reply, Err::<(), _>(problem)).await;
            }
            // Another token may have come before the word of the old one's end was read.
            Request::TokenExpires(end) if self.access.expires_at == Some(end) => {
                let _ = self.emit("tokenExpiring", &json!({ "expiresAt": end })).await;
            }
            Request::TokenExpired(end) if self.access.expires_at == Some(end) => self.end(),
            Request::TokenExpires(_) | Request::TokenExpired(_) => {}
        }
    }

    /// Puts the answer to a join together. Nothing of the feed is told until it has been sent.
    async fn join(&mut self, join: Result<Join, Problem>) -> Result<Joined, Problem> {
        let Join { feed, cursor } = join?;
        self.join_feed(&feed, cursor).await.map_err(|problem| problem.about(feed.as_str()))
    }

    async fn join_feed(&mut self, feed: &FeedId, cursor: Option<Cursor>) -> Result<Joined, Problem> {
        self.access.check(feed, Right::View)?;
        let limit = self.context.limits.feeds_per_connection;
        // A join that fails leaves everything as it was.
        let before = self.leave(feed).inspect(Subscription::pause);
        if before.is_none() && self.joined.len() >= limit {
            let detail = format!("a connection may be in at most {limit} feeds");
            return Err(Problem::new(ProblemKind::TooManyFeeds, detail));
        }
        let watching = self.context.hub.watch(feed);
        match (self.recover(feed.clone(), cursor).await, before) {
            (Ok(answer), Some(before)) if !answer.recovered => {
                Ok(Joined { answer, place: FeedPlace::Kept(before) })
            }
            (Ok(answer), _) => Ok(Joined { answer, place: FeedPlace::New(watching) }),
            (Err(problem), before) => {
                self.joined.extend(before.inspect(Subscription::resume));
                Err(problem)
            }
        }
    }

    async fn recover(&mut self, feed: FeedId, cursor: Option<Cursor>) -> Result<JoinAnswer, Problem> {
        let log = self.context.hub.log();
        let Some(mut cursor) = cursor else {
            let end = log.end(&feed).await?;
            return Ok(JoinAnswer::anew(feed, end));
        };
        match log.read_after(&feed, cursor, JOIN_EVENTS).await? {
            Read::Lost(end) => Ok(JoinAnswer::anew(feed, end)),
            Read::Entries(entries) => {
                let mut events = Vec::new();
                let Outgoing { showcase, base, .. } = &*self.outgoing;
                let mut showing = showcase.open(base, Timestamp::now());
                for entry in entries {
                    let shown = showing.show(&entry);
                    let Some(left) = self.answerable.checked_sub(shown.data.get().len()) else { break };
                    self.answerable = left;
                    cursor = entry.cursor;
                    events.push(shown.into());
                }
                Ok(JoinAnswer { feed, recovered: true, cursor, events })
            }
        }
    }

    async fn answer_join(&mut self, reply: &Reply, answer: Result<Joined, Problem>) {
        match answer {
            Ok(joined) => {
                if self.reply(reply, &joined.answer).await.is_ok() {
                    self.go_live(joined);
                }
            }
            Err(problem) => self.answer(reply, Err::<(), _>(problem)).await,
        }
    }

    /// Answers a join that nobody waits for: of the handshake, or without a callback.
    async fn joined_unasked(&mut self, answer: Result<Joined, Problem>) {
        match answer {
            Ok(joined) => {
                if self.emit("joined", &joined.answer).await.is_ok() {
                    self.go_live(joined);
                }
            }
            Err(problem) => self.say(&problem).await,
        }
    }

    fn go_live(&mut self, Joined { answer, place }: Joined) {
        let subscription = match place {
            FeedPlace::New(watching) => watching.subscribe(answer.cursor, self.outgoing.clone()),
            FeedPlace::Kept(subscription) => {
                subscription.resume();
                subscription
            }
        };
        self.joined.push(subscription);
    }

    fn leave(&mut self, feed: &FeedId) -> Option<Subscription> {
        let at = self.joined.iter().position(|joined| joined.feed() == feed)?;
        Some(self.joined.swap_remove(at))
    }

    async fn authenticate(
        &mut self,
        token: Result<SecretString, Problem>,
    ) -> Result<serde_json::Value, Problem> {
        let token = token?;
        self.access = self.context.gate.admit(Some(token.expose_secret())).await?;
        self.expiry = watch_token(&self.outgoing.socket, &self.access);
        // All of them before anything is said: the client may be slow to hear it.
        let access = &self.access;
        let lost = self.joined.extract_if(.., |joined| access.check(joined.feed(), Right::View).is_err());
        for feed in lost.map(|joined| joined.feed().clone()).collect::<Vec<_>>() {
            let left = json!({ "feed": feed, "reason": "the new token has no right 'view' on this feed" });
            let _ = self.emit("left", &left).await;
        }
        Ok(self.access.expires_at.map_or_else(|| json!({}), |end| json!({ "expiresAt": end })))
    }

    /// Ends what the token no longer covers, by a Socket.IO disconnect: coming back with the same
    /// token would help nobody.
    fn end(&mut self) {
        self.joined.clear();
        let socket = self.outgoing.socket.clone();
        if let Some(mailbox) = Mailbox::of(&socket) {
            mailbox.end();
        }
        if socket.clone().disconnect().is_err() {
            transport::cut(&socket);
        } else {
            transport::cut_after(socket, super::FAREWELL);
        }
    }

    async fn answer<T: Serialize>(&self, reply: &Reply, answer: Result<T, Problem>) {
        let _ = match answer {
            Ok(answer) => self.reply(reply, &answer).await,
            // Who waits knows which feed it is about, and may tell answers to a join by their feed.
            Err(problem) if reply.is_awaited() => self.reply(reply, &Problem { feed: None, ..problem }).await,
            Err(problem) => return self.say(&problem).await,
        };
    }

    async fn say(&self, problem: &Problem) {
        let _ = self.emit("problem", problem).await;
    }

    /// Sends by the request's callback, waiting for room.
    async fn reply<T: Serialize>(&self, reply: &Reply, answer: &T) -> Result<(), Refused> {
        let encoded = encoded(answer)?;
        let send = || {
            let Some(sender) = reply.sender() else { return Ok(()) };
            self.outgoing.may_send(encoded.get().len())?;
            sender.send(&*encoded).map_err(|error| refused(&error))
        };
        self.when_there_is_room(send).await
    }

    /// Sends an event, waiting for room.
    async fn emit<T: Serialize>(&self, event: &str, data: &T) -> Result<(), Refused> {
        let encoded = encoded(data)?;
        self.when_there_is_room(|| self.outgoing.emit(event, &encoded)).await
    }

    async fn when_there_is_room(&self, mut send: impl FnMut() -> Result<(), Refused>) -> Result<(), Refused> {
        let give_up = tokio::time::Instant::now() + self.context.limits.patience;
        loop {
            match send() {
                Err(Refused::Full) if tokio::time::Instant::now() >= give_up => {
                    transport::cut(&self.outgoing.socket);
                    return Err(Refused::Gone);
                }
                Err(Refused::Full) => sleep(RETRY).await,
                done => return done,
            }
        }
    }
}

/// Has the connection told when its token is about to end, and when it has.
fn watch_token(socket: &SocketRef, access: &Access) -> Option<AbortOnDropHandle<()>> {
    let end = access.expires_at?;
    let socket = socket.clone();
    let put = move |request| {
        if let Some(mailbox) = Mailbox::of(&socket) {
            mailbox.put_first(Letter::unasked(request));
        }
    };
    let watch = async move {
        until(end.checked_sub(WARNING)).await;
        put(Request::TokenExpires(end));
        until(end.checked_add(LEEWAY)).await;
        put(Request::TokenExpired(end));
    };
    Some(AbortOnDropHandle::new(tokio::spawn(watch)))
}

/// Waits for a moment; for ever, where it is beyond all time.
async fn until(moment: Result<Timestamp, jiff::Error>) {
    let Ok(moment) = moment else { return pending().await };
    let wait = Duration::try_from(moment.duration_since(Timestamp::now())).unwrap_or_default();
    sleep(wait).await;
}
