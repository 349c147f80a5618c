//! Message queues and the [`Consumer`] of one. Nothing here reads the body of a message.

mod attributes;
mod backoff;
mod batch;
mod consumer;
mod health;
mod local;
mod sqs;

use std::{fmt, time::Duration};

use async_trait::async_trait;

pub use attributes::QueueAttributes;
pub use consumer::{Consumer, ConsumerConfig, Handler};
pub use health::ConsumerHealth;
pub use local::LocalQueue;
pub use sqs::SqsQueue;
pub(crate) use sqs::call_error;

/// The maximum number of messages that one call receives or deletes: the limit of SQS.
pub const MAX_BATCH_SIZE: usize = 10;

/// A received message, invisible to other consumers until its visibility times out.
#[derive(Clone)]
pub struct Message {
    /// Identifies the message in logs.
    pub id: String,
    /// The handle that deletes or reschedules the message. Never logged.
    pub receipt: ReceiptHandle,
    /// The body. Never logged.
    pub body: String,
    /// How many times the message has been received, this time included.
    pub receive_count: u32,
}

/// The handle of one receive of a message, which deletes or reschedules it.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceiptHandle(pub String);

/// What happens to a message after it was handled.
///
/// The order is that of precedence: the greatest disposition of its records is that of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disposition {
    /// The message was handled: it is deleted.
    Delete,
    /// The message can never be handled: it is left. The queue redelivers it when its visibility times
    /// out, and in the end moves it to the dead-letter queue.
    Redeliver,
    /// The message could not be handled now, since a service was unavailable: it is redelivered after a
    /// delay that doubles each time.
    Retry,
}

/// A failed call to the queue.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The call failed, or SQS returned an error.
    #[error("{call} failed: {reason}")]
    Call {
        /// The API action, for example `ReceiveMessage`.
        call: &'static str,
        /// The error code of SQS; `None` without a response.
        code: Option<String>,
        /// The messages of the error and of its sources. Contains no message body.
        reason: String,
    },
}

impl QueueError {
    /// Whether SQS denied access.
    #[must_use]
    pub fn is_access_denied(&self) -> bool {
        let Self::Call { code, .. } = self;
        // The code occurs with a prefix (`AWS.SimpleQueueService.`) and with a suffix (`Exception`).
        code.as_deref().is_some_and(|code| code.contains("AccessDenied"))
    }
}

/// A queue with at-least-once delivery: it keeps a message until it is deleted.
#[async_trait]
pub trait Queue: fmt::Debug + Send + Sync + 'static {
    /// Receives up to [`MAX_BATCH_SIZE`] messages; empty when none arrives during the long poll.
    ///
    /// # Errors
    /// When the call fails.
    ///
    /// # Cancel safety
    /// Not cancel safe: messages that a dropped call has received stay invisible until their visibility
    /// times out. See [`Queue::receive_grace`].
    async fn receive(&self) -> Result<Vec<Message>, QueueError>;

    /// Deletes up to [`MAX_BATCH_SIZE`] messages. Returns those that were not deleted and can be retried.
    ///
    /// # Errors
    /// When the call fails as a whole.
    async fn delete(&self, messages: &[ReceiptHandle]) -> Result<Vec<ReceiptHandle>, QueueError>;

    /// Makes a message visible again after `visibility`, counted from now; zero releases it at once.
    /// A heartbeat calls it with the full visibility timeout.
    ///
    /// # Errors
    /// When the call fails.
    async fn change_visibility(
        &self,
        message: &ReceiptHandle,
        visibility: Duration,
    ) -> Result<(), QueueError>;

    /// The visibility timeout of received messages.
    fn visibility_timeout(&self) -> Duration;

    /// How long to wait for a receive that is no longer needed, since its response may be under way.
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
mod tests;
