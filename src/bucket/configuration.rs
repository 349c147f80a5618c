//! Reads the configuration of the bucket: notifications, CORS, lifecycle, encryption and region.

use aws_sdk_s3::types::{Event, FilterRule, NotificationConfigurationFilter};

use super::{Bucket, BucketError};

/// Destinations of the bucket's events.
#[derive(Debug, Clone, Default)]
pub struct NotificationConfig {
    /// SQS queues.
    pub queues: Vec<NotificationTarget>,
    /// SNS topics.
    pub topics: Vec<NotificationTarget>,
    /// Whether the bucket sends all events to EventBridge.
    pub event_bridge: bool,
}

/// One destination and its filter.
#[derive(Debug, Clone, Default)]
pub struct NotificationTarget {
    /// ARN of the queue or topic.
    pub arn: String,
    /// Event types: `s3:ObjectCreated:*`.
    pub events: Vec<String>,
    /// Prefix filter on keys; empty for all keys.
    pub prefix: String,
    /// Suffix filter on keys; empty for all keys.
    pub suffix: String,
}

/// One CORS rule.
#[derive(Debug, Clone, Default)]
pub struct CorsRule {
    /// Allowed origins, with at most one `*` each.
    pub origins: Vec<String>,
    /// Allowed methods.
    pub methods: Vec<String>,
    /// Allowed request headers, with at most one `*` each.
    pub headers: Vec<String>,
    /// Response headers that scripts may read.
    pub exposed_headers: Vec<String>,
}

/// Default encryption of new objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// S3 managed keys (SSE-S3).
    S3,
    /// The AWS managed KMS key, aws/s3.
    AwsManaged,
    /// Another KMS key.
    Key(String),
}

/// SSE-KMS without a key ID uses the AWS managed key.
impl From<Option<String>> for Encryption {
    fn from(key: Option<String>) -> Self {
        match key {
            Some(key) if !key.ends_with("alias/aws/s3") => Self::Key(key),
            _ => Self::AwsManaged,
        }
    }
}

impl Bucket {
    /// Reads the destinations of the bucket's events.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn fetch_notification_config(&self) -> Result<NotificationConfig, BucketError> {
        let call = self.client.get_bucket_notification_configuration().bucket(&*self.name);
        let response = call
            .send()
            .await
            .map_err(|error| self.call_error("GetBucketNotificationConfiguration", &error))?;
        let queues = response.queue_configurations.unwrap_or_default();
        let topics = response.topic_configurations.unwrap_or_default();
        Ok(NotificationConfig {
            queues: queues.into_iter().map(|to| parse_target(to.queue_arn, &to.events, to.filter)).collect(),
            topics: topics.into_iter().map(|to| parse_target(to.topic_arn, &to.events, to.filter)).collect(),
            event_bridge: response.event_bridge_configuration.is_some(),
        })
    }

    /// Reads the CORS rules.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn fetch_cors_rules(&self) -> Result<Vec<CorsRule>, BucketError> {
        let call = self.client.get_bucket_cors().bucket(&*self.name).send().await;
        let response = match call.map_err(|error| self.call_error("GetBucketCors", &error)) {
            Err(error) if error.has_code("NoSuchCORSConfiguration") => return Ok(Vec::new()),
            response => response?,
        };
        Ok(response
            .cors_rules
            .unwrap_or_default()
            .into_iter()
            .map(|rule| CorsRule {
                origins: rule.allowed_origins,
                methods: rule.allowed_methods,
                headers: rule.allowed_headers.unwrap_or_default(),
                exposed_headers: rule.expose_headers.unwrap_or_default(),
            })
            .collect())
    }

    /// Reads after how many days a lifecycle rule aborts incomplete multipart uploads; `None` without a rule.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn fetch_upload_expiry_days(&self) -> Result<Option<i32>, BucketError> {
        let call = self.client.get_bucket_lifecycle_configuration().bucket(&*self.name).send().await;
        let response = match call.map_err(|error| self.call_error("GetBucketLifecycleConfiguration", &error))
        {
            Err(error) if error.has_code("NoSuchLifecycleConfiguration") => return Ok(None),
            response => response?,
        };
        let rules = response.rules.unwrap_or_default();
        let enabled = rules.iter().filter(|rule| rule.status.as_str() == "Enabled");
        let days = enabled.filter_map(|rule| rule.abort_incomplete_multipart_upload.as_ref());
        Ok(days.filter_map(|abort| abort.days_after_initiation).min())
    }

    /// Reads the default encryption of new objects.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn fetch_encryption(&self) -> Result<Encryption, BucketError> {
        let call = self.client.get_bucket_encryption().bucket(&*self.name).send().await;
        let response = match call.map_err(|error| self.call_error("GetBucketEncryption", &error)) {
            Err(error) if error.has_code("ServerSideEncryptionConfigurationNotFoundError") => {
                return Ok(Encryption::S3);
            }
            response => response?,
        };
        let rules = response
            .server_side_encryption_configuration
            .map(|configuration| configuration.rules)
            .unwrap_or_default();
        let default = rules.into_iter().find_map(|rule| rule.apply_server_side_encryption_by_default);
        Ok(match default {
            Some(default) if default.sse_algorithm.as_str() != "AES256" => default.kms_master_key_id.into(),
            _ => Encryption::S3,
        })
    }

    /// Reads the region of the bucket.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn fetch_region(&self) -> Result<String, BucketError> {
        let call = self.client.get_bucket_location().bucket(&*self.name).send().await;
        let response = call.map_err(|error| self.call_error("GetBucketLocation", &error))?;
        // GetBucketLocation returns nothing for us-east-1, and the old name for some buckets in eu-west-1.
        Ok(match response.location_constraint.as_ref().map_or("", |region| region.as_str()) {
            "" => "us-east-1".to_owned(),
            "EU" => "eu-west-1".to_owned(),
            region => region.to_owned(),
        })
    }
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
