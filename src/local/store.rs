//! The file store with S3's manners: it tells of its changes, and takes no key that leaves the folder.

use std::{path::PathBuf, sync::Arc};

#[allow(clippy::wildcard_imports, reason = "an input and an output for each of fifteen operations")]
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

use super::{
    multipart::{MultipartUploads, check_parts},
    notify::Notifier,
};
use crate::queue::LocalQueue;

/// A file system can't hold longer names.
const MAX_SEGMENT: usize = 200;

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

    async fn size(&self, bucket: &str, key: &str) -> Option<u64> {
        self.head(bucket, key).await?.content_length.and_then(|length| length.try_into().ok())
    }

    async fn head(&self, bucket: &str, key: &str) -> Option<HeadObjectOutput> {
        let input = HeadObjectInput::builder().bucket(bucket.into()).key(key.into()).build().ok()?;
        Some(self.files.head_object(ours(http::Method::HEAD, input)).await.ok()?.output)
    }

    /// The parts that there are of an upload.
    async fn parts(&self, bucket: &str, key: &str, id: &str) -> S3Result<Vec<Part>> {
        let input =
            ListPartsInput::builder().bucket(bucket.into()).key(key.into()).upload_id(id.into()).build();
        let input = input.map_err(|error| s3_error!(error, InternalError))?;
        let listed = self.files.list_parts(ours(http::Method::GET, input)).await?;
        let mut parts = listed.output.parts.unwrap_or_default();
        self.uploads.complete_list(id, &mut parts);
        Ok(parts)
    }

    /// s3s-fs makes objects only of the parts 1, 2, 3 … Those that are named are in their order.
    async fn number_anew(&self, id: &str, named: &mut [CompletedPart]) -> S3Result<()> {
        let file = |number: i32| self.root.join(format!(".upload_id-{id}.part-{number}"));
        for (part, number) in named.iter_mut().zip(1..) {
            if let Some(before) = part.part_number.replace(number).filter(|&before| before != number) {
                let moved = tokio::fs::rename(file(before), file(number)).await;
                moved.map_err(|error| s3_error!(error, InternalError))?;
            }
        }
        Ok(())
    }

    /// s3s-fs finds a wrong checksum only after it has stored the body.
    async fn take_back(&self, bucket: &str, key: &str) {
        let input = DeleteObjectInput::builder().bucket(bucket.into()).key(key.into()).build();
        if let Ok(input) = input {
            let _ = self.files.delete_object(ours(http::Method::DELETE, input)).await;
        }
    }
}

/// A request that nobody sent.
fn ours<T>(method: http::Method, input: T) -> S3Request<T> {
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

/// Keys that a file system would take for another, or not take at all.
fn check_key(key: &str) -> S3Result<()> {
    let bad = |segment: &str| matches!(segment, "" | "." | "..") || segment.len() > MAX_SEGMENT;
    if key.contains('\0') || key.split('/').any(bad) {
        return Err(s3_error!(
            InvalidArgument,
            "this store takes no empty, dotted or very long path segments"
        ));
    }
    Ok(())
}

/// S3 answers a form with the tag, as it does a PUT; s3s leaves it out.
fn e_tag_header(e_tag: Option<&ETag>) -> Option<(http::HeaderName, http::HeaderValue)> {
    let value = http::HeaderValue::try_from(format!("\"{}\"", e_tag?.value())).ok()?;
    Some((http::header::ETAG, value))
}

fn tag(e_tag: Option<&ETag>) -> Option<String> {
    e_tag.map(|tag| tag.value().to_owned())
}

macro_rules! store {
    (pass on [$($name:ident $input:ident $output:ident,)*] $($rest:tt)*) => {
        #[async_trait::async_trait]
        impl S3 for NotifyingStore {
            $(async fn $name(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                self.files.$name(request).await
            })*
            $($rest)*
        }
    };
}

store! {
    pass on [
    get_object GetObjectInput GetObjectOutput,
    head_object HeadObjectInput HeadObjectOutput,
    head_bucket HeadBucketInput HeadBucketOutput,
    get_bucket_location GetBucketLocationInput GetBucketLocationOutput,
    list_objects ListObjectsInput ListObjectsOutput,
    list_objects_v2 ListObjectsV2Input ListObjectsV2Output,
    ]

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        check_key(&key)?;
        let is_form = request.method == http::Method::POST;
        let how = if is_form { "Post" } else { "Put" };
        match self.files.put_object(request).await {
            Ok(mut stored) => {
                if is_form {
                    stored.headers.extend(e_tag_header(stored.output.e_tag.as_ref()));
                }
                let size = self.size(&bucket, &key).await;
                self.notifier.created(how, &key, size, tag(stored.output.e_tag.as_ref()).as_deref());
                Ok(stored)
            }
            Err(error) => {
                if *error.code() == s3s::S3ErrorCode::BadDigest {
                    self.take_back(&bucket, &key).await;
                }
                Err(error)
            }
        }
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        check_key(&key)?;
        let copied = self.files.copy_object(request).await?;
        let size = self.size(&bucket, &key).await;
        let result = copied.output.copy_object_result.as_ref();
        let e_tag = tag(result.and_then(|result| result.e_tag.as_ref()));
        self.notifier.created("Copy", &key, size, e_tag.as_deref());
        Ok(copied)
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let key = request.input.key.clone();
        check_key(&key)?;
        let created = self.files.create_multipart_upload(request).await?;
        self.uploads.begin(created.output.upload_id.as_deref(), key);
        Ok(created)
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let (id, number) = (request.input.upload_id.clone(), request.input.part_number);
        self.uploads.check(&id, &request.input.key)?;
        let stored = self.files.upload_part(request).await?;
        self.uploads.note(&id, number, stored.output.e_tag.clone());
        Ok(stored)
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let id = request.input.upload_id.clone();
        self.uploads.check(&id, &request.input.key)?;
        let mut listed = self.files.list_parts(request).await?;
        self.uploads.complete_list(&id, listed.output.parts.get_or_insert_default());
        Ok(listed)
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let id = request.input.upload_id.clone();
        self.uploads.check(&id, &request.input.key)?;
        let aborted = self.files.abort_multipart_upload(request).await?;
        self.uploads.end(&id);
        Ok(aborted)
    }

    async fn complete_multipart_upload(
        &self,
        mut request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        let id = request.input.upload_id.clone();
        self.uploads.check(&id, &key)?;
        if let Some(named) = request.input.multipart_upload.as_mut().and_then(|upload| upload.parts.as_mut()) {
            // s3s-fs drops the upload before it looks at its parts.
            check_parts(&self.parts(&bucket, &key, &id).await?, named)?;
            self.number_anew(&id, named).await?;
        }
        let completed = self.files.complete_multipart_upload(request).await?;
        self.uploads.end(&id);
        let head = self.head(&bucket, &key).await.unwrap_or_default();
        let size = head.content_length.and_then(|length| length.try_into().ok());
        self.notifier.created("CompleteMultipartUpload", &key, size, tag(head.e_tag.as_ref()).as_deref());
        Ok(completed)
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        // The name may be one that no file can have: to delete nothing is right, too.
        let deleted = match self.head(&bucket, &key).await {
            Some(_) => self.files.delete_object(request).await?,
            None => S3Response::new(DeleteObjectOutput::default()),
        };
        self.notifier.removed(&key);
        Ok(deleted)
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        for object in &request.input.delete.objects {
            check_key(&object.key)?;
        }
        let deleted = self.files.delete_objects(request).await?;
        for object in deleted.output.deleted.iter().flatten() {
            if let Some(key) = &object.key {
                self.notifier.removed(key);
            }
        }
        Ok(deleted)
    }
}
