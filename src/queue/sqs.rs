//! Amazon SQS.
//!
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/Welcome.html>

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

/// The limit of SQS for one call.
const MAX_MESSAGES: i32 = 10;
/// The longest long poll that SQS offers.
const LONG_POLL_TIMEOUT: Duration = Duration::from_secs(20);
/// The long poll and some time for the response. Without it the SDK waits indefinitely, and a connection
/// that is open but dead stops the consumer.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(26);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Covers a response that is under way. Waiting for the rest of the long poll would delay every shutdown.
/// What SQS sends later to the closed connection is redelivered after the visibility timeout, which is
/// short.
const RECEIVE_GRACE: Duration = Duration::from_secs(1);

/// A [`Queue`] on Amazon SQS.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    /// The client for long polls: its timeout is longer than theirs.
    receive_client: Client,
    client: Client,
    url: String,
    visibility_timeout: Duration,
}

impl SqsQueue {
    /// Creates a client of the queue at `url`. Each receive sets the visibility timeout to
    /// `visibility_timeout`, whatever the default of the queue is.
    #[must_use]
    pub fn new(sdk: &SdkConfig, url: String, visibility_timeout: Duration) -> Self {
        Self {
            receive_client: build_client(sdk, RECEIVE_TIMEOUT),
            client: build_client(sdk, CALL_TIMEOUT),
            url,
            visibility_timeout,
        }
    }

    /// Creates a client of the queue at `url` with the same configuration.
    pub(super) fn with_url(&self, url: String) -> Self {
        Self { url, ..self.clone() }
    }

    /// The URL of the queue.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The SDK's client, for the calls that no server makes.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Receives up to 10 messages with a long poll of `wait_time`. They stay invisible to other consumers
    /// for `visibility_timeout`.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn receive_with(
        &self,
        wait_time: Duration,
        visibility_timeout: Duration,
    ) -> Result<Vec<Message>, QueueError> {
        let response = self
            .receive_client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(MAX_MESSAGES)
            .wait_time_seconds(whole_seconds(wait_time))
            .visibility_timeout(whole_seconds(visibility_timeout))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .send()
            .await
            .map_err(|error| call_error("ReceiveMessage", &error))?;
        Ok(response.messages.unwrap_or_default().into_iter().filter_map(convert_message).collect())
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
}

fn build_client(sdk: &SdkConfig, attempt_timeout: Duration) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(attempt_timeout)
        .build();
    // The consumer retries with its own backoff, which ends at a shutdown.
    let retries = aws_config::retry::RetryConfig::disabled();
    let config = aws_sdk_sqs::config::Builder::from(sdk).timeout_config(timeouts).retry_config(retries);
    Client::from_conf(config.build())
}

#[async_trait]
impl Queue for SqsQueue {
    async fn receive(&self) -> Result<Vec<Message>, QueueError> {
        self.receive_with(LONG_POLL_TIMEOUT, self.visibility_timeout).await
    }

    async fn delete(&self, messages: &[ReceiptHandle]) -> Result<Vec<ReceiptHandle>, QueueError> {
        let entries = messages.iter().enumerate().map(|(index, receipt)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(&receipt.0)
                .build()
                .expect("id and receipt are set")
        });
        let response = self
            .client
            .delete_message_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries.collect()))
            .send()
            .await
            .map_err(|error| call_error("DeleteMessageBatch", &error))?;
        // A sender fault, for example an expired receipt handle, fails the same way each time.
        let retriable = response.failed.iter().filter(|failure| !failure.sender_fault);
        let indexes = retriable.filter_map(|failure| failure.id.parse::<usize>().ok());
        Ok(indexes.filter_map(|index| messages.get(index).cloned()).collect())
    }

    async fn change_visibility(
        &self,
        message: &ReceiptHandle,
        visibility: Duration,
    ) -> Result<(), QueueError> {
        self.client
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(&message.0)
            .visibility_timeout(whole_seconds(visibility))
            .send()
            .await
            .map_err(|error| call_error("ChangeMessageVisibility", &error))?;
        Ok(())
    }

    fn visibility_timeout(&self) -> Duration {
        self.visibility_timeout
    }

    fn receive_grace(&self) -> Duration {
        RECEIVE_GRACE
    }
}

/// Converts a message of the SDK; `None` without a receipt handle.
fn convert_message(message: aws_sdk_sqs::types::Message) -> Option<Message> {
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

fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

/// Describes a failed call by the messages of the error and of its sources. The `Debug` text of the error
/// is not used: it contains the response, which may hold message bodies and receipt handles.
pub(crate) fn call_error<E>(call: &'static str, error: &SdkError<E>) -> QueueError
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let code = error.code().map(str::to_owned);
    let error: &dyn std::error::Error = error;
    let sources = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    QueueError::Call { call, code, reason: sources.collect::<Vec<_>>().join(": ") }
}
