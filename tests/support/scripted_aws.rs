//! Test double for SQS and S3: an HTTP client under the real AWS SDK that records every call and responds by a
//! script.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_sqs::config::SharedHttpClient;
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
    orchestrator::{HttpRequest, HttpResponse},
};
use aws_smithy_types::body::SdkBody;
use photoshare_server::{
    bucket::{Bucket, UrlTtls},
    feed::KeyPrefix,
    queue::SqsQueue,
};
use serde_json::{Value, json};
use tokio::time::Instant;

pub const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(20);

/// A recorded call.
#[derive(Debug, Clone)]
pub struct RecordedCall {
    /// The action, for example `ReceiveMessage`; empty for S3.
    pub action: String,
    /// The HTTP method.
    pub method: String,
    pub at: Instant,
    pub body: Value,
    /// The number of earlier calls of this action.
    pub index: usize,
}

/// The response of the script.
pub enum ScriptedResponse {
    /// A response of SQS.
    Json(u16, Value),
    JsonAfter(Duration, Value),
    /// A response of S3, after a delay.
    S3After(Duration, S3Response),
    /// The connection stays open without a response.
    NoResponse,
}

#[derive(Debug, Clone, Copy)]
pub struct S3Response {
    pub status: u16,
    pub e_tag: &'static str,
    pub body: &'static str,
}

type Script = dyn Fn(&RecordedCall) -> ScriptedResponse + Send + Sync;

#[derive(Clone)]
pub struct ScriptedAws {
    script: Arc<Script>,
    calls: Arc<Mutex<Vec<RecordedCall>>>,
}

impl ScriptedAws {
    pub fn new(script: impl Fn(&RecordedCall) -> ScriptedResponse + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), calls: Arc::default() }
    }

    pub fn queue(&self) -> Arc<SqsQueue> {
        let url = "https://sqs.eu-central-1.amazonaws.com/1/events";
        Arc::new(SqsQueue::new(&self.sdk_config(), url.into(), VISIBILITY_TIMEOUT))
    }

    pub async fn bucket(&self) -> Bucket {
        let url_ttls = UrlTtls { view: Duration::from_hours(1), upload_max: Duration::from_hours(1) };
        Bucket::connect(&self.sdk_config(), "photos", KeyPrefix::default(), url_ttls).await.unwrap()
    }

    /// An SDK configuration whose calls all go to the script.
    fn sdk_config(&self) -> SdkConfig {
        let credentials = Credentials::new("id", "secret", None, None, "test");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(self.http_client())
            .build()
    }

    pub fn calls(&self, action: &str) -> Vec<RecordedCall> {
        self.calls.lock().unwrap().iter().filter(|call| call.action == action).cloned().collect()
    }

    fn http_client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }

    fn record_call(&self, request: &HttpRequest) -> RecordedCall {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let action = target.trim_start_matches("AmazonSQS.").to_owned();
        let body = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap_or_default();
        let (method, index) = (request.method().to_owned(), self.calls(&action).len());
        let call = RecordedCall { action, method, at: Instant::now(), body, index };
        self.calls.lock().unwrap().push(call.clone());
        call
    }
}

impl HttpConnector for ScriptedAws {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let response = (self.script)(&self.record_call(&request));
        HttpConnectorFuture::new(async move {
            match response {
                ScriptedResponse::Json(status, body) => Ok(json_response(status, &body)),
                ScriptedResponse::JsonAfter(delay, body) => {
                    tokio::time::sleep(delay).await;
                    Ok(json_response(200, &body))
                }
                ScriptedResponse::S3After(delay, S3Response { status, e_tag, body }) => {
                    tokio::time::sleep(delay).await;
                    Ok(build_response(status, ("etag", e_tag), body.into()))
                }
                ScriptedResponse::NoResponse => std::future::pending().await,
            }
        })
    }
}

fn json_response(status: u16, body: &Value) -> HttpResponse {
    let body = if body.is_null() { SdkBody::empty() } else { body.to_string().into() };
    build_response(status, ("content-type", "application/x-amz-json-1.0"), body)
}

fn build_response(status: u16, (header, value): (&'static str, &'static str), body: SdkBody) -> HttpResponse {
    let mut response = HttpResponse::new(status.try_into().unwrap(), body);
    response.headers_mut().insert(header, value);
    response
}

impl fmt::Debug for ScriptedAws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedAws")
    }
}

/// A long poll that ends after 20 s without a message.
pub fn empty_long_poll() -> ScriptedResponse {
    ScriptedResponse::JsonAfter(Duration::from_secs(20), json!({}))
}

/// The body of a receive of messages with these IDs, each received for the first time.
pub fn messages_body(ids: impl IntoIterator<Item = impl fmt::Display>) -> Value {
    messages_body_with_count(ids, 1)
}

/// The body of a receive of messages with these IDs, each received `count` times.
pub fn messages_body_with_count(ids: impl IntoIterator<Item = impl fmt::Display>, count: u32) -> Value {
    let messages = ids.into_iter().map(|id| {
        json!({"MessageId": id.to_string(), "ReceiptHandle": format!("receipt {id}"), "Body": "secret body",
            "Attributes": {"ApproximateReceiveCount": count.to_string()}})
    });
    json!({"Messages": messages.collect::<Vec<_>>()})
}

/// An error response of SQS.
pub fn error_response(status: u16, code: &str) -> ScriptedResponse {
    ScriptedResponse::Json(status, json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": code}))
}
