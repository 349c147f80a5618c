//! The S3 bucket: signed URLs for clients, and the API calls that the server makes itself.

mod grant;
mod multipart;
mod object_sample;
mod ping;
mod sign;
mod view_url;

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

pub use grant::{Grant, MetadataError, ObjectMetadata, UploadMethod};
pub use multipart::{MultipartError, MultipartUpload, RequestedParts, StoredPart};
pub use object_sample::ObjectSample;
pub use ping::Ping;
pub use sign::{BucketUrl, SignedUrl, Signer, SignerError};

/// Timeout of one attempt at an S3 call.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of an S3 call including its retries. Less than the 30 s after which Heroku closes a request
/// without a response.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// The bucket of the deployment.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
    signer: Arc<Signer>,
    name: Arc<str>,
    prefix: KeyPrefix,
    url_ttls: UrlTtls,
}

/// TTLs of signed URLs.
#[derive(Debug, Clone, Copy)]
pub struct UrlTtls {
    /// TTL of URLs that show a photo.
    pub view: Duration,
    /// Maximum TTL of an upload grant.
    pub upload_max: Duration,
}

/// Error of an S3 call.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// S3 returned an error or is unreachable.
    #[error("{call} on bucket {bucket} failed: {code}")]
    Call {
        /// Name of the S3 operation.
        call: &'static str,
        /// Name of the bucket.
        bucket: Arc<str>,
        /// S3's error code; the error message if S3 returned none.
        code: String,
    },
    /// Failed to sign a URL.
    #[error(transparent)]
    Sign(#[from] SignerError),
}

impl BucketError {
    /// Whether S3 denied access.
    #[must_use]
    pub fn is_access_denied(&self) -> bool {
        self.has_code("AccessDenied")
    }

    /// Whether S3 returned the error code `expected`.
    pub(crate) fn has_code(&self, expected: &str) -> bool {
        matches!(self, Self::Call { code, .. } if code == expected)
    }
}

/// Attributes of a stored object, as HEAD returns them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// Size in bytes.
    pub size: Option<u64>,
    /// Entity tag, without quotes.
    pub e_tag: Option<String>,
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Key of the object.
    pub key: ObjectKey,
    /// Size in bytes.
    pub size: u64,
    /// Entity tag, without quotes; some S3-compatible stores omit it.
    pub e_tag: Option<String>,
    /// Time of the last write.
    pub last_modified: Option<Timestamp>,
}

/// One page of a feed's photos, in key order.
#[derive(Debug)]
pub struct ObjectPage {
    /// The photos. Objects whose keys are not valid photo keys are omitted.
    pub photos: Vec<ListedObject>,
    /// The key after which the next page starts; `None` on the last page.
    pub next: Option<String>,
}

impl Bucket {
    /// Creates a client for the bucket `name` and resolves its endpoint for signed URLs. Sends no request to
    /// S3.
    ///
    /// # Errors
    /// When the SDK has no credentials, region or endpoint.
    pub async fn connect(
        sdk: &SdkConfig,
        name: &str,
        prefix: KeyPrefix,
        url_ttls: UrlTtls,
    ) -> Result<Self, SignerError> {
        let client = Client::from_conf(build_s3_config(sdk, name));
        let signer = Arc::new(Signer::discover(sdk, &client, name).await?);
        Ok(Self { client, signer, name: name.into(), prefix, url_ttls })
    }

    /// Name of the bucket.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Prefix of every key.
    #[must_use]
    pub fn prefix(&self) -> &KeyPrefix {
        &self.prefix
    }

    /// URL of the bucket as this process reaches it. Signed URLs for clients may need another origin.
    #[must_use]
    pub fn url(&self) -> &BucketUrl {
        self.signer.bucket_url()
    }

    /// The SDK's client, for the calls that only the doctor makes.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the attributes of the object `key`, or `None` if it does not exist. (Without the permission
    /// `s3:ListBucket`, S3 denies access instead.)
    ///
    /// # Errors
    /// When the call fails.
    pub async fn head_object(&self, key: &ObjectKey) -> Result<Option<StoredObject>, BucketError> {
        match self.client.head_object().bucket(&*self.name).key(key.as_str()).send().await {
            Ok(head) => Ok(Some(StoredObject {
                size: head.content_length.and_then(|size| size.try_into().ok()),
                e_tag: head.e_tag.map(|tag| strip_quotes(&tag)),
            })),
            Err(error) if error.as_service_error().is_some_and(HeadObjectError::is_not_found) => Ok(None),
            Err(error) => Err(self.call_error("HeadObject", &error)),
        }
    }

    /// Deletes the object `key`. Succeeds also if it does not exist.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn delete_object(&self, key: &ObjectKey) -> Result<(), BucketError> {
        let call = self.client.delete_object().bucket(&*self.name).key(key.as_str());
        call.send().await.map_err(|error| self.call_error("DeleteObject", &error))?;
        Ok(())
    }

    /// Returns one page of at most `limit` photos of `feed`, starting after the key `after`.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_objects(
        &self,
        feed: &FeedId,
        after: Option<&str>,
        limit: u16,
    ) -> Result<ObjectPage, BucketError> {
        let page = self
            .client
            .list_objects_v2()
            .bucket(&*self.name)
            .prefix(self.prefix.feed_prefix(feed))
            .set_start_after(after.map(str::to_owned))
            .max_keys(limit.into())
            .send()
            .await
            .map_err(|error| self.call_error("ListObjectsV2", &error))?;
        let objects = page.contents.unwrap_or_default();
        let truncated = page.is_truncated.unwrap_or(false);
        let next = objects.last().and_then(|last| last.key.clone()).filter(|_| truncated);
        let photos = objects.into_iter().filter_map(|object| self.parse_listed_object(object)).collect();
        Ok(ObjectPage { photos, next })
    }

    /// Makes one cheap call that needs the same permissions as the others.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn check_access(&self) -> Result<(), BucketError> {
        let call = self.client.list_objects_v2().bucket(&*self.name).max_keys(1);
        let call = call.prefix(self.prefix.as_str());
        call.send().await.map_err(|error| self.call_error("ListObjectsV2", &error))?;
        Ok(())
    }

    fn parse_listed_object(&self, object: aws_sdk_s3::types::Object) -> Option<ListedObject> {
        Some(ListedObject {
            key: ObjectKey::parse(&self.prefix, &object.key?).ok()?,
            size: object.size.and_then(|size| size.try_into().ok()).unwrap_or(0),
            e_tag: object.e_tag.map(|tag| strip_quotes(&tag)),
            last_modified: object.last_modified.and_then(|time| Timestamp::from_second(time.secs()).ok()),
        })
    }

    /// Describes a failed `call` of the SDK by S3's error code.
    pub(crate) fn call_error<E>(&self, call: &'static str, error: &SdkError<E>) -> BucketError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let code = error.code().map_or_else(|| DisplayErrorContext(error).to_string(), str::to_owned);
        BucketError::Call { call, bucket: self.name.clone(), code }
    }
}

/// Selects path-style addressing where virtual hosts don't work: with a custom endpoint, and for a name with
/// a dot, which the wildcard certificate of S3 does not cover.
fn build_s3_config(sdk: &SdkConfig, bucket: &str) -> aws_sdk_s3::Config {
    let has_custom_endpoint = sdk.endpoint_url().is_some()
        || ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"].iter().any(|name| std::env::var_os(name).is_some());
    aws_sdk_s3::config::Builder::from(sdk)
        .force_path_style(has_custom_endpoint || bucket.contains('.'))
        .timeout_config(build_timeouts(ATTEMPT_TIMEOUT))
        .build()
}

fn build_timeouts(attempt_timeout: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(attempt_timeout)
        .operation_timeout(CALL_TIMEOUT)
        .build()
}

fn strip_quotes(e_tag: &str) -> String {
    e_tag.trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests;
