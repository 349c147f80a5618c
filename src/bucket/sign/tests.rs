//! Compares signatures with the examples that AWS publishes.

use aws_credential_types::provider::future;

use super::*;

/// A signer with the credentials, time and bucket of AWS's published examples.
fn example_signer() -> Signer {
    let credentials = Credentials::new(
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        None,
        None,
        "test",
    );
    let bucket_url = BucketUrl { origin: "https://examplebucket.s3.amazonaws.com".into(), path: "".into() };
    let provider = SharedCredentialsProvider::new(credentials.clone());
    let signer = Signer { bucket_url, region: "us-east-1".into(), provider, cached_key: Mutex::new(None) };
    signer.cache_signing_key(credentials, "2013-05-24T00:00:00Z".parse().unwrap());
    signer
}

#[derive(Debug)]
struct UnresponsiveProvider;

impl ProvideCredentials for UnresponsiveProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn fetching_credentials_times_out() {
    assert!(fetch_credentials(&SharedCredentialsProvider::new(UnresponsiveProvider)).await.is_err());
}

const GET: PresignRequest<'static> =
    PresignRequest { method: "GET", key: "test.txt", query: &[], headers: &[] };

#[test]
fn the_published_example_has_the_published_signature() {
    let signer = example_signer();
    let signed = signer.presign(
        signer.bucket_url(),
        GET,
        "2013-05-24T00:00:00Z".parse().unwrap(),
        Duration::from_hours(24),
    );
    assert!(
        signed
            .url
            .ends_with("X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"),
        "{}",
        signed.url
    );
    assert_eq!(signed.expires_at.to_string(), "2013-05-25T00:00:00Z");
}

#[test]
fn the_published_policy_has_the_published_signature() {
    // https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-post-example.html
    let policy = [
        r#"{ "expiration": "2015-12-30T12:00:00.000Z","#,
        r#"  "conditions": ["#,
        r#"    {"bucket": "sigv4examplebucket"},"#,
        r#"    ["starts-with", "$key", "user/user1/"],"#,
        r#"    {"acl": "public-read"},"#,
        r#"    {"success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"},"#,
        r#"    ["starts-with", "$Content-Type", "image/"],"#,
        r#"    {"x-amz-meta-uuid": "14365123651274"},"#,
        r#"    {"x-amz-server-side-encryption": "AES256"},"#,
        r#"    ["starts-with", "$x-amz-meta-tag", ""],"#,
        "",
        r#"    {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},"#,
        r#"    {"x-amz-algorithm": "AWS4-HMAC-SHA256"},"#,
        r#"    {"x-amz-date": "20151229T000000Z" }"#,
        "  ]",
        "}",
    ];
    let signing_key = example_signer().signing_key_of_day("2015-12-29T00:00:00Z".parse().unwrap());
    let policy = BASE64_STANDARD.encode(policy.join("\r\n"));
    let signature = calculate_signature(&signing_key.key, policy.as_bytes());
    assert_eq!(signature, "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e");
}

#[test]
fn the_policy_of_a_form_requires_each_field_verbatim() {
    let signer = example_signer();
    let fields = vec![("key".to_owned(), "summer/a.jpg".to_owned())];
    let form = PostForm { bucket: "examplebucket", sizes: 1..=7, fields };
    let at = "2013-05-24T00:00:00.9Z".parse().unwrap();
    let (fields, expires_at) = signer.sign_form(form, at, Duration::from_hours(1));
    let names: Vec<_> = fields.iter().map(|(name, _)| &**name).collect();
    let expected = ["key", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "policy", "x-amz-signature"];
    assert_eq!(names, expected);
    assert_eq!(expires_at.to_string(), "2013-05-24T01:00:00Z");
    let policy = BASE64_STANDARD.decode(&fields[4].1).unwrap();
    let policy: serde_json::Value = serde_json::from_slice(&policy).unwrap();
    assert_eq!(
        policy,
        json!({"expiration": "2013-05-24T01:00:00Z", "conditions": [
            {"key": "summer/a.jpg"},
            {"x-amz-algorithm": "AWS4-HMAC-SHA256"},
            {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"},
            {"x-amz-date": "20130524T000000Z"},
            {"bucket": "examplebucket"},
            ["content-length-range", 1, 7],
        ]})
    );
}

#[test]
fn a_url_expires_after_seven_days_or_with_the_credentials() {
    let signer = example_signer();
    let at: Timestamp = "2013-05-24T00:00:00Z".parse().unwrap();
    let signed = signer.presign(signer.bucket_url(), GET, at, Duration::from_secs(1_000_000));
    assert_eq!(signed.expires_at.to_string(), "2013-05-31T00:00:00Z");
    let end = SystemTime::from(at) + Duration::from_secs(90);
    signer.cache_signing_key(Credentials::new("A", "b", Some("t".into()), Some(end), "test"), at);
    let signed = signer.presign(signer.bucket_url(), GET, at, Duration::from_hours(1));
    assert!(signed.url.contains("X-Amz-Expires=90&X-Amz-Security-Token=t&"), "{}", signed.url);
}

#[test]
fn keys_are_encoded_once_and_slashes_stay() {
    let signer = example_signer();
    let request = PresignRequest { key: "summer/a b+c@dé%2F.jpg", ..GET };
    let signed = signer.presign(
        signer.bucket_url(),
        request,
        "2013-05-24T00:00:00Z".parse().unwrap(),
        Duration::from_mins(1),
    );
    assert!(signed.url.contains("/summer/a%20b%2Bc%40d%C3%A9%252F.jpg?"), "{}", signed.url);
}
