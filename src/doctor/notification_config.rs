//! The notification configuration of the bucket: where its events go.

use aws_sdk_s3::types::{Event, FilterRule, NotificationConfigurationFilter};

use crate::bucket::{Bucket, BucketError};

/// Destinations of the bucket's events.
#[derive(Debug, Clone, Default)]
pub(super) struct NotificationConfig {
    /// SQS queues.
    pub(super) queues: Vec<NotificationTarget>,
    /// SNS topics.
    pub(super) topics: Vec<NotificationTarget>,
    /// Whether the bucket sends all events to EventBridge.
    pub(super) event_bridge: bool,
}

/// One destination and its filter.
#[derive(Debug, Clone, Default)]
pub(super) struct NotificationTarget {
    /// ARN of the queue or topic.
    pub(super) arn: String,
    /// Event types: `s3:ObjectCreated:*`.
    pub(super) events: Vec<String>,
    /// Prefix filter on keys; empty for all keys.
    pub(super) prefix: String,
    /// Suffix filter on keys; empty for all keys.
    pub(super) suffix: String,
}

/// Reads the destinations of the bucket's events.
pub(super) async fn fetch_notification_config(bucket: &Bucket) -> Result<NotificationConfig, BucketError> {
    let call = bucket.client().get_bucket_notification_configuration().bucket(bucket.name());
    let response =
        call.send().await.map_err(|error| bucket.call_error("GetBucketNotificationConfiguration", &error))?;
    let queues = response.queue_configurations.unwrap_or_default();
    let topics = response.topic_configurations.unwrap_or_default();
    Ok(NotificationConfig {
        queues: queues.into_iter().map(|to| parse_target(to.queue_arn, &to.events, to.filter)).collect(),
        topics: topics.into_iter().map(|to| parse_target(to.topic_arn, &to.events, to.filter)).collect(),
        event_bridge: response.event_bridge_configuration.is_some(),
    })
}

fn parse_target(
    arn: String,
    events: &[Event],
    filter: Option<NotificationConfigurationFilter>,
) -> NotificationTarget {
    let rules = filter.and_then(|filter| filter.key).and_then(|key| key.filter_rules).unwrap_or_default();
    let value = |name: &str| {
        let has_name = |rule: &&FilterRule| {
            rule.name.as_ref().is_some_and(|rule_name| rule_name.as_str().eq_ignore_ascii_case(name))
        };
        rules.iter().find(has_name).and_then(|rule| rule.value.clone()).unwrap_or_default()
    };
    NotificationTarget {
        arn,
        events: events.iter().map(|event| event.as_str().to_owned()).collect(),
        prefix: value("prefix"),
        suffix: value("suffix"),
    }
}
