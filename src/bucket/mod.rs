//! What we ask of S3: signed URLs, and the few calls that the server makes itself.

mod grant;
mod look;
mod multipart;
mod probe;
mod settings;
mod sign;
mod view;

use std::{sync::Arc, time::Duration};

use aws_config::SdkConfig;
use aws_sdk_s3::{
    Client,
    config::timeout::TimeoutConfig,
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    operation::head_object::HeadObjectError,
};
use jiff::Timestamp;

use crate::feed::{FeedId, KeyPrefix, ObjectKey};

pub use grant::{Declared, Grant, Method, StoryError};
pub use look::Look;
pub use multipart::{MultipartError, MultipartUpload, Named, Part};
pub use probe::Ping;
pub use settings::{CorsRule, Encryption, Notification, Target};
pub use sign::{Base, Signer, SignerError};
pub use view::ViewUrl;

/// For how long S3 may take over one attempt at a call.
const ATTEMPT: Duration = Duration::from_secs(10);
/// For how long over all of them: whoever waits for us waits no longer than 30 s (Heroku's limit).
const CALL: Duration = Duration::from_secs(20);

/// The bucket of this deployment.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
    signer: Arc<Signer>,
    name: Arc<str>,
    prefix: KeyPrefix,
    lives: Lives,
}

/// How long signed URLs live.
#[derive(Debug, Clone, Copy)]
pub struct Lives {
    /// Of URLs that show a photo.
    pub view: Duration,
    /// The most that an upload is granted.
    pub upload_max: Duration,
}

/// A call to the bucket did not work out.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// S3 refused or could not be reached.
    #[error("{call} on bucket {bucket} failed: {code}")]
    Call {
        /// The operation.
        call: &'static str,
        /// The bucket.
        bucket: Arc<str>,
        /// S3's error code, or what stood in the way.
        code: String,
    },
    /// No URL could be signed.
    #[error(transparent)]
    Sign(#[from] SignerError),
}

impl BucketError {
    /// Whether S3 answered, and said that this is not allowed.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.says("AccessDenied")
    }

    /// Whether S3 answered, and said that the bucket is in another region.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        self.says("PermanentRedirect") || self.says("AuthorizationHeaderMalformed")
    }

    /// Whether S3 answered, and said that it does not know these credentials.
    #[must_use]
    pub fn is_wrong_key(&self) -> bool {
        self.says("InvalidAccessKeyId") || self.says("SignatureDoesNotMatch")
    }

    /// Whether S3 answered, and said that these temporary credentials are over.
    #[must_use]
    pub fn is_expired_key(&self) -> bool {
        self.says("ExpiredToken") || self.says("InvalidToken")
    }

    fn says(&self, wanted: &str) -> bool {
        matches!(self, Self::Call { code, .. } if code == wanted)
    }
}

/// What HEAD knows of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Bytes.
    pub size: Option<u64>,
    /// Without quotes.
    pub e_tag: Option<String>,
}

/// One object of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: ObjectKey,
    /// Bytes.
    pub size: u64,
    /// Without quotes; some stores leave it out.
    pub e_tag: Option<String>,
    /// When it was stored.
    pub last_modified: Option<Timestamp>,
}

/// One page of a feed's photos, in S3's order.
#[derive(Debug)]
pub struct Page {
    /// Keys that are none of a photo's are left out.
    pub photos: Vec<Listed>,
    /// The key to go on after, where more follow.
    pub next: Option<String>,
}

impl Bucket {
    /// Connects to `name`. Asks the SDK once where the bucket lives, so that our URLs point there too.
    ///
    /// # Errors
    /// When there are no credentials or no region.
    pub async fn connect(
        sdk: &SdkConfig,
        name: &str,
        prefix: KeyPrefix,
        lives: Lives,
    ) -> Result<Self, SignerError> {
        let client = Client::from_conf(s3_config(sdk, name));
        let signer = Arc::new(Signer::learn(sdk, &client, name).await?);
        Ok(Self { client, signer, name: name.into(), prefix, lives })
    }

    /// The bucket's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What every key begins with.
    #[must_use]
    pub fn prefix(&self) -> &KeyPrefix {
        &self.prefix
    }

    /// Where signed URLs point when the receiver's own view of the host does not matter.
    #[must_use]
    pub fn base(&self) -> &Base {
        self.signer.base()
    }

    /// What is stored under `key`; `None` when there is nothing (S3 says so only to those who may list).
    ///
    /// # Errors
    /// When S3 can't tell.
    pub async fn head(&self, key: &ObjectKey) -> Result<Option<Stored>, BucketError> {
        match self.client.head_object().bucket(&*self.name).key(key.as_str()).send().await {
            Ok(head) => Ok(Some(Stored {
                size: head.content_length.and_then(|size| size.try_into().ok()),
                e_tag: head.e_tag.map(|tag| unquoted(&tag)),
            })),
            Err(error) if error.as_service_error().is_some_and(HeadObjectError::is_not_found) => Ok(None),
            Err(error) => Err(self.failed("HeadObject", &error)),
        }
    }

    /// Deletes `key`; also right when there is nothing.
    ///
    /// # Errors
    /// When S3 did not do it.
    pub async fn delete(&self, key: &ObjectKey) -> Result<(), BucketError> {
        let call = self.client.delete_object().bucket(&*self.name).key(key.as_str());
        call.send().await.map_err(|error| self.failed("DeleteObject", &error))?;
        Ok(())
    }

    /// One page of the feed's photos after the key `after`.
    ///
    /// # Errors
    /// When S3 can't list.
    pub async fn list(&self, feed: &FeedId, after: Option<&str>, limit: u16) -> Result<Page, BucketError> {
        let page = self
            .client
            .list_objects_v2()
            .bucket(&*self.name)
            .prefix(self.prefix.of_feed(feed))
            .set_start_after(after.map(str::to_owned))
            .max_keys(limit.into())
            .send()
            .await
            .map_err(|error| self.failed("ListObjectsV2", &error))?;
        let objects = page.contents.unwrap_or_default();
        let truncated = page.is_truncated.unwrap_or(false);
        let next = objects.last().and_then(|last| last.key.clone()).filter(|_| truncated);
        let photos = objects.into_iter().filter_map(|object| self.listed(object)).collect();
        Ok(Page { photos, next })
    }

    /// Whether the bucket answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), BucketError> {
        let call = self.client.list_objects_v2().bucket(&*self.name).max_keys(1);
        let call = call.prefix(self.prefix.as_str());
        call.send().await.map_err(|error| self.failed("ListObjectsV2", &error))?;
        Ok(())
    }

    fn listed(&self, object: aws_sdk_s3::types::Object) -> Option<Listed> {
        Some(Listed {
            key: ObjectKey::parse(&self.prefix, &object.key?).ok()?,
            size: object.size.and_then(|size| size.try_into().ok()).unwrap_or(0),
            e_tag: object.e_tag.map(|tag| unquoted(&tag)),
            last_modified: object.last_modified.and_then(|time| Timestamp::from_second(time.secs()).ok()),
        })
    }

    fn failed<E>(&self, call: &'static str, error: &SdkError<E>) -> BucketError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let code = error.code().map_or_else(|| DisplayErrorContext(error).to_string(), str::to_owned);
        BucketError::Call { call, bucket: self.name.clone(), code }
    }
}

/// Path style where a virtual host can't be: under another endpoint, or with a dot in the name (whose
/// host no wildcard certificate covers).
fn s3_config(sdk: &SdkConfig, bucket: &str) -> aws_sdk_s3::Config {
    let elsewhere = sdk.endpoint_url().is_some()
        || ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"].iter().any(|name| std::env::var_os(name).is_some());
    aws_sdk_s3::config::Builder::from(sdk)
        .force_path_style(elsewhere || bucket.contains('.'))
        .timeout_config(timeouts(ATTEMPT))
        .build()
}

/// Limits for a call whose attempts may each take so long.
fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(attempt)
        .operation_timeout(CALL)
        .build()
}

fn unquoted(e_tag: &str) -> String {
    e_tag.trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests;
