//! Receives messages from a queue, has a [`Handler`] process them, and deletes those that are done.
//!
//! ```text
//!           ┌─────────── receive loop (1 to `max_loops`) ◀──────────────────┐
//!           ▼                                                               │
//! queue ─ receive ─▶ batch of up to 10, all in flight at the same time:     │
//!                      handler.handle(message)                              │
//!                      heartbeat: extends the visibility timeout            │
//!                        │                                                  │
//!                        ├─ Delete ────▶ deleted, gathered for 100 ms       │
//!                        ├─ Redeliver ─▶ left until its visibility times out│
//!                        └─ Retry ─────▶ visible again after 5 s to 15 min  │
//!                                        all finished ──────────────────────┘
//! ```
//!
//! - **In flight** is bounded: a loop receives again only when each message of its batch is finished,
//!   so at most `max_loops` × 10 messages are handled at a time.
//! - **A loop is added** when a receive returns a full batch (the queue holds more), and when a batch
//!   takes longer than a second while no loop is receiving. So one slow message delays no other.
//! - **A loop is dropped** when a receive returns nothing or fails, or when the handler is not ready.
//!   The primary loop is never dropped: it backs off, and detects when the failure is over.
//! - **A handler that is not ready** pauses receiving. Each receive counts towards the queue's
//!   `maxReceiveCount`, and an outage must not move messages to the dead-letter queue.
//! - **On shutdown** nothing more is received. Messages in flight get the drain timeout; those that are
//!   not finished then are released, which makes them visible to other consumers at once.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{ConsumerHealth, Disposition, MAX_BATCH_SIZE, Message, Queue, QueueError, backoff::Backoff};

/// An empty receive that returns sooner than this did not long-poll. Polling such a queue without a
/// pause would be a hot loop.
const MIN_LONG_POLL: Duration = Duration::from_secs(1);
/// A batch that is in flight for longer than this must not keep other messages waiting.
const SLOW_BATCH: Duration = Duration::from_secs(1);

/// Processes messages.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Processes a message and decides what happens to it. Delivery is at least once: the same message
    /// may be passed again.
    async fn handle(&self, message: &Message) -> Disposition;

    /// Whether the services that `handle` depends on are available.
    ///
    /// Called after a [`Disposition::Retry`], which may have been one message's own failure. While it
    /// returns `false` nothing is received, since each receive brings a message closer to the
    /// dead-letter queue.
    async fn is_ready(&self) -> bool;
}

/// Limits of a consumer.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerConfig {
    /// The maximum number of receive loops.
    pub max_loops: usize,
    /// How long messages in flight may still take after shutdown was requested.
    pub drain_timeout: Duration,
}

/// Receives messages, passes them to a [`Handler`], and deletes or reschedules them.
#[derive(Clone)]
pub struct Consumer {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) config: ConsumerConfig,
    health: Arc<ConsumerHealth>,
    /// Loops that are waiting for a receive right now.
    receiving_loops: Arc<AtomicUsize>,
}

/// The result of one receive and of handling its messages.
enum PollOutcome {
    Received,
    Empty,
    /// Empty, and returned without a long poll.
    EmptyTooSoon,
    HandlerNotReady,
}

impl Consumer {
    /// Creates a consumer of `queue`.
    #[must_use]
    pub fn new(queue: Arc<dyn Queue>, handler: Arc<dyn Handler>, config: ConsumerConfig) -> Self {
        Self { queue, handler, config, health: Arc::default(), receiving_loops: Arc::default() }
    }

    /// The health of this consumer, for readiness checks.
    #[must_use]
    pub fn health(&self) -> Arc<ConsumerHealth> {
        self.health.clone()
    }

    /// Runs until `stop` is cancelled, then finishes or releases the messages in flight.
    ///
    /// # Panics
    /// Resumes a panic of the handler.
    pub async fn run(self, stop: CancellationToken) {
        // One slot: requests made at the same moment add one loop. If that is not enough, the next full
        // or slow batch adds another.
        let (scale_up_tx, mut scale_up_rx) = mpsc::channel::<()>(1);
        let mut loops = JoinSet::new();
        loops.spawn(self.clone().run_primary_loop(scale_up_tx.clone(), stop.clone()));
        loop {
            tokio::select! {
                // `stop` comes first, so that no loop is added during shutdown.
                biased;
                () = stop.cancelled() => break,
                Some(joined) = loops.join_next() => propagate_panic(joined),
                Some(()) = scale_up_rx.recv() => {
                    if loops.len() < self.config.max_loops && !self.health.is_paused() {
                        debug!(loops = loops.len() + 1, "adding a receive loop");
                        loops.spawn(self.clone().run_extra_loop(scale_up_tx.clone(), stop.clone()));
                    }
                }
            }
        }
        while let Some(joined) = loops.join_next().await {
            propagate_panic(joined);
        }
    }

    /// Receives until shutdown, through every failure.
    async fn run_primary_loop(self, scale_up: mpsc::Sender<()>, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        while !stop.is_cancelled() {
            if self.health.is_paused() {
                self.wait_until_ready(&mut backoff, &stop).await;
                continue;
            }
            match self.poll_once(&scale_up, &stop).await {
                Ok(PollOutcome::Received | PollOutcome::Empty) => backoff.reset(),
                Ok(PollOutcome::EmptyTooSoon) => _ = sleep_backoff(&mut backoff, &stop).await,
                Ok(PollOutcome::HandlerNotReady) => {}
                Err(error) => {
                    self.health.record_failure();
                    metrics::counter!("photoshare_queue_errors_total").increment(1);
                    warn!(error = &error as &dyn std::error::Error, "failed to receive messages");
                    _ = sleep_backoff(&mut backoff, &stop).await;
                }
            }
        }
    }

    /// Receives while the queue has messages. Ends at the first failure: the primary loop alone retries,
    /// so that an outage is not multiplied by the number of loops.
    async fn run_extra_loop(self, scale_up: mpsc::Sender<()>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.poll_once(&scale_up, &stop).await {
                Ok(PollOutcome::Received) => {}
                Ok(PollOutcome::Empty | PollOutcome::EmptyTooSoon | PollOutcome::HandlerNotReady) => return,
                Err(error) => {
                    metrics::counter!("photoshare_queue_errors_total").increment(1);
                    debug!(error = &error as &dyn std::error::Error, "failed to receive messages");
                    return;
                }
            }
        }
    }

    /// Receives one batch and processes it.
    async fn poll_once(
        &self,
        scale_up: &mpsc::Sender<()>,
        stop: &CancellationToken,
    ) -> Result<PollOutcome, QueueError> {
        let started = Instant::now();
        self.receiving_loops.fetch_add(1, Ordering::Relaxed);
        let received = self.receive_or_release(stop).await;
        self.receiving_loops.fetch_sub(1, Ordering::Relaxed);
        let messages = received?;
        self.health.record_response();
        metrics::counter!("photoshare_queue_messages_received_total").increment(messages.len() as u64);
        if messages.is_empty() {
            let too_soon = started.elapsed() < MIN_LONG_POLL;
            return Ok(if too_soon { PollOutcome::EmptyTooSoon } else { PollOutcome::Empty });
        }
        if messages.len() >= MAX_BATCH_SIZE {
            // Before processing: the next loop receives while this batch is in flight.
            request_loop(scale_up);
        }
        let retry_requested = self.process_batch(messages, scale_up, stop).await;
        if retry_requested && stop.run_until_cancelled(self.handler.is_ready()).await == Some(false) {
            self.health.set_paused(true);
            return Ok(PollOutcome::HandlerNotReady);
        }
        Ok(PollOutcome::Received)
    }

    /// Handles a batch, and requests another loop while that takes long and no loop is receiving.
    /// Returns whether the handler returned [`Disposition::Retry`] for any message.
    async fn process_batch(
        &self,
        messages: Vec<Message>,
        scale_up: &mpsc::Sender<()>,
        stop: &CancellationToken,
    ) -> bool {
        let mut handling = pin!(self.handle_messages(messages, stop));
        loop {
            tokio::select! {
                retry_requested = &mut handling => return retry_requested,
                () = tokio::time::sleep(SLOW_BATCH) => {
                    if self.receiving_loops.load(Ordering::Relaxed) == 0 {
                        request_loop(scale_up);
                    }
                }
            }
        }
    }

    /// Receives one batch. After `stop`, waits for the receive in progress no longer than
    /// [`Queue::receive_grace`], and releases what it returns.
    async fn receive_or_release(&self, stop: &CancellationToken) -> Result<Vec<Message>, QueueError> {
        let mut receive = pin!(self.queue.receive());
        tokio::select! {
            // A batch that has arrived is handled, also at the moment of the shutdown.
            biased;
            received = &mut receive => return received,
            () = stop.cancelled() => {}
        }
        // Dropping the receive at once could leave messages that the queue has already sent invisible
        // until their visibility times out, although no consumer handles them.
        if let Ok(Ok(late)) = tokio::time::timeout(self.queue.receive_grace(), receive).await {
            self.release_messages(&late).await;
        }
        Ok(Vec::new())
    }

    async fn wait_until_ready(&self, backoff: &mut Backoff, stop: &CancellationToken) {
        warn!("paused receiving until the services that the handler needs are available");
        while sleep_backoff(backoff, stop).await.is_some() {
            if stop.run_until_cancelled(self.handler.is_ready()).await == Some(true) {
                info!("resumed receiving");
                self.health.set_paused(false);
                return;
            }
        }
    }
}

fn request_loop(scale_up: &mpsc::Sender<()>) {
    // A full channel holds the same request already.
    let _ = scale_up.try_send(());
}

/// Sleeps for the next backoff; `None` when `stop` was cancelled first.
async fn sleep_backoff(backoff: &mut Backoff, stop: &CancellationToken) -> Option<()> {
    stop.run_until_cancelled(tokio::time::sleep(backoff.next())).await
}

fn propagate_panic(joined: Result<(), JoinError>) {
    if let Err(error) = joined {
        std::panic::resume_unwind(error.into_panic());
    }
}
