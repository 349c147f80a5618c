//! Amazon SQS.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_sqs::{
    Client,
    config::timeout::TimeoutConfig,
    error::{ProvideErrorMetadata, SdkError},
    types::{DeleteMessageBatchRequestEntry, MessageSystemAttributeName},
};

use super::{Message, Queue, QueueError, ReceiptHandle};

const MAX_MESSAGES: i32 = 10;
/// SQS's longest long poll, in seconds.
const WAIT_SECS: i32 = 20;
/// The SDK waits for ever by itself: a connection that is open but dead would stop the poller for good.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(26);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Covers an answer that is under way. A whole long poll would hold up every stop; what SQS hands out
/// later to a connection that is gone comes again after the visibility that we ask for, which is short.
const RECEIVE_GRACE: Duration = Duration::from_secs(1);

/// A [`Queue`] on SQS.
#[derive(Debug)]
pub struct SqsQueue {
    pub(super) receiving: Client,
    pub(super) calling: Client,
    pub(super) url: String,
    pub(super) visibility: Duration,
}

impl SqsQueue {
    /// Talks to the queue at `url`. `visibility` is asked for with each receive, so that what the queue
    /// is set to does not matter.
    #[must_use]
    pub fn new(sdk: &SdkConfig, url: String, visibility: Duration) -> Self {
        Self { receiving: client(sdk, RECEIVE_TIMEOUT), calling: client(sdk, CALL_TIMEOUT), url, visibility }
    }
}

fn client(sdk: &SdkConfig, attempt: Duration) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(attempt)
        .build();
    // The consumer backs off by itself and hears the shutdown while it does.
    let retries = aws_config::retry::RetryConfig::disabled();
    let config = aws_sdk_sqs::config::Builder::from(sdk).timeout_config(timeouts).retry_config(retries);
    Client::from_conf(config.build())
}

#[async_trait]
impl Queue for SqsQueue {
    async fn receive(&self) -> Result<Vec<Message>, QueueError> {
        let received = self
            .receiving
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(MAX_MESSAGES)
            .wait_time_seconds(WAIT_SECS)
            .visibility_timeout(seconds(self.visibility))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .send()
            .await
            .map_err(|error| failed("ReceiveMessage", &error))?;
        Ok(received.messages.unwrap_or_default().into_iter().filter_map(message).collect())
    }

    async fn delete(&self, messages: &[ReceiptHandle]) -> Result<Vec<ReceiptHandle>, QueueError> {
        let entries = messages.iter().enumerate().map(|(index, receipt)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(&receipt.0)
                .build()
                .expect("id and receipt are set")
        });
        let answer = self
            .calling
            .delete_message_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries.collect()))
            .send()
            .await
            .map_err(|error| failed("DeleteMessageBatch", &error))?;
        // What is our own fault (the receipt is too old) stays so however often it is tried.
        let left = answer.failed.iter().filter(|failure| !failure.sender_fault);
        let left = left.filter_map(|failure| failure.id.parse::<usize>().ok());
        Ok(left.filter_map(|index| messages.get(index).cloned()).collect())
    }

    async fn extend(&self, message: &ReceiptHandle, visibility: Duration) -> Result<(), QueueError> {
        self.calling
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(&message.0)
            .visibility_timeout(seconds(visibility))
            .send()
            .await
            .map_err(|error| failed("ChangeMessageVisibility", &error))?;
        Ok(())
    }

    fn visibility(&self) -> Duration {
        self.visibility
    }

    fn receive_grace(&self) -> Duration {
        RECEIVE_GRACE
    }
}

pub(super) fn message(message: aws_sdk_sqs::types::Message) -> Option<Message> {
    let attributes: HashMap<_, _> = message.attributes.unwrap_or_default();
    let receive_count = attributes
        .get(&MessageSystemAttributeName::ApproximateReceiveCount)
        .and_then(|count| count.parse().ok())
        .unwrap_or(1);
    Some(Message {
        id: message.message_id.unwrap_or_default(),
        receipt: ReceiptHandle(message.receipt_handle?),
        body: message.body.unwrap_or_default(),
        receive_count,
    })
}

pub(super) fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

/// Says what every layer says; the response itself, which may hold bodies and receipts, is left out.
pub(super) fn failed<E>(call: &'static str, error: &SdkError<E>) -> QueueError
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let code = error.code().map(str::to_owned);
    let error: &dyn std::error::Error = error;
    let layers = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    QueueError::Call { call, code, why: layers.collect::<Vec<_>>().join(": ") }
}
