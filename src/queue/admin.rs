//! SQS calls for operators: the attributes of a queue, single messages, and message moves.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::{error::ProvideErrorMetadata, types::QueueAttributeName};
use serde_json::Value;

use super::{Queue, QueueError, ReceiptHandle, SqsQueue, sqs::call_error};

/// The attributes of a queue, by name.
///
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html>
#[derive(Debug, Clone, Default)]
pub struct QueueAttributes(pub HashMap<String, String>);

/// The progress of a message move.
#[derive(Debug, Clone, Default)]
pub struct MessageMove {
    /// `RUNNING`, `CANCELLING`, `COMPLETED`, `CANCELLED` or `FAILED`.
    pub status: String,
    /// The approximate number of messages moved so far.
    pub moved: i64,
    /// Why the move failed; empty unless it did.
    pub failure_reason: String,
}

impl QueueAttributes {
    /// An attribute; empty when the queue does not have it.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// An attribute that is a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name).parse().ok()
    }

    /// An attribute that holds JSON; `Null` when the queue does not have it.
    #[must_use]
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(self.text(name)).unwrap_or_default()
    }

    /// The ARN of the dead-letter queue, and the number of receives after which a message is moved there.
    #[must_use]
    pub fn redrive_policy(&self) -> Option<(String, u64)> {
        let policy = self.json("RedrivePolicy");
        let count = &policy["maxReceiveCount"];
        let count = count.as_u64().or_else(|| count.as_str()?.parse().ok())?;
        Some((policy["deadLetterTargetArn"].as_str()?.to_owned(), count))
    }
}

impl SqsQueue {
    /// Fetches all attributes of the queue.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn fetch_attributes(&self) -> Result<QueueAttributes, QueueError> {
        let request = self.client.get_queue_attributes().queue_url(&self.url);
        let response = request.attribute_names(QueueAttributeName::All).send().await;
        let response = response.map_err(|error| call_error("GetQueueAttributes", &error))?;
        let attributes = response.attributes.unwrap_or_default().into_iter();
        Ok(QueueAttributes(attributes.map(|(name, value)| (name.as_str().to_owned(), value)).collect()))
    }

    /// Connects to another queue of the same account and region.
    ///
    /// # Errors
    /// When the queue does not exist or access is denied.
    pub async fn connect_to(&self, arn: &str) -> Result<Self, QueueError> {
        let name = arn.rsplit(':').next().unwrap_or_default();
        let response = self.client.get_queue_url().queue_name(name).send().await;
        let response = response.map_err(|error| call_error("GetQueueUrl", &error))?;
        Ok(Self {
            receive_client: self.receive_client.clone(),
            client: self.client.clone(),
            url: response.queue_url.unwrap_or_default(),
            visibility_timeout: self.visibility_timeout,
        })
    }

    /// The URL of the queue.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes messages visible again at once. Returns how many calls failed: those messages become visible
    /// when their visibility times out.
    pub async fn release(&self, messages: &[ReceiptHandle]) -> usize {
        let mut failed = 0;
        for message in messages {
            failed += usize::from(self.change_visibility(message, Duration::ZERO).await.is_err());
        }
        failed
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn send(&self, body: &str) -> Result<(), QueueError> {
        let request = self.client.send_message().queue_url(&self.url).message_body(body);
        request.send().await.map_err(|error| call_error("SendMessage", &error))?;
        Ok(())
    }
}

impl SqsQueue {
    /// Starts a move, done by SQS, of the messages in the dead-letter queue `arn` back to their source.
    /// Returns the handle of the task; `None` where the action is unsupported (some emulators) or denied:
    /// the caller can still receive and send the messages itself.
    ///
    /// # Errors
    /// When the call fails for another reason.
    pub async fn start_message_move(&self, arn: &str) -> Result<Option<String>, QueueError> {
        match self.client.start_message_move_task().source_arn(arn).send().await {
            Ok(response) => Ok(response.task_handle),
            Err(error) if error.code().is_some_and(is_move_unavailable) => Ok(None),
            Err(error) => Err(call_error("StartMessageMoveTask", &error)),
        }
    }

    /// Fetches the progress of the move with this task handle.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn fetch_message_move(&self, arn: &str, task_handle: &str) -> Result<MessageMove, QueueError> {
        let request = self.client.list_message_move_tasks().source_arn(arn).max_results(10);
        let response = request.send().await.map_err(|error| call_error("ListMessageMoveTasks", &error))?;
        let tasks = response.results.unwrap_or_default();
        // SQS lists the handle of running tasks only, and the latest task first: without a match, our task
        // has ended and is the first.
        let task = tasks.iter().find(|task| task.task_handle.as_deref() == Some(task_handle));
        Ok(task.or(tasks.first()).map_or_else(MessageMove::default, |task| MessageMove {
            status: task.status.clone().unwrap_or_default(),
            moved: task.approximate_number_of_messages_moved,
            failure_reason: task.failure_reason.clone().unwrap_or_default(),
        }))
    }
}

fn is_move_unavailable(code: &str) -> bool {
    ["AccessDenied", "InvalidAction", "UnsupportedOperation", "UnknownOperation"]
        .iter()
        .any(|unavailable| code.strip_suffix("Exception").unwrap_or(code).ends_with(unavailable))
}
