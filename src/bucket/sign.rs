//! AWS Signature Version 4, as a query: <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
//!
//! The SDK's own `presigned()` costs some 40 µs a URL; lists and joins need hundreds at a time. So the
//! request is put together here, with the day's key kept, and `aws-sigv4` does the cryptography.

use std::{
    fmt::Write as _,
    ops::RangeInclusive,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use aws_config::SdkConfig;
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider},
};
use aws_sdk_s3::{Client, presigning::PresigningConfig};
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

/// S3 takes no URL that lives longer.
pub const MAX_LIFE: Duration = Duration::from_hours(7 * 24);
/// Credentials that end sooner than this are fetched anew.
const REFRESH_BEFORE: Duration = Duration::from_mins(5);
/// Who provides credentials has this long.
const PROVIDED_WITHIN: Duration = Duration::from_secs(10);

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
pub(super) const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// Where a bucket is reached: what stands before the key in a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Base {
    /// `https://photos.s3.eu-central-1.amazonaws.com`
    pub origin: Arc<str>,
    /// Empty, or `/photos` where the bucket's name is the first part of the path.
    pub path: Arc<str>,
}

/// Signs with the credentials of the server.
pub struct Signer {
    base: Base,
    region: String,
    provider: SharedCredentialsProvider,
    kept: Mutex<Option<Arc<Day>>>,
}

/// A day's signing key.
struct Day {
    credentials: Credentials,
    date: String,
    key: Vec<u8>,
}

/// Nothing can be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The provider chain has none.
    #[error("no AWS credentials")]
    Credentials(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The SDK knows no place for the bucket.
    #[error("no endpoint for bucket {bucket}")]
    Endpoint {
        /// The bucket.
        bucket: String,
        /// What the SDK says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Neither `AWS_REGION` nor a profile says where.
    #[error("no AWS region: set AWS_REGION")]
    Region,
}

/// What is to be signed.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The object's key, decoded.
    pub key: &'a str,
    /// Further query parameters, decoded.
    pub query: &'a [(&'a str, &'a str)],
    /// Headers that the client must send to the letter, names in lower case; `host` is added.
    pub headers: &'a [(&'a str, &'a str)],
}

/// A form that is to be signed.
#[derive(Debug, Clone)]
pub struct Form<'a> {
    /// The bucket that it is sent to.
    pub bucket: &'a str,
    /// Bytes that the file may have.
    pub sizes: RangeInclusive<u64>,
    /// Fields that must be sent to the letter.
    pub fields: Vec<(String, String)>,
}

/// A signed URL and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The URL.
    pub url: String,
    /// When S3 stops taking it.
    pub expires_at: Timestamp,
}

impl Base {
    /// The same bucket under another origin.
    #[must_use]
    pub fn at(&self, origin: &str) -> Self {
        Self { origin: origin.into(), path: self.path.clone() }
    }

    fn host(&self) -> &str {
        self.origin.split_once("://").map_or(&*self.origin, |(_, host)| host)
    }
}

impl Signer {
    /// Asks the SDK where the bucket lives by having it sign one URL, so that its endpoint rules
    /// (partitions, FIPS, dual-stack, custom endpoints) are ours.
    pub(super) async fn learn(sdk: &SdkConfig, client: &Client, bucket: &str) -> Result<Self, SignerError> {
        let region = sdk.region().ok_or(SignerError::Region)?.to_string();
        let provider =
            sdk.credentials_provider().ok_or_else(|| SignerError::Credentials("no provider".into()))?;
        let credentials = provided(&provider).await?;
        let endpoint = |source: Box<dyn std::error::Error + Send + Sync>| SignerError::Endpoint {
            bucket: bucket.to_owned(),
            source,
        };
        let minute = PresigningConfig::expires_in(Duration::from_mins(1)).map_err(|e| endpoint(e.into()))?;
        let sample = client.get_object().bucket(bucket).key("k").presigned(minute).await;
        let sample = sample.map_err(|error| endpoint(error.into()))?;
        let uri = sample.uri().split('?').next().unwrap_or_default().trim_end_matches("/k");
        let host_at = uri.find("://").map_or(0, |at| at + 3);
        let path_at = uri[host_at..].find('/').map_or(uri.len(), |at| at + host_at);
        let base = Base { origin: uri[..path_at].into(), path: uri[path_at..].into() };
        let signer = Self { base, region, provider, kept: Mutex::new(None) };
        signer.keep(credentials, Timestamp::now());
        Ok(signer)
    }

    /// Where the SDK reaches the bucket.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// Makes sure that what [`Signer::sign`] signs with lives a while yet. Cheap when it does.
    ///
    /// # Errors
    /// When the provider has no credentials left.
    pub async fn refresh(&self, now: Timestamp) -> Result<(), SignerError> {
        let kept = self.kept.lock().expect("no panic while held").clone();
        let fresh = kept.as_ref().is_some_and(|day| {
            day.credentials.expiry().is_none_or(|end| end > SystemTime::from(now) + REFRESH_BEFORE)
        });
        if !fresh {
            self.keep(provided(&self.provider).await?, now);
        }
        Ok(())
    }

    /// Signs `request` as of `at`, for at most `life`: never longer than S3 or the credentials allow.
    #[must_use]
    pub fn sign(&self, base: &Base, request: Request<'_>, at: Timestamp, life: Duration) -> Signed {
        let at = whole_second(at);
        let day = self.day(at);
        let life = Self::granted(&day, at, life);
        let time = at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let scope = format!("{}/{}/s3/aws4_request", day.date, self.region);
        let (names, headers) = canonical_headers(base.host(), request.headers);
        let credential = format!("{}/{scope}", day.credentials.access_key_id());
        let seconds = life.as_secs().to_string();
        let mut query = vec![
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", &time),
            ("X-Amz-Expires", &seconds),
            ("X-Amz-SignedHeaders", &names),
        ];
        query.extend(day.credentials.session_token().map(|token| ("X-Amz-Security-Token", token)));
        query.extend(request.query);
        let query = canonical_query(query);
        let path = path_of(base, request.key);
        let canonical = format!("{}\n{path}\n{query}\n{headers}\n{names}\nUNSIGNED-PAYLOAD", request.method);
        let hash = hex::encode(Sha256::digest(canonical));
        let signature =
            calculate_signature(&day.key, format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}").as_bytes());
        Signed {
            url: format!("{}{path}?{query}&X-Amz-Signature={signature}", base.origin),
            expires_at: at + life,
        }
    }

    /// Signs a form's policy: gives back all of its fields, in the order of sending, and its end.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-UsingHTTPPOST.html>
    #[must_use]
    pub fn sign_form(
        &self,
        form: Form<'_>,
        at: Timestamp,
        life: Duration,
    ) -> (Vec<(String, String)>, Timestamp) {
        let at = whole_second(at);
        let day = self.day(at);
        let expires_at = at + Self::granted(&day, at, life);
        let mut fields = form.fields;
        let credential =
            format!("{}/{}/{}/s3/aws4_request", day.credentials.access_key_id(), day.date, self.region);
        fields.push(("x-amz-algorithm".into(), "AWS4-HMAC-SHA256".into()));
        fields.push(("x-amz-credential".into(), credential));
        fields.push(("x-amz-date".into(), at.strftime("%Y%m%dT%H%M%SZ").to_string()));
        fields.extend(
            day.credentials.session_token().map(|token| ("x-amz-security-token".into(), token.into())),
        );
        let exact = fields.iter().map(|(name, value)| json!({ name: value }));
        let mut conditions: Vec<_> = exact.chain([json!({ "bucket": form.bucket })]).collect();
        conditions.push(json!(["content-length-range", form.sizes.start(), form.sizes.end()]));
        // S3 wants milliseconds or none, never more digits.
        let expiration = expires_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let policy = json!({ "expiration": expiration, "conditions": conditions }).to_string();
        let policy = BASE64_STANDARD.encode(policy);
        let signature = calculate_signature(&day.key, policy.as_bytes());
        fields.push(("policy".into(), policy));
        fields.push(("x-amz-signature".into(), signature));
        (fields, expires_at)
    }

    fn granted(day: &Day, at: Timestamp, life: Duration) -> Duration {
        let left = day
            .credentials
            .expiry()
            .map(|end| end.duration_since(SystemTime::from(at)).unwrap_or(Duration::from_secs(1)));
        life.min(MAX_LIFE).min(left.unwrap_or(MAX_LIFE)).max(Duration::from_secs(1))
    }

    fn keep(&self, credentials: Credentials, at: Timestamp) -> Arc<Day> {
        let key = generate_signing_key(credentials.secret_access_key(), at.into(), &self.region, "s3");
        let day = Arc::new(Day { date: date(at), key: key.as_ref().to_vec(), credentials });
        *self.kept.lock().expect("no panic while held") = Some(day.clone());
        day
    }

    fn day(&self, at: Timestamp) -> Arc<Day> {
        let kept = self.kept.lock().expect("no panic while held").clone();
        let kept = kept.expect("kept since the signer was made");
        if kept.date == date(at) { kept } else { self.keep(kept.credentials.clone(), at) }
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("base", &self.base).finish_non_exhaustive()
    }
}

/// The credentials that are in force. Not every source of them limits how long it takes.
async fn provided(provider: &SharedCredentialsProvider) -> Result<Credentials, SignerError> {
    let answer = timeout(PROVIDED_WITHIN, provider.provide_credentials()).await;
    let in_time = answer.map_err(|late| SignerError::Credentials(late.into()))?;
    in_time.map_err(|error| SignerError::Credentials(error.into()))
}

/// The path of `key` under `base`, encoded once.
pub(super) fn path_of(base: &Base, key: &str) -> String {
    format!("{}/{}", base.path, percent_encode(key.as_bytes(), PATH))
}

/// Signatures know no fractions.
fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn date(at: Timestamp) -> String {
    at.strftime("%Y%m%d").to_string()
}

/// The signed headers' names, and their lines, both in the order of the names.
fn canonical_headers(host: &str, headers: &[(&str, &str)]) -> (String, String) {
    let mut all: Vec<_> = headers.iter().copied().chain([("host", host)]).collect();
    all.sort_unstable();
    let names = all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let mut lines = String::new();
    for (name, value) in all {
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(lines, "{name}:{value}");
    }
    (names, lines)
}

fn canonical_query(mut pairs: Vec<(&str, &str)>) -> String {
    pairs.sort_unstable();
    let pairs = pairs.iter().map(|(name, value)| {
        format!(
            "{}={}",
            percent_encode(name.as_bytes(), UNRESERVED),
            percent_encode(value.as_bytes(), UNRESERVED)
        )
    });
    pairs.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests;
