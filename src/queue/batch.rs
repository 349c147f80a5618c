//! Handling of one received batch: heartbeat, disposition, deletion.

use std::{
    convert::Infallible,
    future::ready,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span, warn};

use super::{Consumer, Disposition, MAX_BATCH_SIZE, Message, ReceiptHandle, backoff::Backoff};

/// Attempts to delete a message. After the last attempt it stays in the queue: it is redelivered, and the
/// feed log recognizes its records as duplicates.
const MAX_DELETE_ATTEMPTS: u32 = 4;
/// How long a finished message waits for others, so that one call deletes them together.
const DELETE_GATHER_TIME: Duration = Duration::from_millis(100);
/// Heartbeats in each visibility timeout. With three of them, one may fail without the message becoming
/// visible.
const HEARTBEATS_PER_VISIBILITY: u32 = 3;
/// The delay before the first retry; it doubles with each receive. Ten receives, after which the
/// template's queue moves a message to the dead-letter queue, then span 36 minutes of outage.
const INITIAL_RETRY_DELAY: Duration = Duration::from_secs(5);
const MAX_RETRY_DELAY: Duration = Duration::from_mins(15);

/// The result of handling one message.
enum HandleOutcome {
    /// To be deleted.
    Done(ReceiptHandle),
    /// Left in the queue, or released to it.
    NotDone,
    /// Rescheduled, since something that the handler depends on was unavailable.
    Retry,
}

impl Consumer {
    /// Handles messages concurrently, and deletes each one that is done without waiting for slower ones.
    /// Returns whether the handler returned [`Disposition::Retry`] for any of them.
    pub(super) async fn handle_messages(&self, messages: Vec<Message>, stop: &CancellationToken) -> bool {
        let retry_requested = AtomicBool::new(false);
        let outcomes: FuturesUnordered<_> =
            messages.into_iter().map(|message| self.handle_message(message, stop)).collect();
        let done = outcomes.filter_map(|outcome| {
            ready(match outcome {
                HandleOutcome::Done(receipt) => Some(receipt),
                HandleOutcome::NotDone => None,
                HandleOutcome::Retry => {
                    retry_requested.store(true, Ordering::Relaxed);
                    None
                }
            })
        });
        // Concurrently, not with `for_each`: while a delete is awaited there, the stream is not polled,
        // and with it stop the handlers and the heartbeats of the messages that are still in flight.
        tokio_stream::StreamExt::chunks_timeout(done, MAX_BATCH_SIZE, DELETE_GATHER_TIME)
            .for_each_concurrent(None, |receipts| self.delete_messages(receipts))
            .await;
        retry_requested.into_inner()
    }

    /// Makes messages visible again at once.
    pub(super) async fn release_messages(&self, messages: &[Message]) {
        let released = messages.iter().map(|message| self.retry_after(message, Duration::ZERO));
        futures_util::future::join_all(released).await;
    }

    /// Handles one message under a heartbeat, which keeps it invisible however long that takes.
    async fn handle_message(&self, message: Message, stop: &CancellationToken) -> HandleOutcome {
        let span = info_span!("message", sqs.message_id = message.id, receive_count = message.receive_count);
        let work = async {
            tokio::select! {
                // A handler that finishes when the drain timeout does has finished: its message is deleted.
                biased;
                disposition = self.handler.handle(&message) => {
                    self.apply_disposition(message, disposition, stop).await
                }
                never = self.send_heartbeats(&message) => match never {},
                () = self.drain_timeout_after(stop) => {
                    warn!("released the message: it was not finished within the drain timeout");
                    self.retry_after(&message, Duration::ZERO).await;
                    HandleOutcome::NotDone
                }
            }
        };
        work.instrument(span).await
    }

    async fn apply_disposition(
        &self,
        message: Message,
        disposition: Disposition,
        stop: &CancellationToken,
    ) -> HandleOutcome {
        // During shutdown an unfinished message is released at once: another process may handle it.
        let stopping = stop.is_cancelled();
        match disposition {
            Disposition::Delete => HandleOutcome::Done(message.receipt),
            Disposition::Redeliver => {
                if stopping {
                    self.retry_after(&message, Duration::ZERO).await;
                }
                HandleOutcome::NotDone
            }
            Disposition::Retry => {
                let delay = if stopping { Duration::ZERO } else { retry_delay(message.receive_count) };
                self.retry_after(&message, delay).await;
                HandleOutcome::Retry
            }
        }
    }

    async fn send_heartbeats(&self, message: &Message) -> Infallible {
        let visibility_timeout = self.queue.visibility_timeout();
        let mut interval = tokio::time::interval(visibility_timeout / HEARTBEATS_PER_VISIBILITY);
        // After a slow call, the default would catch up with a burst of calls that extend nothing.
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick completes immediately, but the receive has just set the full visibility.
        interval.tick().await;
        loop {
            interval.tick().await;
            if let Err(error) = self.queue.change_visibility(&message.receipt, visibility_timeout).await {
                warn!(error = &error as &dyn std::error::Error, "failed to keep the message invisible");
            }
        }
    }

    /// Completes when the drain timeout, which begins with `stop`, is over.
    async fn drain_timeout_after(&self, stop: &CancellationToken) {
        stop.cancelled().await;
        tokio::time::sleep(self.config.drain_timeout).await;
    }

    /// Makes a message visible again after `delay`.
    async fn retry_after(&self, message: &Message, delay: Duration) {
        if let Err(error) = self.queue.change_visibility(&message.receipt, delay).await {
            let delay_s = delay.as_secs();
            warn!(error = &error as &dyn std::error::Error, delay_s, "failed to reschedule the message");
        }
    }

    async fn delete_messages(&self, mut remaining: Vec<ReceiptHandle>) {
        let mut backoff = Backoff::default();
        for attempt in 1..=MAX_DELETE_ATTEMPTS {
            match self.queue.delete(&remaining).await {
                Ok(failed) if failed.is_empty() => return,
                Ok(failed) => {
                    warn!(attempt, failed = failed.len(), "failed to delete some messages");
                    remaining = failed;
                }
                Err(error) => {
                    warn!(attempt, error = &error as &dyn std::error::Error, "failed to delete messages");
                }
            }
            if attempt < MAX_DELETE_ATTEMPTS {
                tokio::time::sleep(backoff.next()).await;
            }
        }
        let messages = remaining.len();
        warn!(messages, "gave up deleting messages: they are redelivered and dropped as duplicates");
    }
}

fn retry_delay(receive_count: u32) -> Duration {
    let factor = 2_u32.saturating_pow(receive_count.saturating_sub(1));
    INITIAL_RETRY_DELAY.saturating_mul(factor).min(MAX_RETRY_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_retries_span_at_least_half_an_hour() {
        let span: Duration = (1..10).map(retry_delay).sum();
        assert!(span >= Duration::from_mins(30), "{span:?}");
        assert_eq!((retry_delay(0), retry_delay(u32::MAX)), (INITIAL_RETRY_DELAY, MAX_RETRY_DELAY));
    }
}
