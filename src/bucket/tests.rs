//! S3 calls with late, lost or missing responses: the SDK's client with a scripted S3.

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

use super::{Bucket, MultipartError, MultipartUpload, UrlTtls};
use crate::feed::{FeedId, KeyPrefix, ObjectKey};

/// Heroku closes a request without a response after this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

const RESPONSE_DELAY: Duration = Duration::from_secs(7);

const PARTS: &str = "<ListPartsResult><IsTruncated>false</IsTruncated>\
    <Part><PartNumber>1</PartNumber><ETag>\"a\"</ETag><Size>5</Size></Part>\
    <Part><PartNumber>2</PartNumber><ETag>\"b\"</ETag><Size>5</Size></Part></ListPartsResult>";

/// Status, eTag and body of a response; `None` for a connection without a response.
type ScriptedResponse = Option<(u16, &'static str, &'static str)>;

/// Returns a response for each HTTP method.
#[derive(Clone)]
struct ScriptedS3(Arc<dyn Fn(&str) -> ScriptedResponse + Send + Sync>);

impl HttpConnector for ScriptedS3 {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let response = (self.0)(request.method());
        HttpConnectorFuture::new(async move {
            let Some((status, e_tag, body)) = response else { return std::future::pending().await };
            tokio::time::sleep(RESPONSE_DELAY).await;
            let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
            response.headers_mut().insert("etag", e_tag);
            Ok(response)
        })
    }
}

impl fmt::Debug for ScriptedS3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedS3")
    }
}

async fn connect(script: impl Fn(&str) -> ScriptedResponse + Send + Sync + 'static) -> Bucket {
    let connector = SharedHttpConnector::new(ScriptedS3(Arc::new(script)));
    let credentials = Credentials::new("id", "secret", None, None, "test");
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .build();
    let url_ttls = UrlTtls { view: REQUEST_TIMEOUT, upload_max: REQUEST_TIMEOUT };
    Bucket::connect(&sdk, "photos", KeyPrefix::default(), url_ttls).await.unwrap()
}

fn key() -> ObjectKey {
    ObjectKey::parse(&KeyPrefix::default(), "summer/a.jpg").unwrap()
}

/// Completes an upload of the two `PARTS`.
async fn complete(bucket: &Bucket) -> Result<(), MultipartError> {
    let parts = vec![(1, "a".to_owned()), (2, "b".to_owned())];
    let upload = MultipartUpload { key: &key(), id: "upload" };
    bucket.complete_multipart_upload(upload, &parts, 100).await
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_response_fails_before_heroku_closes_the_request() {
    let unresponsive = connect(|_| None).await;
    let listing = connect(|method| (method == "GET").then_some((200, "", PARTS))).await;
    let (key, feed) = (key(), FeedId::parse("summer").unwrap());
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
    const NO_SUCH_UPLOAD: ScriptedResponse = Some((404, "", "<Error><Code>NoSuchUpload</Code></Error>"));
    const KEY_EXISTS: ScriptedResponse = Some((412, "", "<Error><Code>PreconditionFailed</Code></Error>"));
    const LISTED: ScriptedResponse = Some((200, "", PARTS));
    const OWN_OBJECT: ScriptedResponse = Some((200, "\"c-2\"", ""));
    const OTHER_OBJECT: ScriptedResponse = Some((200, "\"c-3\"", ""));
    const NO_OBJECT: ScriptedResponse = Some((404, "", ""));
    for (parts, completed, head, expected) in [
        (LISTED, NO_SUCH_UPLOAD, OWN_OBJECT, "done"),
        (LISTED, KEY_EXISTS, OWN_OBJECT, "done"),
        (NO_SUCH_UPLOAD, NO_SUCH_UPLOAD, OWN_OBJECT, "done"),
        (LISTED, NO_SUCH_UPLOAD, NO_OBJECT, "no such upload"),
        (NO_SUCH_UPLOAD, NO_SUCH_UPLOAD, OTHER_OBJECT, "no such upload"),
        (LISTED, KEY_EXISTS, OTHER_OBJECT, "already stored"),
    ] {
        let bucket = connect(move |method| match method {
            "GET" => parts,
            "POST" => completed,
            _ => head,
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
