//! Counts what a polling session has sent and its polls may not have carried yet.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::Notify;

use super::context::{PACKET_QUEUE_CAPACITY, POLL_PAYLOAD_BYTES};

/// An upgrade may start while this many bytes are undrained: the next poll carries all of them, and the
/// packet queue is at most half full.
const MAX_UNDRAINED_BYTES: usize = POLL_PAYLOAD_BYTES / 2;

/// Tracks one polling session.
#[derive(Debug, Default)]
pub(super) struct PollTracker {
    /// Bytes sent since a poll last found the queue empty.
    undrained_bytes: AtomicUsize,
    /// WebSocket requests that wait to take over the session.
    waiting_websockets: AtomicUsize,
    drained: Notify,
}

impl PollTracker {
    /// Reserves `bytes` for a packet that is about to be sent. False while a WebSocket request waits.
    pub(super) fn try_reserve(&self, bytes: usize) -> bool {
        let may_send = self.waiting_websockets.load(Relaxed) == 0;
        if may_send {
            // A small packet counts as its share of the queue, so that one sum limits bytes and packets.
            let queue_share = POLL_PAYLOAD_BYTES / PACKET_QUEUE_CAPACITY;
            self.undrained_bytes.fetch_add(bytes.max(queue_share), Relaxed);
        }
        may_send
    }

    /// Records that a poll found the queue empty.
    pub(super) fn on_empty_poll(&self) {
        self.undrained_bytes.store(0, Relaxed);
        self.drained.notify_waiters();
    }

    /// Waits until the next poll can carry everything that was sent.
    pub(super) async fn wait_until_drained(&self) {
        loop {
            let drained = self.drained.notified();
            if self.undrained_bytes.load(Relaxed) <= MAX_UNDRAINED_BYTES {
                return;
            }
            drained.await;
        }
    }

    /// Refuses packets from now on.
    pub(super) fn add_waiting_websocket(&self) {
        self.waiting_websockets.fetch_add(1, Relaxed);
    }

    /// Accepts packets again, if no other WebSocket request waits.
    pub(super) fn remove_waiting_websocket(&self) {
        self.waiting_websockets.fetch_sub(1, Relaxed);
    }
}
