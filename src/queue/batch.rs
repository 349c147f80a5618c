//! What becomes of the messages that one receive brought.

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

use super::{BATCH, Consumer, Disposition, Message, ReceiptHandle, backoff::Backoff};

/// How often a delete is tried before the message is left to come again (it will be a duplicate).
const DELETE_TRIES: u32 = 4;
/// What is done waits so long for others that can be deleted by the same call.
const GATHER: Duration = Duration::from_millis(100);
/// A message is kept invisible by three calls in each visibility, so that one may fail.
const BEATS: u32 = 3;
/// A message that could not be handled comes again after this, and after twice as long each further
/// time: ten receives, after which the template's queue gives a message up, span 36 minutes.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_mins(15);

/// How one message came out.
enum Ended {
    Done(ReceiptHandle),
    Left,
    Away,
}

impl Consumer {
    /// Handles messages side by side and deletes those that are done, without waiting for the slow
    /// ones. Says whether something that the work needs was away.
    pub(super) async fn handle_all(&self, messages: Vec<Message>, stop: &CancellationToken) -> bool {
        let away = AtomicBool::new(false);
        let handled: FuturesUnordered<_> =
            messages.into_iter().map(|message| self.handle_one(message, stop)).collect();
        let done = handled.filter_map(|ended| {
            ready(match ended {
                Ended::Done(receipt) => Some(receipt),
                Ended::Left => None,
                Ended::Away => {
                    away.store(true, Ordering::Relaxed);
                    None
                }
            })
        });
        // Deleting goes on beside handling: whoever is still handled needs its heartbeat.
        tokio_stream::StreamExt::chunks_timeout(done, BATCH, GATHER)
            .for_each_concurrent(None, |receipts| self.delete_all(receipts))
            .await;
        away.into_inner()
    }

    /// Makes messages visible again at once.
    pub(super) async fn release_all(&self, messages: &[Message]) {
        let released = messages.iter().map(|message| self.come_again(message, Duration::ZERO));
        futures_util::future::join_all(released).await;
    }

    /// Handles one message under a heartbeat, so that it stays invisible however long it takes.
    async fn handle_one(&self, message: Message, stop: &CancellationToken) -> Ended {
        let span = info_span!("message", sqs.message_id = message.id, receive_count = message.receive_count);
        let work = async {
            tokio::select! {
                biased;
                disposition = self.handler.handle(&message) => self.dispose(message, disposition, stop).await,
                never = self.heartbeat(&message) => match never {},
                () = self.drained(stop) => {
                    warn!("not finished in time, released");
                    self.come_again(&message, Duration::ZERO).await;
                    Ended::Left
                }
            }
        };
        work.instrument(span).await
    }

    async fn dispose(&self, message: Message, disposition: Disposition, stop: &CancellationToken) -> Ended {
        let stopping = stop.is_cancelled();
        match disposition {
            Disposition::Delete => Ended::Done(message.receipt),
            Disposition::Redeliver => {
                if stopping {
                    self.come_again(&message, Duration::ZERO).await;
                }
                Ended::Left
            }
            Disposition::Retry => {
                let after = if stopping { Duration::ZERO } else { retry_after(message.receive_count) };
                self.come_again(&message, after).await;
                Ended::Away
            }
        }
    }

    async fn heartbeat(&self, message: &Message) -> Infallible {
        let visibility = self.queue.visibility();
        let mut beat = tokio::time::interval(visibility / BEATS);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.tick().await;
        loop {
            beat.tick().await;
            if let Err(error) = self.queue.extend(&message.receipt, visibility).await {
                warn!(error = &error as &dyn std::error::Error, "could not keep the message invisible");
            }
        }
    }

    async fn drained(&self, stop: &CancellationToken) {
        stop.cancelled().await;
        tokio::time::sleep(self.config.drain).await;
    }

    async fn come_again(&self, message: &Message, after: Duration) {
        if let Err(error) = self.queue.extend(&message.receipt, after).await {
            let after_s = after.as_secs();
            warn!(error = &error as &dyn std::error::Error, after_s, "could not say when to come again");
        }
    }

    async fn delete_all(&self, mut left: Vec<ReceiptHandle>) {
        let mut backoff = Backoff::default();
        for attempt in 1..=DELETE_TRIES {
            match self.queue.delete(&left).await {
                Ok(failed) if failed.is_empty() => return,
                Ok(failed) => {
                    warn!(attempt, failed = failed.len(), "some messages were not deleted");
                    left = failed;
                }
                Err(error) => warn!(attempt, error = &error as &dyn std::error::Error, "deleting failed"),
            }
            if attempt < DELETE_TRIES {
                tokio::time::sleep(backoff.next()).await;
            }
        }
        warn!(messages = left.len(), "left undeleted: they come again and are known as duplicates");
    }
}

fn retry_after(receive_count: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(receive_count.saturating_sub(1));
    RETRY_FIRST.saturating_mul(doubled).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_handled_stays_away_from_the_dead_letter_queue_for_half_an_hour() {
        let span: Duration = (1..10).map(retry_after).sum();
        assert!(span >= Duration::from_mins(30), "{span:?}");
        assert_eq!((retry_after(0), retry_after(u32::MAX)), (RETRY_FIRST, RETRY_MAX));
    }
}
