//! The way of a session from polling to a WebSocket.
//!
//! A poll carries so much and no more. What one had in hand and left over engineioxide forgets when a
//! WebSocket takes the session over; and while the session's queue is full, none can. So a WebSocket waits
//! until a poll found nothing to carry, and from its coming until it has the session nothing is sent. Where
//! all that was sent since a poll last found nothing fits in one, there is nothing to wait for.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use socketioxide::socket::Sid;
use tokio::{sync::Notify, time::timeout};

use super::{POLL_BODY, QUEUE, transport::Sessions};

/// A WebSocket waits so long at most. Then the session stays with its polls.
const WAIT: Duration = Duration::from_secs(10);

/// What is left over by no poll and leaves room in the queue, as [`Polls::may_carry`] counts.
const LITTLE: usize = POLL_BODY / 2;

/// What is known of a session that polls.
#[derive(Debug, Default)]
pub(super) struct Polls {
    /// What was sent since a poll last found nothing, in bytes.
    on_its_way: AtomicUsize,
    /// WebSockets that wait to take the session over.
    waiting: AtomicUsize,
    nothing_left: Notify,
}

impl Polls {
    /// Notes that a packet of so many bytes is about to be sent. False if that has to wait for a WebSocket.
    pub(super) fn may_carry(&self, bytes: usize) -> bool {
        let may = self.waiting.load(Relaxed) == 0;
        if may {
            // At least its place in the queue.
            self.on_its_way.fetch_add(bytes.max(POLL_BODY / QUEUE), Relaxed);
        }
        may
    }

    fn found_nothing(&self) {
        self.on_its_way.store(0, Relaxed);
        self.nothing_left.notify_waiters();
    }

    async fn until_nothing_is_left(&self) {
        loop {
            let next = self.nothing_left.notified();
            if self.on_its_way.load(Relaxed) <= LITTLE {
                return;
            }
            next.await;
        }
    }
}

/// The answer to a poll of `session`, which waits while there is nothing to carry.
pub(super) async fn watched<T>(sessions: Sessions, session: Sid, poll: impl Future<Output = T>) -> T {
    let mut poll = pin!(poll);
    std::future::poll_fn(move |context| {
        let polled = poll.as_mut().poll(context);
        if let (Poll::Pending, Some(polls)) = (&polled, sessions.polls(session)) {
            polls.found_nothing();
        }
        polled
    })
    .await
}

/// Has a WebSocket wait until nothing of `session` is on its way, and holds back what comes from now until the
/// answer is dropped. None if it waited in vain.
pub(super) async fn wait_for(sessions: &Sessions, session: Sid) -> Option<impl Drop + use<>> {
    let waiting = Waiting::new(sessions.polls(session));
    if let Some(polls) = &waiting.0 {
        timeout(WAIT, polls.until_nothing_is_left()).await.ok()?;
    }
    Some(waiting)
}

struct Waiting(Option<Arc<Polls>>);

impl Waiting {
    fn new(polls: Option<Arc<Polls>>) -> Self {
        if let Some(polls) = &polls {
            polls.waiting.fetch_add(1, Relaxed);
        }
        Self(polls)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(polls) = &self.0 {
            polls.waiting.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt;

    use super::*;

    fn polling() -> (Sessions, Sid, Arc<Polls>) {
        let (sessions, sid) = (Sessions::default(), Sid::new());
        let polls = sessions.begin_polls(sid);
        (sessions, sid, polls)
    }

    #[tokio::test(start_paused = true)]
    async fn a_websocket_waits_until_a_poll_found_nothing() {
        let (sessions, sid, polls) = polling();
        assert!(polls.may_carry(POLL_BODY));
        let mut wait = pin!(wait_for(&sessions, sid));
        assert!(wait.as_mut().now_or_never().is_none());
        assert!(!polls.may_carry(POLL_BODY), "what comes now has to wait, too");
        watched(sessions.clone(), sid, ready(())).now_or_never().expect("it carries something");
        assert!(wait.as_mut().now_or_never().is_none());
        assert!(watched(sessions.clone(), sid, pending::<()>()).now_or_never().is_none());
        let held = wait.now_or_never().flatten().expect("nothing is on its way");
        assert!(!polls.may_carry(POLL_BODY));
        drop(held);
        assert!(polls.may_carry(POLL_BODY));
    }

    #[tokio::test(start_paused = true)]
    async fn a_websocket_does_not_wait_where_one_poll_carries_all() {
        let (sessions, sid, polls) = polling();
        for _ in 0..QUEUE / 2 {
            assert!(wait_for(&sessions, sid).now_or_never().flatten().is_some());
            assert!(polls.may_carry(100));
        }
        assert!(wait_for(&sessions, sid).now_or_never().flatten().is_some());
        assert!(polls.may_carry(100));
        assert!(wait_for(&sessions, sid).now_or_never().is_none(), "more than half of the queue");
        assert!(wait_for(&sessions, Sid::new()).now_or_never().flatten().is_some(), "an unknown session");
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_stays_with_its_polls_when_a_websocket_waited_in_vain() {
        let (sessions, sid, polls) = polling();
        assert!(polls.may_carry(POLL_BODY));
        assert!(wait_for(&sessions, sid).await.is_none());
        assert!(polls.may_carry(POLL_BODY));
    }

    #[tokio::test(start_paused = true)]
    async fn a_websocket_that_gives_up_holds_nothing_back() {
        let (sessions, sid, polls) = polling();
        assert!(polls.may_carry(POLL_BODY));
        assert!(wait_for(&sessions, sid).now_or_never().is_none());
        assert!(polls.may_carry(POLL_BODY));
    }
}
