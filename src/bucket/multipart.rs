//! Multipart uploads: the server creates and completes them, clients send the parts to signed URLs. See
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>

use std::{collections::HashMap, time::Duration};

use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    types::{CompletedMultipartUpload, CompletedPart},
};
use jiff::Timestamp;

use super::{
    Bucket, BucketError, BucketUrl, CALL_TIMEOUT, MetadataError, ObjectMetadata, SignedUrl, build_timeouts,
    grant::encode_user_metadata, sign::PresignRequest,
};
use crate::feed::ObjectKey;

/// Timeout of all calls that complete an upload.
const COMPLETION_TIMEOUT: Duration = Duration::from_secs(25);

/// A multipart upload in progress.
#[derive(Debug, Clone, Copy)]
pub struct MultipartUpload<'a> {
    /// Key of the object that it will become.
    pub key: &'a ObjectKey,
    /// Upload ID that S3 assigned.
    pub id: &'a str,
}

/// An uploaded part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    /// Part number, from 1.
    pub number: u16,
    /// Entity tag as S3 returns it, with quotes.
    pub e_tag: String,
    /// Size in bytes.
    pub size: u64,
}

/// The parts that a client requests to combine: part numbers and entity tags.
pub type RequestedParts = Vec<(u16, String)>;

/// Error of a multipart upload.
#[derive(Debug, thiserror::Error)]
pub enum MultipartError {
    /// The upload does not exist: it may have been completed or aborted.
    #[error("this key has no such multipart upload")]
    NoSuchUpload,
    /// A requested part is missing, different, too small or out of order.
    #[error("the parts can't be combined: {0}")]
    Parts(String),
    /// Another object has this key.
    #[error("an object with this key exists already")]
    AlreadyStored,
    /// The parts together exceed the limit; the upload was aborted.
    #[error("the parts have {size} bytes in total, the limit is {max}")]
    TooLarge {
        /// Size of all parts, in bytes.
        size: u64,
        /// Limit, in bytes.
        max: u64,
    },
    /// The user-defined metadata exceeds S3's limit.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// An S3 call failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

impl Bucket {
    /// Creates a multipart upload to `key` and returns its upload ID.
    ///
    /// # Errors
    /// When the user-defined metadata exceeds S3's limit, or the call fails.
    pub async fn create_multipart_upload(
        &self,
        key: &ObjectKey,
        metadata: &ObjectMetadata,
    ) -> Result<String, MultipartError> {
        let user_metadata = encode_user_metadata(&metadata.user_metadata)?;
        let user_metadata = user_metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let call = self.client.create_multipart_upload().bucket(&*self.name).key(key.as_str());
        let call = call.content_type(&metadata.content_type).set_metadata(Some(user_metadata));
        let created = call.send().await.map_err(|error| self.call_error("CreateMultipartUpload", &error))?;
        Ok(created.upload_id.unwrap_or_default())
    }

    /// Signs a PUT URL for the part `number`.
    #[must_use]
    pub fn presign_part(
        &self,
        bucket_url: &BucketUrl,
        upload: MultipartUpload<'_>,
        number: u16,
        ttl: Duration,
        now: Timestamp,
    ) -> SignedUrl {
        let number = number.to_string();
        let query = [("partNumber", &*number), ("uploadId", upload.id)];
        let request = PresignRequest { method: "PUT", key: upload.key.as_str(), query: &query, headers: &[] };
        self.signer.presign(bucket_url, request, now, ttl.min(self.url_ttls.upload_max))
    }

    /// Lists all uploaded parts.
    ///
    /// # Errors
    /// When the upload does not exist, or a call fails.
    pub async fn list_parts(&self, upload: MultipartUpload<'_>) -> Result<Vec<StoredPart>, MultipartError> {
        let call = self.client.list_parts().bucket(&*self.name).key(upload.key.as_str());
        let mut pages = call.upload_id(upload.id).into_paginator().send();
        let mut parts = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.multipart_error("ListParts", &error))?;
            parts.extend(page.parts.unwrap_or_default().into_iter().filter_map(parse_part));
        }
        Ok(parts)
    }

    /// Combines the requested parts into one object of at most `max` bytes. A part that the client has
    /// replaced since has another tag, and S3 refuses it. Idempotent: succeeds also if the upload was
    /// completed before, since the earlier response may have been lost.
    ///
    /// # Errors
    /// When the requested parts differ from the uploaded ones, or exceed `max` together, which aborts the
    /// upload. After a timeout S3 may still complete the upload; a retry then succeeds.
    pub async fn complete_multipart_upload(
        &self,
        upload: MultipartUpload<'_>,
        requested: &RequestedParts,
        max: u64,
    ) -> Result<(), MultipartError> {
        let complete = async {
            match self.try_complete(upload, requested, max).await {
                Err(MultipartError::NoSuchUpload | MultipartError::AlreadyStored)
                    if self.is_completed(upload.key, requested).await? =>
                {
                    Ok(())
                }
                result => result,
            }
        };
        let timed_out = |_| {
            let (call, code) =
                ("CompleteMultipartUpload", format!("no response within {} s", COMPLETION_TIMEOUT.as_secs()));
            Err(BucketError::Call { call, bucket: self.name.clone(), code }.into())
        };
        tokio::time::timeout(COMPLETION_TIMEOUT, complete).await.unwrap_or_else(timed_out)
    }

    async fn try_complete(
        &self,
        upload: MultipartUpload<'_>,
        requested: &RequestedParts,
        max: u64,
    ) -> Result<(), MultipartError> {
        let parts = select_parts(&self.list_parts(upload).await?, requested)?;
        let size = parts.iter().map(|part| part.size).sum();
        if size > max {
            self.abort_multipart_upload(upload).await?;
            return Err(MultipartError::TooLarge { size, max });
        }
        let parts = parts
            .iter()
            .map(|part| CompletedPart::builder().part_number(part.number.into()).e_tag(&part.e_tag).build());
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let call = self.client.complete_multipart_upload().bucket(&*self.name).key(upload.key.as_str());
        let call = call.upload_id(upload.id).multipart_upload(parts).if_none_match("*").customize();
        let call = call
            .config_override(aws_sdk_s3::config::Builder::new().timeout_config(build_timeouts(CALL_TIMEOUT)));
        call.send().await.map_err(|error| self.multipart_error("CompleteMultipartUpload", &error))?;
        Ok(())
    }

    /// Whether `key` is the object that the requested parts make up. The tag of such an object ends with the
    /// number of its parts.
    async fn is_completed(&self, key: &ObjectKey, requested: &RequestedParts) -> Result<bool, BucketError> {
        let e_tag = self.head_object(key).await?.and_then(|stored| stored.e_tag);
        Ok(e_tag.is_some_and(|tag| tag.ends_with(&format!("-{}", requested.len()))))
    }

    /// Aborts the upload and deletes its parts. Succeeds also if the upload does not exist.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn abort_multipart_upload(&self, upload: MultipartUpload<'_>) -> Result<(), MultipartError> {
        let call = self.client.abort_multipart_upload().bucket(&*self.name).key(upload.key.as_str());
        match call.upload_id(upload.id).send().await {
            Ok(_) => Ok(()),
            Err(error) => match self.multipart_error("AbortMultipartUpload", &error) {
                MultipartError::NoSuchUpload => Ok(()),
                error => Err(error),
            },
        }
    }

    fn multipart_error<E>(&self, call: &'static str, error: &SdkError<E>) -> MultipartError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        match error.code() {
            Some("NoSuchUpload" | "NoSuchKey") => MultipartError::NoSuchUpload,
            Some("PreconditionFailed" | "ConditionalRequestConflict") => MultipartError::AlreadyStored,
            Some(code @ ("InvalidPart" | "InvalidPartOrder" | "EntityTooSmall")) => {
                MultipartError::Parts(code.to_owned())
            }
            _ => self.call_error(call, error).into(),
        }
    }
}

fn parse_part(part: aws_sdk_s3::types::Part) -> Option<StoredPart> {
    Some(StoredPart {
        number: part.part_number?.try_into().ok()?,
        e_tag: part.e_tag?,
        size: part.size?.try_into().ok()?,
    })
}

/// Returns the requested parts as S3 stores them.
fn select_parts(
    uploaded: &[StoredPart],
    requested: &RequestedParts,
) -> Result<Vec<StoredPart>, MultipartError> {
    let by_number: HashMap<_, _> = uploaded.iter().map(|part| (part.number, part)).collect();
    if requested.is_empty() {
        return Err(MultipartError::Parts("the list is empty".into()));
    }
    if !requested.windows(2).all(|pair| pair[0].0 < pair[1].0) {
        return Err(MultipartError::Parts("their numbers must be unique and in ascending order".into()));
    }
    let parts = requested.iter().map(|(number, e_tag)| {
        let part =
            by_number.get(number).filter(|part| part.e_tag.trim_matches('"') == e_tag.trim_matches('"'));
        part.map(|part| (*part).clone())
            .ok_or_else(|| MultipartError::Parts(format!("part {number} is missing or has another eTag")))
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_uploaded_parts_in_ascending_order_are_selected() {
        let uploaded =
            [1, 2, 4].map(|number| StoredPart { number, e_tag: format!("\"t{number}\""), size: 5 });
        for (requested, numbers) in [
            (vec![(1, "t1"), (2, "\"t2\"")], Some(vec![1, 2])),
            (vec![(4, "t4")], Some(vec![4])),
            (vec![], None),
            (vec![(2, "t2"), (1, "t1")], None),
            (vec![(1, "t1"), (1, "t1")], None),
            (vec![(3, "t3")], None),
            (vec![(1, "t2")], None),
        ] {
            let requested = requested.into_iter().map(|(number, tag)| (number, tag.to_owned())).collect();
            let selected = select_parts(&uploaded, &requested).ok();
            let selected = selected.map(|parts| parts.iter().map(|part| part.number).collect::<Vec<_>>());
            assert_eq!(selected, numbers, "{requested:?}");
        }
    }
}
