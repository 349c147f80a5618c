//! SQS by a script, under the real SDK client: every call is kept, and answered as the test says.

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
use serde_json::{Value, json};
use tokio::time::Instant;

use super::SqsQueue;

pub(crate) const VISIBILITY: Duration = Duration::from_secs(20);

/// A call as it reached the server.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub name: String,
    pub at: Instant,
    pub body: Value,
    /// How many calls of this name came before it.
    pub nth: usize,
}

/// What the server says.
pub(crate) enum Answer {
    Says(u16, Value),
    SaysAfter(Duration, Value),
    /// The connection is open and dead.
    Never,
}

type Script = dyn Fn(&Call) -> Answer + Send + Sync;

#[derive(Clone)]
pub(crate) struct Sqs {
    script: Arc<Script>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Sqs {
    pub fn new(script: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), calls: Arc::default() }
    }

    pub fn queue(&self) -> Arc<SqsQueue> {
        let url = "https://sqs.eu-central-1.amazonaws.com/1/events";
        Arc::new(SqsQueue::new(&self.sdk(), url.into(), VISIBILITY))
    }

    /// Calls of S3 are answered by the script as well; they have no name.
    pub fn sdk(&self) -> SdkConfig {
        let credentials = Credentials::new("id", "secret", None, None, "test");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(self.http_client())
            .build()
    }

    pub fn calls(&self, name: &str) -> Vec<Call> {
        self.calls.lock().unwrap().iter().filter(|call| call.name == name).cloned().collect()
    }

    fn http_client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }

    fn keep(&self, request: &HttpRequest) -> Call {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let name = target.trim_start_matches("AmazonSQS.").to_owned();
        let body = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap_or_default();
        let nth = self.calls(&name).len();
        let call = Call { name, at: Instant::now(), body, nth };
        self.calls.lock().unwrap().push(call.clone());
        call
    }
}

impl HttpConnector for Sqs {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = (self.script)(&self.keep(&request));
        HttpConnectorFuture::new(async move {
            let (status, body) = match answer {
                Answer::Says(status, body) => (status, body),
                Answer::SaysAfter(wait, body) => {
                    tokio::time::sleep(wait).await;
                    (200, body)
                }
                Answer::Never => std::future::pending().await,
            };
            let body = if body.is_null() { SdkBody::empty() } else { body.to_string().into() };
            let mut response = HttpResponse::new(status.try_into().unwrap(), body);
            response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
            Ok(response)
        })
    }
}

impl fmt::Debug for Sqs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sqs")
    }
}

/// A long poll that ends with nothing.
pub(crate) fn nothing() -> Answer {
    Answer::SaysAfter(Duration::from_secs(20), json!({}))
}

/// Messages with these ids, received for the first time.
pub(crate) fn messages(ids: impl IntoIterator<Item = impl fmt::Display>) -> Value {
    received(ids, 1)
}

pub(crate) fn received(ids: impl IntoIterator<Item = impl fmt::Display>, count: u32) -> Value {
    let messages = ids.into_iter().map(|id| {
        json!({"MessageId": id.to_string(), "ReceiptHandle": format!("receipt {id}"), "Body": "secret body",
            "Attributes": {"ApproximateReceiveCount": count.to_string()}})
    });
    json!({"Messages": messages.collect::<Vec<_>>()})
}

/// SQS's way of saying no.
pub(crate) fn refusal(status: u16, code: &str) -> Answer {
    Answer::Says(status, json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": code}))
}
