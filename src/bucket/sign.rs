//! Presigned URLs and forms with AWS Signature Version 4:
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
//!
//! The SDK's `presigned()` takes about 40 µs per URL, and one listing or join needs hundreds of URLs. This
//! module therefore builds the canonical request itself and caches the day's signing key; `aws-sigv4` does
//! the cryptography.

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

/// S3's limit on the TTL of a presigned URL.
pub const MAX_TTL: Duration = Duration::from_hours(7 * 24);
/// Credentials that expire sooner than this are replaced.
const REFRESH_BEFORE: Duration = Duration::from_mins(5);
/// Timeout of loading credentials. Some providers have none of their own.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(10);

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
pub(super) const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// URL of a bucket: the part of an object's URL before its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketUrl {
    /// `https://photos.s3.eu-central-1.amazonaws.com`
    pub origin: Arc<str>,
    /// Empty for virtual-hosted style, `/photos` for path style.
    pub path: Arc<str>,
}

/// Signs requests with the server's credentials.
pub struct Signer {
    bucket_url: BucketUrl,
    region: String,
    provider: SharedCredentialsProvider,
    cached_key: Mutex<Option<Arc<SigningKey>>>,
}

/// The signing key of one day, and the credentials that it is derived from.
struct SigningKey {
    credentials: Credentials,
    date: String,
    key: Vec<u8>,
}

/// Requests can't be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The provider chain returned no credentials.
    #[error("failed to load AWS credentials")]
    Credentials(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The SDK could not resolve an endpoint.
    #[error("failed to resolve the endpoint of bucket {bucket}")]
    Endpoint {
        /// Name of the bucket.
        bucket: String,
        /// Error of the SDK.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Neither `AWS_REGION` nor a profile sets the region.
    #[error("no AWS region is configured: set AWS_REGION")]
    Region,
}

/// A request to sign.
#[derive(Debug, Clone, Copy)]
pub struct PresignRequest<'a> {
    /// HTTP method.
    pub method: &'a str,
    /// Key of the object, not percent-encoded.
    pub key: &'a str,
    /// Additional query parameters, not percent-encoded.
    pub query: &'a [(&'a str, &'a str)],
    /// Headers that the client must send verbatim, with names in lower case. `host` is added.
    pub headers: &'a [(&'a str, &'a str)],
}

/// A form to sign.
#[derive(Debug, Clone)]
pub struct PostForm<'a> {
    /// Name of the bucket.
    pub bucket: &'a str,
    /// Allowed sizes of the file, in bytes.
    pub sizes: RangeInclusive<u64>,
    /// Fields that the client must send verbatim.
    pub fields: Vec<(String, String)>,
}

/// A presigned URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedUrl {
    /// The URL.
    pub url: String,
    /// When S3 stops accepting it.
    pub expires_at: Timestamp,
}

impl BucketUrl {
    /// Returns the URL of the same bucket under another origin.
    #[must_use]
    pub fn with_origin(&self, origin: &str) -> Self {
        Self { origin: origin.into(), path: self.path.clone() }
    }

    fn host(&self) -> &str {
        self.origin.split_once("://").map_or(&*self.origin, |(_, host)| host)
    }
}

impl Signer {
    /// Creates a signer for `bucket`. Resolves the endpoint by presigning one URL with the SDK, so that all
    /// of its endpoint rules apply: partitions, FIPS, dual-stack, custom endpoints.
    pub(super) async fn discover(
        sdk: &SdkConfig,
        client: &Client,
        bucket: &str,
    ) -> Result<Self, SignerError> {
        let region = sdk.region().ok_or(SignerError::Region)?.to_string();
        let provider = sdk
            .credentials_provider()
            .ok_or_else(|| SignerError::Credentials("no credentials provider is configured".into()))?;
        let credentials = fetch_credentials(&provider).await?;
        let endpoint = |source: Box<dyn std::error::Error + Send + Sync>| SignerError::Endpoint {
            bucket: bucket.to_owned(),
            source,
        };
        let minute = PresigningConfig::expires_in(Duration::from_mins(1)).map_err(|e| endpoint(e.into()))?;
        let sample = client.get_object().bucket(bucket).key("k").presigned(minute).await;
        let sample = sample.map_err(|error| endpoint(error.into()))?;
        let uri = sample.uri().split('?').next().unwrap_or_default().trim_end_matches("/k");
        let host_start = uri.find("://").map_or(0, |index| index + 3);
        let path_start = uri[host_start..].find('/').map_or(uri.len(), |index| index + host_start);
        let bucket_url = BucketUrl { origin: uri[..path_start].into(), path: uri[path_start..].into() };
        let signer = Self { bucket_url, region, provider, cached_key: Mutex::new(None) };
        signer.cache_signing_key(credentials, Timestamp::now());
        Ok(signer)
    }

    /// URL of the bucket at the SDK's endpoint.
    pub fn bucket_url(&self) -> &BucketUrl {
        &self.bucket_url
    }

    /// Fetches new credentials if the cached ones expire soon.
    ///
    /// # Errors
    /// When the provider returns no credentials.
    pub async fn refresh_credentials(&self, now: Timestamp) -> Result<(), SignerError> {
        let cached = self.cached_key.lock().expect("no panic while held").clone();
        let is_fresh = cached.as_ref().is_some_and(|signing_key| {
            signing_key.credentials.expiry().is_none_or(|end| end > SystemTime::from(now) + REFRESH_BEFORE)
        });
        if !is_fresh {
            self.cache_signing_key(fetch_credentials(&self.provider).await?, now);
        }
        Ok(())
    }

    /// Signs `request` at the time `at`. The URL is valid for `ttl`, or less if S3 or the credentials limit
    /// it.
    #[must_use]
    pub fn presign(
        &self,
        bucket_url: &BucketUrl,
        request: PresignRequest<'_>,
        at: Timestamp,
        ttl: Duration,
    ) -> SignedUrl {
        let at = truncate_to_second(at);
        let signing_key = self.signing_key_of_day(at);
        let ttl = Self::cap_ttl(&signing_key, at, ttl);
        let time = at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let scope = format!("{}/{}/s3/aws4_request", signing_key.date, self.region);
        let (names, headers) = canonical_headers(bucket_url.host(), request.headers);
        let credential = format!("{}/{scope}", signing_key.credentials.access_key_id());
        let seconds = ttl.as_secs().to_string();
        let mut query = vec![
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", &time),
            ("X-Amz-Expires", &seconds),
            ("X-Amz-SignedHeaders", &names),
        ];
        query.extend(signing_key.credentials.session_token().map(|token| ("X-Amz-Security-Token", token)));
        query.extend(request.query);
        let query = canonical_query(query);
        let path = object_path(bucket_url, request.key);
        let canonical = format!("{}\n{path}\n{query}\n{headers}\n{names}\nUNSIGNED-PAYLOAD", request.method);
        let hash = hex::encode(Sha256::digest(canonical));
        let signature = calculate_signature(
            &signing_key.key,
            format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}").as_bytes(),
        );
        SignedUrl {
            url: format!("{}{path}?{query}&X-Amz-Signature={signature}", bucket_url.origin),
            expires_at: at + ttl,
        }
    }

    /// Signs a form. Returns all fields in the order in which to send them, and when S3 stops accepting them.
    /// See <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-UsingHTTPPOST.html>
    #[must_use]
    pub fn sign_form(
        &self,
        form: PostForm<'_>,
        at: Timestamp,
        ttl: Duration,
    ) -> (Vec<(String, String)>, Timestamp) {
        let at = truncate_to_second(at);
        let signing_key = self.signing_key_of_day(at);
        let expires_at = at + Self::cap_ttl(&signing_key, at, ttl);
        let mut fields = form.fields;
        let credential = format!(
            "{}/{}/{}/s3/aws4_request",
            signing_key.credentials.access_key_id(),
            signing_key.date,
            self.region
        );
        fields.push(("x-amz-algorithm".into(), "AWS4-HMAC-SHA256".into()));
        fields.push(("x-amz-credential".into(), credential));
        fields.push(("x-amz-date".into(), at.strftime("%Y%m%dT%H%M%SZ").to_string()));
        fields.extend(
            signing_key
                .credentials
                .session_token()
                .map(|token| ("x-amz-security-token".into(), token.into())),
        );
        let exact = fields.iter().map(|(name, value)| json!({ name: value }));
        let mut conditions: Vec<_> = exact.chain([json!({ "bucket": form.bucket })]).collect();
        conditions.push(json!(["content-length-range", form.sizes.start(), form.sizes.end()]));
        // S3 accepts a time with milliseconds or without a fraction, but with no other number of digits.
        let expiration = expires_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let policy = json!({ "expiration": expiration, "conditions": conditions }).to_string();
        let policy = BASE64_STANDARD.encode(policy);
        let signature = calculate_signature(&signing_key.key, policy.as_bytes());
        fields.push(("policy".into(), policy));
        fields.push(("x-amz-signature".into(), signature));
        (fields, expires_at)
    }

    fn cap_ttl(signing_key: &SigningKey, at: Timestamp, ttl: Duration) -> Duration {
        let remaining = signing_key
            .credentials
            .expiry()
            .map(|end| end.duration_since(SystemTime::from(at)).unwrap_or(Duration::from_secs(1)));
        ttl.min(MAX_TTL).min(remaining.unwrap_or(MAX_TTL)).max(Duration::from_secs(1))
    }

    fn cache_signing_key(&self, credentials: Credentials, at: Timestamp) -> Arc<SigningKey> {
        let key = generate_signing_key(credentials.secret_access_key(), at.into(), &self.region, "s3");
        let signing_key =
            Arc::new(SigningKey { date: format_date(at), key: key.as_ref().to_vec(), credentials });
        *self.cached_key.lock().expect("no panic while held") = Some(signing_key.clone());
        signing_key
    }

    fn signing_key_of_day(&self, at: Timestamp) -> Arc<SigningKey> {
        let cached = self.cached_key.lock().expect("no panic while held").clone();
        let cached = cached.expect("`discover` caches a key");
        if cached.date == format_date(at) {
            cached
        } else {
            self.cache_signing_key(cached.credentials.clone(), at)
        }
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("bucket_url", &self.bucket_url).finish_non_exhaustive()
    }
}

/// Fetches the current credentials.
async fn fetch_credentials(provider: &SharedCredentialsProvider) -> Result<Credentials, SignerError> {
    let credentials = timeout(CREDENTIALS_TIMEOUT, provider.provide_credentials()).await;
    let credentials = credentials.map_err(|elapsed| SignerError::Credentials(elapsed.into()))?;
    credentials.map_err(|error| SignerError::Credentials(error.into()))
}

/// Returns the path of the object `key`, percent-encoded once as S3 requires, not twice as other services do.
pub(super) fn object_path(bucket_url: &BucketUrl, key: &str) -> String {
    format!("{}/{}", bucket_url.path, percent_encode(key.as_bytes(), PATH))
}

/// Signatures contain whole seconds.
fn truncate_to_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn format_date(at: Timestamp) -> String {
    at.strftime("%Y%m%d").to_string()
}

/// Returns the names of the signed headers and the canonical header lines, both sorted by name.
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
