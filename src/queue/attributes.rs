//! The attributes of a queue and the way to its dead-letter queue, for operators.

use std::collections::HashMap;

use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::Value;

use super::{
    QueueError,
    sqs::{SqsQueue, call_error},
};

/// The attributes of a queue, by name.
///
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html>
#[derive(Debug, Clone, Default)]
pub struct QueueAttributes(pub HashMap<String, String>);

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
        let request = self.client().get_queue_attributes().queue_url(self.url());
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
        let response = self.client().get_queue_url().queue_name(name).send().await;
        let response = response.map_err(|error| call_error("GetQueueUrl", &error))?;
        Ok(self.with_url(response.queue_url.unwrap_or_default()))
    }
}
