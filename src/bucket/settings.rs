//! What the bucket is set to, as far as photos and their events depend on it.

use aws_sdk_s3::types::{Event, FilterRule, NotificationConfigurationFilter};

use super::{Bucket, BucketError};

/// Where the bucket sends events.
#[derive(Debug, Clone, Default)]
pub struct Notification {
    /// Straight to queues.
    pub queues: Vec<Target>,
    /// To topics.
    pub topics: Vec<Target>,
    /// To EventBridge.
    pub event_bridge: bool,
}

/// Some events to one place.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// The place.
    pub arn: String,
    /// `s3:ObjectCreated:*` and the like.
    pub events: Vec<String>,
    /// Only keys that begin so.
    pub prefix: String,
    /// Only keys that end so.
    pub suffix: String,
}

/// What pages of some origins may do.
#[derive(Debug, Clone, Default)]
pub struct CorsRule {
    /// Origins, with a star at most.
    pub origins: Vec<String>,
    /// Methods.
    pub methods: Vec<String>,
    /// Headers that may be sent, with a star at most.
    pub headers: Vec<String>,
    /// Headers that may be read.
    pub exposed: Vec<String>,
}

/// What objects are encrypted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// S3's own keys.
    S3,
    /// The KMS key that AWS manages for S3, aws/s3.
    AwsManaged,
    /// A KMS key, which may be any.
    Key(String),
}

/// Where KMS is asked for and no key is named, the one that AWS manages is meant.
impl From<Option<String>> for Encryption {
    fn from(key: Option<String>) -> Self {
        match key {
            Some(key) if !key.ends_with("alias/aws/s3") => Self::Key(key),
            _ => Self::AwsManaged,
        }
    }
}

impl Bucket {
    /// Where events go.
    ///
    /// # Errors
    /// When S3 does not say.
    pub async fn notification(&self) -> Result<Notification, BucketError> {
        let call = self.client.get_bucket_notification_configuration().bucket(&*self.name);
        let said =
            call.send().await.map_err(|error| self.failed("GetBucketNotificationConfiguration", &error))?;
        let queues = said.queue_configurations.unwrap_or_default();
        let topics = said.topic_configurations.unwrap_or_default();
        Ok(Notification {
            queues: queues.into_iter().map(|to| target(to.queue_arn, &to.events, to.filter)).collect(),
            topics: topics.into_iter().map(|to| target(to.topic_arn, &to.events, to.filter)).collect(),
            event_bridge: said.event_bridge_configuration.is_some(),
        })
    }

    /// The CORS rules; none where there are none.
    ///
    /// # Errors
    /// When S3 does not say.
    pub async fn cors(&self) -> Result<Vec<CorsRule>, BucketError> {
        let call = self.client.get_bucket_cors().bucket(&*self.name).send().await;
        let said = match call.map_err(|error| self.failed("GetBucketCors", &error)) {
            Err(error) if error.says("NoSuchCORSConfiguration") => return Ok(Vec::new()),
            said => said?,
        };
        Ok(said
            .cors_rules
            .unwrap_or_default()
            .into_iter()
            .map(|rule| CorsRule {
                origins: rule.allowed_origins,
                methods: rule.allowed_methods,
                headers: rule.allowed_headers.unwrap_or_default(),
                exposed: rule.expose_headers.unwrap_or_default(),
            })
            .collect())
    }

    /// After how many days uploads that were begun and given up are swept away.
    ///
    /// # Errors
    /// When S3 does not say.
    pub async fn sweeps_uploads_after(&self) -> Result<Option<i32>, BucketError> {
        let call = self.client.get_bucket_lifecycle_configuration().bucket(&*self.name).send().await;
        let said = match call.map_err(|error| self.failed("GetBucketLifecycleConfiguration", &error)) {
            Err(error) if error.says("NoSuchLifecycleConfiguration") => return Ok(None),
            said => said?,
        };
        let rules = said.rules.unwrap_or_default();
        let enabled = rules.iter().filter(|rule| rule.status.as_str() == "Enabled");
        let days = enabled.filter_map(|rule| rule.abort_incomplete_multipart_upload.as_ref());
        Ok(days.filter_map(|abort| abort.days_after_initiation).min())
    }

    /// What new objects are encrypted with.
    ///
    /// # Errors
    /// When S3 does not say.
    pub async fn encryption(&self) -> Result<Encryption, BucketError> {
        let call = self.client.get_bucket_encryption().bucket(&*self.name).send().await;
        let said = match call.map_err(|error| self.failed("GetBucketEncryption", &error)) {
            Err(error) if error.says("ServerSideEncryptionConfigurationNotFoundError") => {
                return Ok(Encryption::S3);
            }
            said => said?,
        };
        let rules = said.server_side_encryption_configuration.map(|said| said.rules).unwrap_or_default();
        let by_default = rules.into_iter().find_map(|rule| rule.apply_server_side_encryption_by_default);
        Ok(match by_default {
            Some(by) if by.sse_algorithm.as_str() != "AES256" => by.kms_master_key_id.into(),
            _ => Encryption::S3,
        })
    }

    /// Where the bucket is.
    ///
    /// # Errors
    /// When S3 does not say.
    pub async fn region(&self) -> Result<String, BucketError> {
        let call = self.client.get_bucket_location().bucket(&*self.name).send().await;
        let said = call.map_err(|error| self.failed("GetBucketLocation", &error))?;
        // The first region has no name here, and Ireland's buckets may have an old one.
        Ok(match said.location_constraint.as_ref().map_or("", |region| region.as_str()) {
            "" => "us-east-1".to_owned(),
            "EU" => "eu-west-1".to_owned(),
            region => region.to_owned(),
        })
    }
}

fn target(arn: String, events: &[Event], filter: Option<NotificationConfigurationFilter>) -> Target {
    let rules = filter.and_then(|filter| filter.key).and_then(|key| key.filter_rules).unwrap_or_default();
    let value = |wanted: &str| {
        let named = |rule: &&FilterRule| {
            rule.name.as_ref().is_some_and(|name| name.as_str().eq_ignore_ascii_case(wanted))
        };
        rules.iter().find(named).and_then(|rule| rule.value.clone()).unwrap_or_default()
    };
    Target {
        arn,
        events: events.iter().map(|event| event.as_str().to_owned()).collect(),
        prefix: value("prefix"),
        suffix: value("suffix"),
    }
}
