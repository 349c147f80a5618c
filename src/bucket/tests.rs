//! S3 calls with late, lost or missing responses: the SDK's client with a scripted S3.

use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;

use super::{Bucket, MultipartError, MultipartUpload};
use crate::support::{
    feed, object_key,
    scripted_aws::{S3Response, ScriptedAws, ScriptedResponse},
};

/// Heroku closes a request without a response after this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

const RESPONSE_DELAY: Duration = Duration::from_secs(7);

const PARTS: &str = "<ListPartsResult><IsTruncated>false</IsTruncated>\
    <Part><PartNumber>1</PartNumber><ETag>\"a\"</ETag><Size>5</Size></Part>\
    <Part><PartNumber>2</PartNumber><ETag>\"b\"</ETag><Size>5</Size></Part></ListPartsResult>";

/// A bucket whose responses depend on the HTTP method.
async fn connect(script: impl Fn(&str) -> Option<S3Response> + Send + Sync + 'static) -> Bucket {
    let aws = ScriptedAws::new(move |call| match script(&call.method) {
        Some(response) => ScriptedResponse::S3After(RESPONSE_DELAY, response),
        None => ScriptedResponse::NoResponse,
    });
    aws.bucket().await
}

const fn response(status: u16, e_tag: &'static str, body: &'static str) -> S3Response {
    S3Response { status, e_tag, body }
}

/// Completes an upload of the two `PARTS`.
async fn complete(bucket: &Bucket) -> Result<(), MultipartError> {
    let parts = vec![(1, "a".to_owned()), (2, "b".to_owned())];
    let upload = MultipartUpload { key: &object_key("summer/a.jpg"), id: "upload" };
    bucket.complete_multipart_upload(upload, &parts, 100).await
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_response_fails_before_heroku_closes_the_request() {
    let unresponsive = connect(|_| None).await;
    let listing = connect(|method| (method == "GET").then(|| response(200, "", PARTS))).await;
    let (key, feed) = (object_key("summer/a.jpg"), feed("summer"));
    let calls: [(&str, LocalBoxFuture<'_, bool>); 5] = [
        ("head", Box::pin(async { unresponsive.head_object(&key).await.is_err() })),
        ("delete", Box::pin(async { unresponsive.delete_object(&key).await.is_err() })),
        ("list", Box::pin(async { unresponsive.list_objects(&feed, None, 10).await.is_err() })),
        ("parts", Box::pin(async { complete(&unresponsive).await.is_err() })),
        ("complete", Box::pin(async { complete(&listing).await.is_err() })),
    ];
    for (name, call) in calls {
        let start = Instant::now();
        assert!(call.await, "{name}");
        assert!(start.elapsed() < REQUEST_TIMEOUT, "{name} took {:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn completing_an_upload_again_succeeds_if_the_bucket_has_its_object() {
    const NO_SUCH_UPLOAD: S3Response = response(404, "", "<Error><Code>NoSuchUpload</Code></Error>");
    const KEY_EXISTS: S3Response = response(412, "", "<Error><Code>PreconditionFailed</Code></Error>");
    const LISTED: S3Response = response(200, "", PARTS);
    const OWN_OBJECT: S3Response = response(200, "\"c-2\"", "");
    const OTHER_OBJECT: S3Response = response(200, "\"c-3\"", "");
    const NO_OBJECT: S3Response = response(404, "", "");
    for (parts, completed, head, expected) in [
        (LISTED, NO_SUCH_UPLOAD, OWN_OBJECT, "done"),
        (LISTED, KEY_EXISTS, OWN_OBJECT, "done"),
        (NO_SUCH_UPLOAD, NO_SUCH_UPLOAD, OWN_OBJECT, "done"),
        (LISTED, NO_SUCH_UPLOAD, NO_OBJECT, "no such upload"),
        (NO_SUCH_UPLOAD, NO_SUCH_UPLOAD, OTHER_OBJECT, "no such upload"),
        (LISTED, KEY_EXISTS, OTHER_OBJECT, "already stored"),
    ] {
        let bucket = connect(move |method| match method {
            "GET" => Some(parts),
            "POST" => Some(completed),
            _ => Some(head),
        });
        let result = match complete(&bucket.await).await {
            Ok(()) => "done",
            Err(MultipartError::NoSuchUpload) => "no such upload",
            Err(MultipartError::AlreadyStored) => "already stored",
            Err(_) => "another error",
        };
        assert_eq!(result, expected, "{parts:?} {completed:?} {head:?}");
    }
}
