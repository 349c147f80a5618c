//! Upgrade of a session from polling to WebSocket, without losing packets.
//!
//! ```text
//! client                                   server
//! GET  polling               ────────────► session opens
//!      ◄──────────────────── open packet with the session id
//! POST polling "40{…}"       ────────────► namespace connects, events are sent, `PollTracker` counts them
//! GET  polling               ────────────►
//! GET  websocket, same sid   ────────────► held back; packets are refused as `Full` from here on
//!      ◄──────────────────── poll response with what was queued
//! GET  polling               ────────────► finds the queue empty and stays pending: drained
//!      ◄──────────────────── 101 Switching Protocols
//! WS   "2probe"              ────────────►
//!      ◄──────────────────── WS "3probe", poll response "6" (noop)
//! WS   "5" (upgrade)         ────────────► the transport is WebSocket; packets are accepted again
//! ```
//!
//! The WebSocket request is held back because of two limits of engineioxide. A poll response carries a
//! limited number of bytes: what a poll has taken from the queue beyond that is dropped when a WebSocket
//! takes over. And while the queue is full, the noop packet that releases the pending poll does not fit: the
//! upgrade stalls for 10 s and ends the session. If everything that was sent since the last empty poll fits
//! in one poll response, neither can happen, and the request is not held back.

use std::{pin::pin, sync::Arc, task::Poll, time::Duration};

use socketioxide::socket::Sid;
use tokio::time::timeout;

use super::{poll_tracker::PollTracker, sessions::Sessions};

/// Time for which a WebSocket request is held back at most. Then it is refused, and the session keeps
/// polling.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs a poll of `session`, and records when it finds the queue empty: it is pending then.
pub(super) async fn track_poll<T>(sessions: Sessions, session: Sid, poll: impl Future<Output = T>) -> T {
    let mut poll = pin!(poll);
    std::future::poll_fn(move |context| {
        let polled = poll.as_mut().poll(context);
        if let (Poll::Pending, Some(tracker)) = (&polled, sessions.poll_tracker(session)) {
            tracker.on_empty_poll();
        }
        polled
    })
    .await
}

/// Waits until the polls of `session` have carried everything, and refuses packets until the returned guard
/// is dropped. `None` after the drain timeout.
pub(super) async fn hold_until_drained(sessions: &Sessions, session: Sid) -> Option<impl Drop + use<>> {
    let guard = UpgradeGuard::new(sessions.poll_tracker(session));
    if let Some(tracker) = &guard.0 {
        timeout(DRAIN_TIMEOUT, tracker.wait_until_drained()).await.ok()?;
    }
    Some(guard)
}

struct UpgradeGuard(Option<Arc<PollTracker>>);

impl UpgradeGuard {
    fn new(tracker: Option<Arc<PollTracker>>) -> Self {
        if let Some(tracker) = &tracker {
            tracker.add_waiting_websocket();
        }
        Self(tracker)
    }
}

impl Drop for UpgradeGuard {
    fn drop(&mut self) {
        if let Some(tracker) = &self.0 {
            tracker.remove_waiting_websocket();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt;

    use super::{
        super::context::{PACKET_QUEUE_CAPACITY, POLL_PAYLOAD_BYTES},
        *,
    };

    fn polling_session() -> (Sessions, Sid, Arc<PollTracker>) {
        let (sessions, sid) = (Sessions::default(), Sid::new());
        let tracker = sessions.start_poll_tracker(sid);
        (sessions, sid, tracker)
    }

    #[tokio::test(start_paused = true)]
    async fn a_websocket_waits_until_a_poll_finds_the_queue_empty() {
        let (sessions, sid, tracker) = polling_session();
        assert!(tracker.try_reserve(POLL_PAYLOAD_BYTES));
        let mut wait = pin!(hold_until_drained(&sessions, sid));
        assert!(wait.as_mut().now_or_never().is_none());
        assert!(!tracker.try_reserve(POLL_PAYLOAD_BYTES), "packets are refused during the wait");
        track_poll(sessions.clone(), sid, ready(())).now_or_never().expect("the poll carries packets");
        assert!(wait.as_mut().now_or_never().is_none());
        assert!(track_poll(sessions.clone(), sid, pending::<()>()).now_or_never().is_none());
        let guard = wait.now_or_never().flatten().expect("the queue is drained");
        assert!(!tracker.try_reserve(POLL_PAYLOAD_BYTES));
        drop(guard);
        assert!(tracker.try_reserve(POLL_PAYLOAD_BYTES));
    }

    #[tokio::test(start_paused = true)]
    async fn a_websocket_does_not_wait_if_one_poll_carries_everything() {
        let (sessions, sid, tracker) = polling_session();
        for _ in 0..PACKET_QUEUE_CAPACITY / 2 {
            assert!(hold_until_drained(&sessions, sid).now_or_never().flatten().is_some());
            assert!(tracker.try_reserve(100));
        }
        assert!(hold_until_drained(&sessions, sid).now_or_never().flatten().is_some());
        assert!(tracker.try_reserve(100));
        let more_than_half_full = hold_until_drained(&sessions, sid).now_or_never();
        assert!(more_than_half_full.is_none());
        let unknown_session = hold_until_drained(&sessions, Sid::new()).now_or_never();
        assert!(unknown_session.flatten().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_keeps_polling_after_the_drain_timeout() {
        let (sessions, sid, tracker) = polling_session();
        assert!(tracker.try_reserve(POLL_PAYLOAD_BYTES));
        assert!(hold_until_drained(&sessions, sid).await.is_none());
        assert!(tracker.try_reserve(POLL_PAYLOAD_BYTES));
    }

    #[tokio::test(start_paused = true)]
    async fn a_websocket_that_gives_up_no_longer_holds_packets_back() {
        let (sessions, sid, tracker) = polling_session();
        assert!(tracker.try_reserve(POLL_PAYLOAD_BYTES));
        assert!(hold_until_drained(&sessions, sid).now_or_never().is_none());
        assert!(tracker.try_reserve(POLL_PAYLOAD_BYTES));
    }
}
