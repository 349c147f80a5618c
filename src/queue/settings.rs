//! What a queue is set to, and its dead letters.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::{
    error::ProvideErrorMetadata,
    types::{MessageSystemAttributeName, QueueAttributeName},
};
use serde_json::Value;

use super::{
    Message, Queue, QueueError, ReceiptHandle, SqsQueue,
    sqs::{failed, message, seconds},
};

/// A queue's attributes, by SQS's names.
#[derive(Debug, Clone, Default)]
pub struct QueueSettings(pub HashMap<String, String>);

impl QueueSettings {
    /// One attribute; empty when the queue has none.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// One attribute that is a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name).parse().ok()
    }

    /// One attribute that holds JSON; `Null` when there is none.
    #[must_use]
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(self.text(name)).unwrap_or_default()
    }

    /// The ARN of the dead-letter queue, and after how many receives a message goes there.
    #[must_use]
    pub fn dead_letters(&self) -> Option<(String, u64)> {
        let policy = self.json("RedrivePolicy");
        let count = &policy["maxReceiveCount"];
        let count = count.as_u64().or_else(|| count.as_str()?.parse().ok())?;
        Some((policy["deadLetterTargetArn"].as_str()?.to_owned(), count))
    }
}

impl SqsQueue {
    /// What the queue is set to.
    ///
    /// # Errors
    /// When SQS does not say.
    pub async fn settings(&self) -> Result<QueueSettings, QueueError> {
        let call = self.calling.get_queue_attributes().queue_url(&self.url);
        let said = call.attribute_names(QueueAttributeName::All).send().await;
        let said = said.map_err(|error| failed("GetQueueAttributes", &error))?.attributes.unwrap_or_default();
        Ok(QueueSettings(said.into_iter().map(|(name, value)| (name.as_str().to_owned(), value)).collect()))
    }

    /// The queue of the same account that `arn` names.
    ///
    /// # Errors
    /// When there is none, or it may not be seen.
    pub async fn other(&self, arn: &str) -> Result<Self, QueueError> {
        let name = arn.rsplit(':').next().unwrap_or_default();
        let said = self.calling.get_queue_url().queue_name(name).send().await;
        let said = said.map_err(|error| failed("GetQueueUrl", &error))?;
        let url = said.queue_url.unwrap_or_default();
        Ok(Self {
            receiving: self.receiving.clone(),
            calling: self.calling.clone(),
            url,
            visibility: self.visibility,
        })
    }

    /// Where the queue is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Receives what is there within `wait`, and hides it for `visibility`.
    ///
    /// # Errors
    /// When SQS does not answer.
    pub async fn take(&self, wait: Duration, visibility: Duration) -> Result<Vec<Message>, QueueError> {
        let call = self.receiving.receive_message().queue_url(&self.url).max_number_of_messages(10);
        let call = call.wait_time_seconds(seconds(wait)).visibility_timeout(seconds(visibility));
        let call = call.message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
        let received = call.send().await.map_err(|error| failed("ReceiveMessage", &error))?;
        Ok(received.messages.unwrap_or_default().into_iter().filter_map(message).collect())
    }

    /// Makes messages visible again at once, and says how many could not be: those come again when they
    /// are hidden no more.
    pub async fn give_back(&self, messages: &[ReceiptHandle]) -> usize {
        let mut left = 0;
        for message in messages {
            left += usize::from(self.extend(message, Duration::ZERO).await.is_err());
        }
        left
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When SQS did not take it.
    pub async fn send(&self, body: &str) -> Result<(), QueueError> {
        let call = self.calling.send_message().queue_url(&self.url).message_body(body);
        call.send().await.map_err(|error| failed("SendMessage", &error))?;
        Ok(())
    }
}

impl SqsQueue {
    /// Has SQS move the dead letters in `arn` back to where they came from; `None` where that can't be
    /// had (some emulators), or may not: who may receive and send can carry them.
    ///
    /// # Errors
    /// When SQS refuses.
    pub async fn start_move(&self, arn: &str) -> Result<Option<String>, QueueError> {
        match self.calling.start_message_move_task().source_arn(arn).send().await {
            Ok(begun) => Ok(begun.task_handle),
            Err(error) if error.code().is_some_and(is_not_to_be_had) => Ok(None),
            Err(error) => Err(failed("StartMessageMoveTask", &error)),
        }
    }

    /// The status of a move, how many it has moved, and why it failed.
    ///
    /// # Errors
    /// When SQS does not say.
    pub async fn move_of(&self, arn: &str, task: &str) -> Result<(String, i64, String), QueueError> {
        let said = self.calling.list_message_move_tasks().source_arn(arn).max_results(10).send().await;
        let moves = said.map_err(|error| failed("ListMessageMoveTasks", &error))?.results.unwrap_or_default();
        // Only a running move has a handle: without one, the latest is ours.
        let ours = moves.iter().find(|found| found.task_handle.as_deref() == Some(task)).or(moves.first());
        Ok(ours.map_or_else(Default::default, |ours| {
            let status = ours.status.clone().unwrap_or_default();
            let why = ours.failure_reason.clone().unwrap_or_default();
            (status, ours.approximate_number_of_messages_moved, why)
        }))
    }
}

fn is_not_to_be_had(code: &str) -> bool {
    ["AccessDenied", "InvalidAction", "UnsupportedOperation", "UnknownOperation"]
        .iter()
        .any(|known| code.strip_suffix("Exception").unwrap_or(code).ends_with(known))
}
