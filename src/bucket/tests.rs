//! What becomes of calls whose answers come late, get lost or never come: S3 by a script, under the real
//! SDK client.

use std::{fmt, sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
    orchestrator::{HttpRequest, HttpResponse},
};
use aws_smithy_types::body::SdkBody;
use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;

use super::{Bucket, Lives, MultipartError, MultipartUpload};
use crate::feed::{FeedId, KeyPrefix, ObjectKey};

/// Heroku closes a request that is not answered by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// What each answer takes.
const SLOW: Duration = Duration::from_secs(7);

const PARTS: &str = "<ListPartsResult><IsTruncated>false</IsTruncated>\
    <Part><PartNumber>1</PartNumber><ETag>\"a\"</ETag><Size>5</Size></Part>\
    <Part><PartNumber>2</PartNumber><ETag>\"b\"</ETag><Size>5</Size></Part></ListPartsResult>";

/// An answer: status, eTag, body. `None` is a connection that is open and dead.
type Answer = Option<(u16, &'static str, &'static str)>;

/// Answers by method.
#[derive(Clone)]
struct Script(Arc<dyn Fn(&str) -> Answer + Send + Sync>);

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = (self.0)(request.method());
        HttpConnectorFuture::new(async move {
            let Some((status, e_tag, body)) = answer else { return std::future::pending().await };
            tokio::time::sleep(SLOW).await;
            let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
            response.headers_mut().insert("etag", e_tag);
            Ok(response)
        })
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

async fn bucket(script: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Bucket {
    let connector = SharedHttpConnector::new(Script(Arc::new(script)));
    let credentials = Credentials::new("id", "secret", None, None, "test");
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .build();
    let lives = Lives { view: PATIENCE, upload_max: PATIENCE };
    Bucket::connect(&sdk, "photos", KeyPrefix::default(), lives).await.unwrap()
}

fn key() -> ObjectKey {
    ObjectKey::parse(&KeyPrefix::default(), "summer/a.jpg").unwrap()
}

/// Completes an upload of the two `PARTS`.
async fn complete(bucket: &Bucket) -> Result<(), MultipartError> {
    let named = vec![(1, "a".to_owned()), (2, "b".to_owned())];
    let upload = MultipartUpload { key: &key(), id: "upload" };
    bucket.complete_multipart(upload, &named, 100).await
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_bucket_that_never_answers_is_told_in_time() {
    let dead = bucket(|_| None).await;
    let listing = bucket(|method| (method == "GET").then_some((200, "", PARTS))).await;
    let (key, feed) = (key(), FeedId::parse("summer").unwrap());
    let calls: [(&str, LocalBoxFuture<'_, bool>); 5] = [
        ("head", Box::pin(async { dead.head(&key).await.is_err() })),
        ("delete", Box::pin(async { dead.delete(&key).await.is_err() })),
        ("list", Box::pin(async { dead.list(&feed, None, 10).await.is_err() })),
        ("parts", Box::pin(async { complete(&dead).await.is_err() })),
        ("complete", Box::pin(async { complete(&listing).await.is_err() })),
    ];
    for (name, call) in calls {
        let begun = Instant::now();
        assert!(call.await, "{name}");
        assert!(begun.elapsed() < PATIENCE, "{name} took {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_already_complete_is_what_the_bucket_holds() {
    const GONE: Answer = Some((404, "", "<Error><Code>NoSuchUpload</Code></Error>"));
    const TAKEN: Answer = Some((412, "", "<Error><Code>PreconditionFailed</Code></Error>"));
    const LISTED: Answer = Some((200, "", PARTS));
    const OURS: Answer = Some((200, "\"c-2\"", ""));
    const ANOTHER: Answer = Some((200, "\"c-3\"", ""));
    const NONE: Answer = Some((404, "", ""));
    for (parts, completed, head, expected) in [
        (LISTED, GONE, OURS, "done"),
        (LISTED, TAKEN, OURS, "done"),
        (GONE, GONE, OURS, "done"),
        (LISTED, GONE, NONE, "no such upload"),
        (GONE, GONE, ANOTHER, "no such upload"),
        (LISTED, TAKEN, ANOTHER, "already stored"),
    ] {
        let bucket = bucket(move |method| match method {
            "GET" => parts,
            "POST" => completed,
            _ => head,
        });
        let got = match complete(&bucket.await).await {
            Ok(()) => "done",
            Err(MultipartError::NoSuchUpload) => "no such upload",
            Err(MultipartError::AlreadyStored) => "already stored",
            Err(_) => "something else",
        };
        assert_eq!(got, expected, "{parts:?} {completed:?} {head:?}");
    }
}
