//! Uploads in parts: the server begins and ends them, clients send the parts to signed URLs.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>

use std::{collections::HashMap, time::Duration};

use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    types::{CompletedMultipartUpload, CompletedPart},
};
use jiff::Timestamp;

use super::{
    Base, Bucket, BucketError, CALL, Declared, StoryError, ViewUrl, grant::encoded_story, sign::Request,
    timeouts,
};
use crate::feed::ObjectKey;

/// For how long the calls that complete an upload may take together.
const COMPLETION: Duration = Duration::from_secs(25);

/// An upload in parts that has begun.
#[derive(Debug, Clone, Copy)]
pub struct MultipartUpload<'a> {
    /// What it will be stored as.
    pub key: &'a ObjectKey,
    /// S3's name for it.
    pub id: &'a str,
}

/// A part that S3 has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u16,
    /// As S3 says it, with its quotes.
    pub e_tag: String,
    /// Bytes.
    pub size: u64,
}

/// The parts that a client says make up the object.
pub type Named = Vec<(u16, String)>;

/// Something did not work out with an upload in parts.
#[derive(Debug, thiserror::Error)]
pub enum MultipartError {
    /// It was completed, aborted, or never was.
    #[error("there is no such multipart upload of this key")]
    NoSuchUpload,
    /// A part that the client names is not there, or is another, or is too small.
    #[error("the parts are not those that were uploaded: {0}")]
    Parts(String),
    /// The key is taken.
    #[error("there is an object of this key already")]
    AlreadyStored,
    /// All together, the parts are larger than may be; the upload was aborted.
    #[error("the parts have {size} bytes together, at most {max} are taken")]
    TooLarge {
        /// What they have.
        size: u64,
        /// What they may have.
        max: u64,
    },
    /// What people typed does not fit into the object's metadata.
    #[error(transparent)]
    Story(#[from] StoryError),
    /// S3 can't do it now.
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

impl Bucket {
    /// Begins an upload of `declared` in parts; gives S3's name for it.
    ///
    /// # Errors
    /// When what people typed does not fit into the metadata, or S3 did not do it.
    pub async fn create_multipart(
        &self,
        key: &ObjectKey,
        declared: &Declared,
    ) -> Result<String, MultipartError> {
        let story = encoded_story(&declared.story)?;
        let metadata = story.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let call = self.client.create_multipart_upload().bucket(&*self.name).key(key.as_str());
        let call = call.content_type(&declared.content_type).set_metadata(Some(metadata));
        let created = call.send().await.map_err(|error| self.failed("CreateMultipartUpload", &error))?;
        Ok(created.upload_id.unwrap_or_default())
    }

    /// Where to PUT a part.
    #[must_use]
    pub fn part_url(
        &self,
        base: &Base,
        upload: MultipartUpload<'_>,
        number: u16,
        life: Duration,
        now: Timestamp,
    ) -> ViewUrl {
        let number = number.to_string();
        let query = [("partNumber", &*number), ("uploadId", upload.id)];
        let request = Request { method: "PUT", key: upload.key.as_str(), query: &query, headers: &[] };
        self.signer.sign(base, request, now, life.min(self.lives.upload_max))
    }

    /// The parts that S3 has, all pages of them.
    ///
    /// # Errors
    /// When there is no such upload, or S3 can't tell.
    pub async fn parts(&self, upload: MultipartUpload<'_>) -> Result<Vec<Part>, MultipartError> {
        let call = self.client.list_parts().bucket(&*self.name).key(upload.key.as_str());
        let mut pages = call.upload_id(upload.id).into_paginator().send();
        let mut parts = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.refused("ListParts", &error))?;
            parts.extend(page.parts.unwrap_or_default().into_iter().filter_map(part));
        }
        Ok(parts)
    }

    /// Makes one object of the parts that the client names. Only those count, each as S3 has it: a part
    /// that is replaced meanwhile has another tag, and S3 refuses it. Right also when it was done before:
    /// S3's answer, or ours, may have been lost.
    ///
    /// # Errors
    /// When the parts are not those that S3 has, or too large together: then the upload is aborted. When
    /// it takes too long: S3 may still do it, and the next try finds it done.
    pub async fn complete_multipart(
        &self,
        upload: MultipartUpload<'_>,
        named: &Named,
        max: u64,
    ) -> Result<(), MultipartError> {
        let completed = async {
            match self.try_complete(upload, named, max).await {
                Err(MultipartError::NoSuchUpload | MultipartError::AlreadyStored)
                    if self.holds(upload.key, named).await? =>
                {
                    Ok(())
                }
                done => done,
            }
        };
        let late = |_| {
            let (call, code) = ("CompleteMultipartUpload", "it takes too long".to_owned());
            Err(BucketError::Call { call, bucket: self.name.clone(), code }.into())
        };
        tokio::time::timeout(COMPLETION, completed).await.unwrap_or_else(late)
    }

    async fn try_complete(
        &self,
        upload: MultipartUpload<'_>,
        named: &Named,
        max: u64,
    ) -> Result<(), MultipartError> {
        let parts = chosen(&self.parts(upload).await?, named)?;
        let size = parts.iter().map(|part| part.size).sum();
        if size > max {
            self.abort_multipart(upload).await?;
            return Err(MultipartError::TooLarge { size, max });
        }
        let parts = parts
            .iter()
            .map(|part| CompletedPart::builder().part_number(part.number.into()).e_tag(&part.e_tag).build());
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let call = self.client.complete_multipart_upload().bucket(&*self.name).key(upload.key.as_str());
        let call = call.upload_id(upload.id).multipart_upload(parts).if_none_match("*").customize();
        let call = call.config_override(aws_sdk_s3::config::Builder::new().timeout_config(timeouts(CALL)));
        call.send().await.map_err(|error| self.refused("CompleteMultipartUpload", &error))?;
        Ok(())
    }

    /// Whether `key` holds what the parts that a client names make up: a multipart tag ends in their number.
    async fn holds(&self, key: &ObjectKey, named: &Named) -> Result<bool, BucketError> {
        let e_tag = self.head(key).await?.and_then(|stored| stored.e_tag);
        Ok(e_tag.is_some_and(|tag| tag.ends_with(&format!("-{}", named.len()))))
    }

    /// Ends the upload and drops its parts; also right when there is none.
    ///
    /// # Errors
    /// When S3 did not do it.
    pub async fn abort_multipart(&self, upload: MultipartUpload<'_>) -> Result<(), MultipartError> {
        let call = self.client.abort_multipart_upload().bucket(&*self.name).key(upload.key.as_str());
        match call.upload_id(upload.id).send().await {
            Ok(_) => Ok(()),
            Err(error) => match self.refused("AbortMultipartUpload", &error) {
                MultipartError::NoSuchUpload => Ok(()),
                error => Err(error),
            },
        }
    }

    fn refused<E>(&self, call: &'static str, error: &SdkError<E>) -> MultipartError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        match error.code() {
            Some("NoSuchUpload" | "NoSuchKey") => MultipartError::NoSuchUpload,
            Some("PreconditionFailed" | "ConditionalRequestConflict") => MultipartError::AlreadyStored,
            Some(code @ ("InvalidPart" | "InvalidPartOrder" | "EntityTooSmall")) => {
                MultipartError::Parts(code.to_owned())
            }
            _ => self.failed(call, error).into(),
        }
    }
}

fn part(part: aws_sdk_s3::types::Part) -> Option<Part> {
    Some(Part {
        number: part.part_number?.try_into().ok()?,
        e_tag: part.e_tag?,
        size: part.size?.try_into().ok()?,
    })
}

/// Those of `stored` that are named, in their order.
fn chosen(stored: &[Part], named: &Named) -> Result<Vec<Part>, MultipartError> {
    let by_number: HashMap<_, _> = stored.iter().map(|part| (part.number, part)).collect();
    if named.is_empty() {
        return Err(MultipartError::Parts("none is named".into()));
    }
    if !named.windows(2).all(|pair| pair[0].0 < pair[1].0) {
        return Err(MultipartError::Parts("they must be named in ascending order, each once".into()));
    }
    let found = named.iter().map(|(number, e_tag)| {
        let part = by_number.get(number).filter(|part| bare(&part.e_tag) == bare(e_tag));
        part.map(|part| (*part).clone())
            .ok_or_else(|| MultipartError::Parts(format!("part {number} is not there, or is another")))
    });
    found.collect()
}

fn bare(e_tag: &str) -> &str {
    e_tag.trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parts_that_s3_has_make_up_an_object() {
        let stored = [1, 2, 4].map(|number| Part { number, e_tag: format!("\"t{number}\""), size: 5 });
        for (named, numbers) in [
            (vec![(1, "t1"), (2, "\"t2\"")], Some(vec![1, 2])),
            (vec![(4, "t4")], Some(vec![4])),
            (vec![], None),
            (vec![(2, "t2"), (1, "t1")], None),
            (vec![(1, "t1"), (1, "t1")], None),
            (vec![(3, "t3")], None),
            (vec![(1, "t2")], None),
        ] {
            let named = named.into_iter().map(|(number, tag)| (number, tag.to_owned())).collect();
            let got = chosen(&stored, &named).ok();
            let got = got.map(|parts| parts.iter().map(|part| part.number).collect::<Vec<_>>());
            assert_eq!(got, numbers, "{named:?}");
        }
    }
}
