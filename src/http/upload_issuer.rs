//! Issues object keys and signs grants for them.

use std::sync::Arc;

use jiff::Timestamp;

use super::{dto::UploadSpec, upload_rules::UploadRules};
use crate::{
    bucket::{Bucket, BucketUrl, Grant, MetadataError, UploadMethod},
    feed::{FeedId, KeyError, NameSecret, ObjectKey, issue_name, name_matches_type, verify_issued_name},
};

/// Issues object keys and signs grants for them.
#[derive(Clone)]
pub struct UploadIssuer {
    bucket: Bucket,
    rules: Arc<UploadRules>,
    /// Seals the issued names.
    name_secret: Arc<NameSecret>,
}

/// What an issued name encodes of the first grant.
pub(super) struct IssuedUpload {
    /// Size in bytes.
    pub(super) size: u64,
    /// The media type that the name's extension stands for, if the server still accepts it.
    pub(super) content_type: Option<String>,
}

impl UploadIssuer {
    /// An issuer of keys in `bucket`, under `rules`.
    #[must_use]
    pub fn new(bucket: Bucket, rules: UploadRules, name_secret: NameSecret) -> Self {
        Self { bucket, rules: Arc::new(rules), name_secret: Arc::new(name_secret) }
    }

    pub(super) fn rules(&self) -> &UploadRules {
        &self.rules
    }

    /// Issues a new, unique object key in `feed`.
    pub(super) fn issue_key(
        &self,
        feed: &FeedId,
        content_type: &str,
        size: u64,
    ) -> Result<ObjectKey, KeyError> {
        let name = issue_name(&self.name_secret, feed, content_type, size, Timestamp::now());
        self.build_key(feed, &name)
    }

    /// The object key of the photo `name` in `feed`.
    pub(super) fn build_key(&self, feed: &FeedId, name: &str) -> Result<ObjectKey, KeyError> {
        ObjectKey::build(self.bucket.prefix(), feed, name)
    }

    /// What `name` encodes, if this deployment issued it for `feed`.
    pub(super) fn read_issued_name(&self, feed: &FeedId, name: &str) -> Option<IssuedUpload> {
        let size = verify_issued_name(&self.name_secret, feed, name, Timestamp::now())?;
        let matches = |content_type: &&String| name_matches_type(name, content_type);
        Some(IssuedUpload { size, content_type: self.rules.content_types.iter().find(matches).cloned() })
    }

    /// Signs the grant of an upload to `key`.
    pub(super) fn sign_grant(
        &self,
        bucket_url: &BucketUrl,
        key: &ObjectKey,
        upload: &UploadSpec,
    ) -> Result<Grant, MetadataError> {
        let UploadSpec { metadata, size, method, ttl } = upload;
        let (bucket, now) = (&self.bucket, Timestamp::now());
        match method {
            UploadMethod::Put => bucket.grant_put(bucket_url, key, metadata, *size, *ttl, now),
            UploadMethod::Post => bucket.grant_post(bucket_url, key, metadata, *size..=*size, *ttl, now),
        }
    }
}
