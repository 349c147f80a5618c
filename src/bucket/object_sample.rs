//! Samples of objects for inspection, and the removal of rejected objects.

use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    operation::{get_object::GetObjectOutput, head_object::HeadObjectOutput},
};
use bytes::Bytes;
use percent_encoding::percent_encode;

use super::{Bucket, BucketError, grant::decode_user_metadata, sign::PATH, strip_quotes};
use crate::feed::ObjectKey;

/// Size of a sample. Enough for the dimensions and the orientation, which precede the pixels.
const SAMPLE_BYTES: usize = 64 * 1024;
/// S3's limit on the length of a key.
const MAX_KEY_BYTES: usize = 1024;

/// Metadata and first bytes of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectSample {
    /// Entity tag, without quotes.
    pub e_tag: Option<String>,
    /// Media type that the uploader declared.
    pub content_type: Option<String>,
    /// Name of the uploaded file.
    pub filename: Option<String>,
    /// Caption that the uploader entered.
    pub caption: Option<String>,
    /// `sub` claim of the uploader's token.
    pub uploaded_by: Option<String>,
    /// The first 64 KiB, or the whole object if it is smaller.
    pub first_bytes: Bytes,
}

impl Bucket {
    /// Reads the metadata and the first bytes of the object `key`. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn sample_object(&self, key: &ObjectKey) -> Result<Option<ObjectSample>, BucketError> {
        let call = self.client.get_object().bucket(&*self.name).key(key.as_str());
        let output = match call.range(format!("bytes=0-{}", SAMPLE_BYTES - 1)).send().await {
            Ok(output) => output,
            Err(error) => return self.sample_without_body(key, &error).await,
        };
        let mut sample = ObjectSample::from_get(&output);
        sample.first_bytes = read_first_bytes(output).await.map_err(|source| self.body_error(&source))?;
        Ok(Some(sample))
    }

    /// Moves the object `key` under `.photoshare/quarantine/`, where no feed can be, if its tag is still
    /// `e_tag`.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn quarantine_if_unchanged(
        &self,
        key: &ObjectKey,
        e_tag: Option<&str>,
    ) -> Result<(), BucketError> {
        let source = format!("{}/{}", self.name, percent_encode(key.as_str().as_bytes(), PATH));
        let copy = self.client.copy_object().bucket(&*self.name).copy_source(source);
        let copy = copy.key(self.quarantine_key(key)).set_copy_source_if_match(e_tag.map(str::to_owned));
        match copy.send().await.map_err(|error| self.call_error("CopyObject", &error)) {
            Err(error) if error.has_code("PreconditionFailed") => Ok(()),
            Err(error) => Err(error),
            Ok(_) => self.delete_if_unchanged(key, e_tag).await,
        }
    }

    /// Deletes the object `key` if its tag is still `e_tag`. After another write the object stays, since that
    /// write has an event of its own.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn delete_if_unchanged(&self, key: &ObjectKey, e_tag: Option<&str>) -> Result<(), BucketError> {
        let call = self.client.delete_object().bucket(&*self.name).key(key.as_str());
        let call = call.set_if_match(e_tag.map(|tag| format!("\"{tag}\"")));
        match call.send().await.map_err(|error| self.call_error("DeleteObject", &error)) {
            Err(error) if error.has_code("PreconditionFailed") => Ok(()),
            result => result.map(drop),
        }
    }

    /// Returns the quarantine key. A key that would exceed S3's limit is replaced by its hash.
    fn quarantine_key(&self, key: &ObjectKey) -> String {
        let quarantine_key = |rest: &str| format!("{}.photoshare/quarantine/{rest}", self.prefix.as_str());
        let full_key = quarantine_key(&key.as_str()[self.prefix.as_str().len()..]);
        if full_key.len() <= MAX_KEY_BYTES {
            full_key
        } else {
            quarantine_key(key.feed().as_str()) + "/" + &hash_key(key)
        }
    }

    /// Handles an error of GET. An empty object has no bytes in the requested range: S3 returns
    /// `InvalidRange`.
    async fn sample_without_body<E>(
        &self,
        key: &ObjectKey,
        error: &SdkError<E>,
    ) -> Result<Option<ObjectSample>, BucketError>
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        match error.code() {
            Some("NoSuchKey" | "NotFound") => Ok(None),
            Some("InvalidRange") => {
                let call = self.client.head_object().bucket(&*self.name).key(key.as_str());
                let head = call.send().await.map_err(|error| self.call_error("HeadObject", &error))?;
                Ok(Some(ObjectSample::from_head(&head)))
            }
            _ => Err(self.call_error("GetObject", error)),
        }
    }

    fn body_error(&self, source: &(dyn std::error::Error + 'static)) -> BucketError {
        BucketError::Call { call: "GetObject", bucket: self.name.clone(), code: source.to_string() }
    }
}

/// Reads at most [`SAMPLE_BYTES`]. An S3-compatible store may ignore the range and send the whole object.
async fn read_first_bytes(
    mut output: GetObjectOutput,
) -> Result<Bytes, aws_sdk_s3::primitives::ByteStreamError> {
    let mut first_bytes = Vec::new();
    while let Some(chunk) = output.body.try_next().await? {
        let remaining = SAMPLE_BYTES - first_bytes.len();
        first_bytes.extend_from_slice(&chunk[..remaining.min(chunk.len())]);
        if first_bytes.len() == SAMPLE_BYTES {
            break;
        }
    }
    Ok(first_bytes.into())
}

fn hash_key(key: &ObjectKey) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(key.as_str()))
}

/// GET and HEAD have output types of their own with the same accessors.
macro_rules! impl_from_output {
    ($($name:ident $output:ident,)*) => {
        impl ObjectSample {
            $(fn $name(output: &$output) -> Self {
                let user_metadata =
                    |name: &str| output.metadata().and_then(|all| decode_user_metadata(all.get(name)?));
                Self {
                    e_tag: output.e_tag().map(strip_quotes),
                    content_type: output.content_type().map(str::to_owned),
                    filename: user_metadata("filename"),
                    caption: user_metadata("caption"),
                    uploaded_by: user_metadata("uploaded-by"),
                    first_bytes: Bytes::new(),
                }
            })*
        }
    };
}

impl_from_output! {
    from_get GetObjectOutput,
    from_head HeadObjectOutput,
}
