//! Upload grants: signed requests that each store one object.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Bucket, BucketUrl, SignedUrl,
    sign::{PostForm, PresignRequest},
};
use crate::feed::ObjectKey;

/// S3's limit on the user-defined metadata of an object: the bytes of all names and values.
const MAX_METADATA_BYTES: usize = 2048;

/// How a client sends the upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum UploadMethod {
    /// A PUT whose body is the file. Phones send no other request in the background.
    Put,
    /// A multipart form POST, as browsers send it. S3 enforces its policy.
    Post,
}

/// Metadata of an object that a client is going to upload.
#[derive(Debug, Clone)]
pub struct ObjectMetadata {
    /// Media type.
    pub content_type: String,
    /// SHA-256 of the file, in Base64.
    pub checksum_sha256: Option<String>,
    /// User-defined metadata by name: file name, caption and uploader.
    pub user_metadata: BTreeMap<&'static str, String>,
}

/// A signed upload request.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Method of the request.
    pub method: UploadMethod,
    /// URL of the request.
    pub url: String,
    /// Headers that the client must send verbatim.
    pub headers: BTreeMap<String, String>,
    /// Fields of the form in the order in which to send them, before the file; `None` for PUT.
    pub fields: Option<Vec<(String, String)>>,
    /// When S3 stops accepting the request.
    pub expires_at: Timestamp,
}

/// The user-defined metadata exceeds S3's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("filename, caption and uploader take {0} bytes of metadata, the limit is {MAX_METADATA_BYTES}")]
pub struct MetadataError(usize);

impl Bucket {
    /// Signs a PUT of exactly `size` bytes to `key`. The signature covers the length, type and checksum, and
    /// the header `If-None-Match: *`: S3 refuses any other file, and a second upload.
    ///
    /// # Errors
    /// When the user-defined metadata exceeds S3's limit.
    pub fn grant_put(
        &self,
        bucket_url: &BucketUrl,
        key: &ObjectKey,
        metadata: &ObjectMetadata,
        size: u64,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Grant, MetadataError> {
        let mut headers: BTreeMap<_, _> = metadata_headers(metadata)?.collect();
        headers.insert("content-type".into(), metadata.content_type.clone());
        headers.insert("if-none-match".into(), "*".into());
        if let Some(checksum) = &metadata.checksum_sha256 {
            headers.insert("x-amz-checksum-sha256".into(), checksum.clone());
        }
        let ttl = ttl.min(self.url_ttls.upload_max);
        let signed = self.presign_put(bucket_url, key.as_str(), &headers, size, ttl, now);
        Ok(Grant {
            method: UploadMethod::Put,
            url: signed.url,
            headers,
            fields: None,
            expires_at: signed.expires_at,
        })
    }

    /// Signs a PUT of exactly `size` bytes to `key`, with exactly these headers.
    pub(crate) fn presign_put(
        &self,
        bucket_url: &BucketUrl,
        key: &str,
        headers: &BTreeMap<String, String>,
        size: u64,
        ttl: Duration,
        now: Timestamp,
    ) -> SignedUrl {
        let size = size.to_string();
        let mut signed: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        signed.push(("content-length", &size));
        let request = PresignRequest { method: "PUT", key, query: &[], headers: &signed };
        self.signer.presign(bucket_url, request, now, ttl)
    }

    /// Signs a form POST of a file with a size in `sizes` to `key`. The policy requires the exact key, type
    /// and metadata. See <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html>
    ///
    /// # Errors
    /// When the user-defined metadata exceeds S3's limit.
    pub fn grant_post(
        &self,
        bucket_url: &BucketUrl,
        key: &ObjectKey,
        metadata: &ObjectMetadata,
        sizes: RangeInclusive<u64>,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Grant, MetadataError> {
        let mut fields = vec![
            ("key".to_owned(), key.as_str().to_owned()),
            ("content-type".to_owned(), metadata.content_type.clone()),
        ];
        fields.extend(metadata_headers(metadata)?);
        if let Some(checksum) = &metadata.checksum_sha256 {
            fields.push(("x-amz-checksum-sha256".into(), checksum.clone()));
        }
        let form = PostForm { bucket: &self.name, sizes, fields };
        let (fields, expires_at) = self.signer.sign_form(form, now, ttl.min(self.url_ttls.upload_max));
        Ok(Grant {
            method: UploadMethod::Post,
            url: format!("{}{}/", bucket_url.origin, bucket_url.path),
            headers: BTreeMap::new(),
            fields: Some(fields),
            expires_at,
        })
    }
}

/// Returns the user-defined metadata as `x-amz-meta-` headers.
fn metadata_headers(
    metadata: &ObjectMetadata,
) -> Result<impl Iterator<Item = (String, String)>, MetadataError> {
    let encoded = encode_user_metadata(&metadata.user_metadata)?;
    Ok(encoded.into_iter().map(|(name, value)| (format!("x-amz-meta-{name}"), value)))
}

/// Encodes the values as base64url, since metadata is ASCII.
pub(super) fn encode_user_metadata(
    user_metadata: &BTreeMap<&'static str, String>,
) -> Result<BTreeMap<&'static str, String>, MetadataError> {
    let encoded: BTreeMap<_, _> =
        user_metadata.iter().map(|(name, text)| (*name, BASE64_URL_SAFE_NO_PAD.encode(text))).collect();
    let bytes = encoded.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_METADATA_BYTES { Err(MetadataError(bytes)) } else { Ok(encoded) }
}

/// Decodes a value. Returns `None` for one that another program wrote in an encoding of its own.
pub(super) fn decode_user_metadata(value: &str) -> Option<String> {
    String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(value).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_metadata_is_encoded_as_ascii_within_the_limit_of_s3() {
        let user_metadata =
            BTreeMap::from([("caption", "Im Garten 🌻".to_owned()), ("filename", "ä".repeat(127))]);
        let encoded = encode_user_metadata(&user_metadata).unwrap();
        for (name, text) in &user_metadata {
            assert!(encoded[name].bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            assert_eq!(decode_user_metadata(&encoded[name]).as_ref(), Some(text));
        }
        let long = BTreeMap::from([("uploaded-by", "x".repeat(1600))]);
        assert!(encode_user_metadata(&long).is_err());
        assert_eq!(decode_user_metadata("not base64!"), None);
    }
}
