//! What an object really is: its metadata, and the first of its bytes.

use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    operation::{get_object::GetObjectOutput, head_object::HeadObjectOutput},
};
use bytes::Bytes;
use percent_encoding::percent_encode;

use super::{Bucket, BucketError, grant::decoded, sign::PATH, unquoted};
use crate::feed::ObjectKey;

/// How much is read. A photo's dimensions and orientation lie before the pixels.
const HEAD_BYTES: usize = 64 * 1024;
/// S3's limit on a key, in bytes.
const MAX_KEY: usize = 1024;

/// What one look at an object told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    /// Without quotes.
    pub e_tag: Option<String>,
    /// The media type that the uploader gave it.
    pub content_type: Option<String>,
    /// What the uploader's file was called.
    pub filename: Option<String>,
    /// What the uploader wrote to it.
    pub caption: Option<String>,
    /// The uploader's `sub`.
    pub uploaded_by: Option<String>,
    /// The first bytes, 64 KiB of them where there are so many.
    pub first: Bytes,
}

impl Bucket {
    /// Looks at `key`; `None` when there is nothing.
    ///
    /// # Errors
    /// When S3 can't tell.
    pub async fn look(&self, key: &ObjectKey) -> Result<Option<Look>, BucketError> {
        let call = self.client.get_object().bucket(&*self.name).key(key.as_str());
        let got = match call.range(format!("bytes=0-{}", HEAD_BYTES - 1)).send().await {
            Ok(got) => got,
            Err(error) => return self.look_at_none(key, &error).await,
        };
        let mut look = Look::of_get(&got);
        look.first = read(got).await.map_err(|source| self.cut_off(&source))?;
        Ok(Some(look))
    }

    /// Moves `key`, as long as it is what was looked at, to where nothing is announced from.
    ///
    /// # Errors
    /// When S3 did not do it.
    pub async fn quarantine(&self, key: &ObjectKey, e_tag: Option<&str>) -> Result<(), BucketError> {
        let source = format!("{}/{}", self.name, percent_encode(key.as_str().as_bytes(), PATH));
        let copy = self.client.copy_object().bucket(&*self.name).copy_source(source);
        let copy = copy.key(self.quarantine_key(key)).set_copy_source_if_match(e_tag.map(str::to_owned));
        match copy.send().await.map_err(|error| self.failed("CopyObject", &error)) {
            Err(error) if error.says("PreconditionFailed") => Ok(()),
            Err(error) => Err(error),
            Ok(_) => self.discard(key, e_tag).await,
        }
    }

    /// Deletes `key`, as long as it is what was looked at: what another write left has an event of its own.
    ///
    /// # Errors
    /// When S3 did not do it.
    pub async fn discard(&self, key: &ObjectKey, e_tag: Option<&str>) -> Result<(), BucketError> {
        let call = self.client.delete_object().bucket(&*self.name).key(key.as_str());
        let call = call.set_if_match(e_tag.map(|tag| format!("\"{tag}\"")));
        match call.send().await.map_err(|error| self.failed("DeleteObject", &error)) {
            Err(error) if error.says("PreconditionFailed") => Ok(()),
            done => done.map(drop),
        }
    }

    /// The key's place under our own part of the bucket.
    fn quarantine_key(&self, key: &ObjectKey) -> String {
        let moved = |rest: &str| format!("{}.photoshare/quarantine/{rest}", self.prefix.as_str());
        let whole = moved(&key.as_str()[self.prefix.as_str().len()..]);
        if whole.len() <= MAX_KEY { whole } else { moved(key.feed().as_str()) + "/" + &hash(key) }
    }

    /// An empty object has no first byte to range over; S3 says so with an error.
    async fn look_at_none<E>(&self, key: &ObjectKey, error: &SdkError<E>) -> Result<Option<Look>, BucketError>
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        match error.code() {
            Some("NoSuchKey" | "NotFound") => Ok(None),
            Some("InvalidRange") => {
                let call = self.client.head_object().bucket(&*self.name).key(key.as_str());
                let head = call.send().await.map_err(|error| self.failed("HeadObject", &error))?;
                Ok(Some(Look::of_head(&head)))
            }
            _ => Err(self.failed("GetObject", error)),
        }
    }

    fn cut_off(&self, source: &(dyn std::error::Error + 'static)) -> BucketError {
        BucketError::Call { call: "GetObject", bucket: self.name.clone(), code: source.to_string() }
    }
}

/// A store may ignore the range: no more is kept than was asked for.
async fn read(mut got: GetObjectOutput) -> Result<Bytes, aws_sdk_s3::primitives::ByteStreamError> {
    let mut first = Vec::new();
    while let Some(chunk) = got.body.try_next().await? {
        let room = HEAD_BYTES - first.len();
        first.extend_from_slice(&chunk[..room.min(chunk.len())]);
        if first.len() == HEAD_BYTES {
            break;
        }
    }
    Ok(first.into())
}

fn hash(key: &ObjectKey) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(key.as_str()))
}

macro_rules! look_of {
    ($($name:ident $output:ident,)*) => {
        impl Look {
            $(fn $name(output: &$output) -> Self {
                let told = |name: &str| output.metadata().and_then(|all| decoded(all.get(name)?));
                Self {
                    e_tag: output.e_tag().map(unquoted),
                    content_type: output.content_type().map(str::to_owned),
                    filename: told("filename"),
                    caption: told("caption"),
                    uploaded_by: told("uploaded-by"),
                    first: Bytes::new(),
                }
            })*
        }
    };
}

look_of! {
    of_get GetObjectOutput,
    of_head HeadObjectOutput,
}
