//! Where messages come from, and what becomes of them. Knows nothing of what is in them.

mod backoff;
mod batch;
mod consumer;
mod health;
mod local;
mod settings;
mod sqs;

use std::{fmt, time::Duration};

use async_trait::async_trait;

pub use consumer::{Consumer, ConsumerConfig, Handler};
pub use health::Health;
pub use local::LocalQueue;
pub use settings::QueueSettings;
pub use sqs::SqsQueue;

/// The most messages that one call receives, deletes or releases: SQS's own limit.
pub const BATCH: usize = 10;

/// A message that was received and is invisible to others for now.
#[derive(Clone)]
pub struct Message {
    /// Names the message in logs.
    pub id: String,
    /// What deleting it takes. Never logged.
    pub receipt: ReceiptHandle,
    /// The text. Never logged.
    pub body: String,
    /// How often it has been received, this time included.
    pub receive_count: u32,
}

/// The right to delete or release one received message.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceiptHandle(pub String);

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It is done: delete it.
    Delete,
    /// It can't be done, whoever tries: it comes again when its visibility runs out, and in the end goes
    /// to the dead-letter queue.
    Redeliver,
    /// It could not be done now, since something that it needs is away: it comes again later, and later
    /// each time.
    Retry,
}

/// The queue did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The call failed.
    #[error("{call} failed: {why}")]
    Call {
        /// What was asked for.
        call: &'static str,
        /// SQS's error code, where SQS answered.
        code: Option<String>,
        /// What each layer below says of it; never a message's body.
        why: String,
    },
}

impl QueueError {
    /// Whether SQS answered, and said that this is not allowed.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        let Self::Call { code, .. } = self;
        // It comes with a service's name in front, or an ending behind.
        code.as_deref().is_some_and(|code| code.contains("AccessDenied"))
    }
}

/// Keeps messages until they are deleted.
#[async_trait]
pub trait Queue: fmt::Debug + Send + Sync + 'static {
    /// Waits for messages, at most as long as the queue's long poll; no more than [`BATCH`].
    ///
    /// # Errors
    /// When the queue can't be asked.
    ///
    /// # Cancel safety
    /// What a cancelled call had received stays invisible until its visibility runs out; see
    /// [`Queue::receive_grace`].
    async fn receive(&self) -> Result<Vec<Message>, QueueError>;

    /// Deletes at most [`BATCH`] messages. Gives back those that are still there and may be tried again.
    ///
    /// # Errors
    /// When the call failed as a whole.
    async fn delete(&self, messages: &[ReceiptHandle]) -> Result<Vec<ReceiptHandle>, QueueError>;

    /// Makes a message visible again after `visibility`, counted from now; zero releases it at once.
    ///
    /// # Errors
    /// When the call failed.
    async fn extend(&self, message: &ReceiptHandle, visibility: Duration) -> Result<(), QueueError>;

    /// How long a received message stays invisible.
    fn visibility(&self) -> Duration;

    /// How long a receive that nobody needs any more should still be waited for, since what the queue
    /// hands out may be on its way.
    fn receive_grace(&self) -> Duration;
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for ReceiptHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceiptHandle")
    }
}

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
