//! Grants: the right to upload one object, for a while.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;

use super::{
    Base, Bucket,
    sign::{Form, Request},
};
use crate::feed::ObjectKey;

/// S3's limit on all user metadata of an object, names and values together.
const MAX_METADATA_BYTES: usize = 2048;

/// How the upload is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The body is the file: the only form that phones send from the background.
    Put,
    /// A browser form, whose policy S3 enforces.
    Post,
}

/// What a client says of the file that it wants to upload.
#[derive(Debug, Clone)]
pub struct Declared {
    /// The media type.
    pub content_type: String,
    /// Base64 of the file's SHA-256.
    pub checksum_sha256: Option<String>,
    /// What people typed, by metadata name; it travels with the object.
    pub story: BTreeMap<&'static str, String>,
}

/// The right to upload.
#[derive(Debug, Clone)]
pub struct Grant {
    /// How.
    pub method: Method,
    /// Where to.
    pub url: String,
    /// What must be sent to the letter.
    pub headers: BTreeMap<String, String>,
    /// Of a form: its fields, in the order in which they are to be sent; the file comes last.
    pub fields: Option<Vec<(String, String)>>,
    /// Until when.
    pub expires_at: Timestamp,
}

/// The story is longer than S3's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("filename, caption and uploader together have {0} bytes of metadata, S3 takes {MAX_METADATA_BYTES}")]
pub struct StoryError(usize);

impl Bucket {
    /// A grant to PUT `size` bytes of `declared` under `key`. S3 refuses another length, type or checksum, and a second
    /// upload: all of it is signed.
    ///
    /// # Errors
    /// When what people typed does not fit into the object's metadata.
    pub fn grant_put(
        &self,
        base: &Base,
        key: &ObjectKey,
        declared: &Declared,
        size: u64,
        life: Duration,
        now: Timestamp,
    ) -> Result<Grant, StoryError> {
        let mut headers: BTreeMap<_, _> = metadata(declared)?.collect();
        headers.insert("content-type".into(), declared.content_type.clone());
        headers.insert("if-none-match".into(), "*".into());
        if let Some(checksum) = &declared.checksum_sha256 {
            headers.insert("x-amz-checksum-sha256".into(), checksum.clone());
        }
        let size = size.to_string();
        let mut signed: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        signed.push(("content-length", &size));
        let request = Request { method: "PUT", key: key.as_str(), query: &[], headers: &signed };
        let signed = self.signer.sign(base, request, now, life.min(self.lives.upload_max));
        Ok(Grant {
            method: Method::Put,
            url: signed.url,
            headers,
            fields: None,
            expires_at: signed.expires_at,
        })
    }

    /// A grant to POST `declared` as a form of `sizes` bytes: the exact key, type, metadata and the sizes
    /// are in the policy.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html>
    ///
    /// # Errors
    /// When what people typed does not fit into the object's metadata.
    pub fn grant_post(
        &self,
        base: &Base,
        key: &ObjectKey,
        declared: &Declared,
        sizes: RangeInclusive<u64>,
        life: Duration,
        now: Timestamp,
    ) -> Result<Grant, StoryError> {
        let mut fields = vec![
            ("key".to_owned(), key.as_str().to_owned()),
            ("content-type".to_owned(), declared.content_type.clone()),
        ];
        fields.extend(metadata(declared)?);
        if let Some(checksum) = &declared.checksum_sha256 {
            fields.push(("x-amz-checksum-sha256".into(), checksum.clone()));
        }
        let form = Form { bucket: &self.name, sizes, fields };
        let (fields, expires_at) = self.signer.sign_form(form, now, life.min(self.lives.upload_max));
        Ok(Grant {
            method: Method::Post,
            url: format!("{}{}/", base.origin, base.path),
            headers: BTreeMap::new(),
            fields: Some(fields),
            expires_at,
        })
    }
}

/// What people typed, as headers: base64url, since metadata is ASCII.
fn metadata(declared: &Declared) -> Result<impl Iterator<Item = (String, String)>, StoryError> {
    let encoded = encoded_story(&declared.story)?;
    Ok(encoded.into_iter().map(|(name, value)| (format!("x-amz-meta-{name}"), value)))
}

/// The story by metadata name, in ASCII.
pub(super) fn encoded_story(
    story: &BTreeMap<&'static str, String>,
) -> Result<BTreeMap<&'static str, String>, StoryError> {
    let encoded: BTreeMap<_, _> =
        story.iter().map(|(name, text)| (*name, BASE64_URL_SAFE_NO_PAD.encode(text))).collect();
    let bytes = encoded.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_METADATA_BYTES { Err(StoryError(bytes)) } else { Ok(encoded) }
}

/// The text that was encoded so; `None` for what others wrote their own way.
pub(super) fn decoded(value: &str) -> Option<String> {
    String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(value).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_travels_in_ascii_and_within_the_limit_of_s3() {
        let story = BTreeMap::from([("caption", "Im Garten 🌻".to_owned()), ("filename", "ä".repeat(127))]);
        let encoded = encoded_story(&story).unwrap();
        for (name, text) in &story {
            assert!(encoded[name].bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            assert_eq!(decoded(&encoded[name]).as_ref(), Some(text));
        }
        let long = BTreeMap::from([("uploaded-by", "x".repeat(1600))]);
        assert!(encoded_story(&long).is_err());
        assert_eq!(decoded("not base64!"), None);
    }
}
