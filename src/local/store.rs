//! File store with S3 semantics that s3s-fs lacks: event messages, multipart checks and key validation.

use std::{path::PathBuf, sync::Arc};

#[allow(clippy::wildcard_imports, reason = "input and output types of fifteen operations")]
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

use super::{
    multipart::{MultipartUploads, validate_parts},
    notifier::Notifier,
};
use crate::queue::LocalQueue;

/// Maximum length of a path segment; file systems limit file names.
const MAX_SEGMENT_BYTES: usize = 200;

/// Stores objects as files and sends an event message for each change.
#[derive(Debug)]
pub(super) struct NotifyingStore {
    files: FileSystem,
    /// The folder of `files`.
    root: PathBuf,
    notifier: Notifier,
    uploads: MultipartUploads,
}

impl NotifyingStore {
    pub(super) fn new(files: FileSystem, root: PathBuf, queue: Arc<LocalQueue>) -> Self {
        Self { files, root, notifier: Notifier::new(queue), uploads: MultipartUploads::default() }
    }

    async fn object_size(&self, bucket: &str, key: &str) -> Option<u64> {
        self.find_object(bucket, key).await?.content_length.and_then(|length| length.try_into().ok())
    }

    async fn find_object(&self, bucket: &str, key: &str) -> Option<HeadObjectOutput> {
        let input = HeadObjectInput::builder().bucket(bucket.into()).key(key.into()).build().ok()?;
        Some(self.files.head_object(internal_request(http::Method::HEAD, input)).await.ok()?.output)
    }

    /// The stored parts of an upload.
    async fn stored_parts(&self, bucket: &str, key: &str, id: &str) -> S3Result<Vec<Part>> {
        let input =
            ListPartsInput::builder().bucket(bucket.into()).key(key.into()).upload_id(id.into()).build();
        let input = input.map_err(|error| s3_error!(error, InternalError))?;
        let listed = self.files.list_parts(internal_request(http::Method::GET, input)).await?;
        let mut parts = listed.output.parts.unwrap_or_default();
        self.uploads.fill_e_tags(id, &mut parts);
        Ok(parts)
    }

    /// Renumbers the part files 1, 2, 3 …, since s3s-fs requires consecutive numbers. `parts` must be in order.
    async fn renumber_parts(&self, id: &str, parts: &mut [CompletedPart]) -> S3Result<()> {
        let part_file = |number: i32| self.root.join(format!(".upload_id-{id}.part-{number}"));
        for (part, number) in parts.iter_mut().zip(1..) {
            if let Some(previous) = part.part_number.replace(number).filter(|&previous| previous != number) {
                let renamed = tokio::fs::rename(part_file(previous), part_file(number)).await;
                renamed.map_err(|error| s3_error!(error, InternalError))?;
            }
        }
        Ok(())
    }

    /// Deletes an object with a wrong checksum, which s3s-fs detects only after it has stored the body.
    async fn discard_object(&self, bucket: &str, key: &str) {
        let input = DeleteObjectInput::builder().bucket(bucket.into()).key(key.into()).build();
        if let Ok(input) = input {
            let _ = self.files.delete_object(internal_request(http::Method::DELETE, input)).await;
        }
    }
}

/// Wraps `input` in a request for an internal call.
fn internal_request<T>(method: http::Method, input: T) -> S3Request<T> {
    S3Request {
        input,
        method,
        uri: http::Uri::default(),
        headers: http::HeaderMap::new(),
        extensions: http::Extensions::new(),
        credentials: None,
        region: None,
        service: None,
        trailing_headers: None,
    }
}

/// Rejects keys that a file system would resolve to another path or can't store.
fn validate_key(key: &str) -> S3Result<()> {
    let is_invalid = |segment: &str| matches!(segment, "" | "." | "..") || segment.len() > MAX_SEGMENT_BYTES;
    if key.contains('\0') || key.split('/').any(is_invalid) {
        return Err(s3_error!(
            InvalidArgument,
            "this store does not support empty, dotted or very long path segments"
        ));
    }
    Ok(())
}

/// The `ETag` header of the response to a form upload, which s3s omits.
fn e_tag_header(e_tag: Option<&ETag>) -> Option<(http::HeaderName, http::HeaderValue)> {
    let value = http::HeaderValue::try_from(format!("\"{}\"", e_tag?.value())).ok()?;
    Some((http::header::ETAG, value))
}

fn e_tag_value(e_tag: Option<&ETag>) -> Option<String> {
    e_tag.map(|e_tag| e_tag.value().to_owned())
}

/// Implements [`S3`] for [`NotifyingStore`]; the operations under `delegate` are passed to s3s-fs unchanged.
macro_rules! impl_s3 {
    (delegate [$($name:ident $input:ident $output:ident,)*] $($rest:tt)*) => {
        #[async_trait::async_trait]
        impl S3 for NotifyingStore {
            $(async fn $name(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                self.files.$name(request).await
            })*
            $($rest)*
        }
    };
}

impl_s3! {
    delegate [
    get_object GetObjectInput GetObjectOutput,
    head_object HeadObjectInput HeadObjectOutput,
    head_bucket HeadBucketInput HeadBucketOutput,
    get_bucket_location GetBucketLocationInput GetBucketLocationOutput,
    list_objects ListObjectsInput ListObjectsOutput,
    list_objects_v2 ListObjectsV2Input ListObjectsV2Output,
    ]

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        validate_key(&key)?;
        let is_form = request.method == http::Method::POST;
        let operation = if is_form { "Post" } else { "Put" };
        match self.files.put_object(request).await {
            Ok(mut stored) => {
                if is_form {
                    stored.headers.extend(e_tag_header(stored.output.e_tag.as_ref()));
                }
                let size = self.object_size(&bucket, &key).await;
                self.notifier.send_created(operation, &key, size, e_tag_value(stored.output.e_tag.as_ref()).as_deref());
                Ok(stored)
            }
            Err(error) => {
                if *error.code() == s3s::S3ErrorCode::BadDigest {
                    self.discard_object(&bucket, &key).await;
                }
                Err(error)
            }
        }
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        validate_key(&key)?;
        let copied = self.files.copy_object(request).await?;
        let size = self.object_size(&bucket, &key).await;
        let result = copied.output.copy_object_result.as_ref();
        let e_tag = e_tag_value(result.and_then(|result| result.e_tag.as_ref()));
        self.notifier.send_created("Copy", &key, size, e_tag.as_deref());
        Ok(copied)
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let key = request.input.key.clone();
        validate_key(&key)?;
        let created = self.files.create_multipart_upload(request).await?;
        self.uploads.insert(created.output.upload_id.as_deref(), key);
        Ok(created)
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let (id, number) = (request.input.upload_id.clone(), request.input.part_number);
        self.uploads.require(&id, &request.input.key)?;
        let stored = self.files.upload_part(request).await?;
        self.uploads.record_part(&id, number, stored.output.e_tag.clone());
        Ok(stored)
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let id = request.input.upload_id.clone();
        self.uploads.require(&id, &request.input.key)?;
        let mut listed = self.files.list_parts(request).await?;
        self.uploads.fill_e_tags(&id, listed.output.parts.get_or_insert_default());
        Ok(listed)
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let id = request.input.upload_id.clone();
        self.uploads.require(&id, &request.input.key)?;
        let aborted = self.files.abort_multipart_upload(request).await?;
        self.uploads.remove(&id);
        Ok(aborted)
    }

    async fn complete_multipart_upload(
        &self,
        mut request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        let id = request.input.upload_id.clone();
        self.uploads.require(&id, &key)?;
        if let Some(parts) = request.input.multipart_upload.as_mut().and_then(|upload| upload.parts.as_mut()) {
            // Validate first: s3s-fs deletes the upload before it checks the parts.
            validate_parts(&self.stored_parts(&bucket, &key, &id).await?, parts)?;
            self.renumber_parts(&id, parts).await?;
        }
        let completed = self.files.complete_multipart_upload(request).await?;
        self.uploads.remove(&id);
        let head = self.find_object(&bucket, &key).await.unwrap_or_default();
        let size = head.content_length.and_then(|length| length.try_into().ok());
        self.notifier.send_created("CompleteMultipartUpload", &key, size, e_tag_value(head.e_tag.as_ref()).as_deref());
        Ok(completed)
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        // Deleting a missing object succeeds in S3; the key may also be one that no file can have.
        let deleted = match self.find_object(&bucket, &key).await {
            Some(_) => self.files.delete_object(request).await?,
            None => S3Response::new(DeleteObjectOutput::default()),
        };
        self.notifier.send_removed(&key);
        Ok(deleted)
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        for object in &request.input.delete.objects {
            validate_key(&object.key)?;
        }
        let deleted = self.files.delete_objects(request).await?;
        for object in deleted.output.deleted.iter().flatten() {
            if let Some(key) = &object.key {
                self.notifier.send_removed(key);
            }
        }
        Ok(deleted)
    }
}
