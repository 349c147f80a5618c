//! Signatures beside those that AWS published.

use aws_credential_types::provider::future;

use super::*;

/// The keys, time and bucket of AWS's published examples.
fn example() -> Signer {
    let credentials = Credentials::new(
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        None,
        None,
        "test",
    );
    let base = Base { origin: "https://examplebucket.s3.amazonaws.com".into(), path: "".into() };
    let provider = SharedCredentialsProvider::new(credentials.clone());
    let signer = Signer { base, region: "us-east-1".into(), provider, kept: Mutex::new(None) };
    signer.keep(credentials, "2013-05-24T00:00:00Z".parse().unwrap());
    signer
}

#[derive(Debug)]
struct Silent;

impl ProvideCredentials for Silent {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_that_do_not_come_are_not_waited_for() {
    assert!(provided(&SharedCredentialsProvider::new(Silent)).await.is_err());
}

const GET: Request<'static> = Request { method: "GET", key: "test.txt", query: &[], headers: &[] };

#[test]
fn the_published_example_has_the_published_signature() {
    let signer = example();
    let got =
        signer.sign(signer.base(), GET, "2013-05-24T00:00:00Z".parse().unwrap(), Duration::from_hours(24));
    assert!(
        got.url.ends_with("X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"),
        "{}",
        got.url
    );
    assert_eq!(got.expires_at.to_string(), "2013-05-25T00:00:00Z");
}

#[test]
fn trap_18_the_published_policy_has_the_published_signature() {
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
    let day = example().day("2015-12-29T00:00:00Z".parse().unwrap());
    let policy = BASE64_STANDARD.encode(policy.join("\r\n"));
    let signature = calculate_signature(&day.key, policy.as_bytes());
    assert_eq!(signature, "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e");
}

#[test]
fn a_form_says_in_its_policy_what_it_sends_to_the_letter() {
    let signer = example();
    let fields = vec![("key".to_owned(), "summer/a.jpg".to_owned())];
    let form = Form { bucket: "examplebucket", sizes: 1..=7, fields };
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
fn a_url_never_outlives_seven_days_or_the_credentials() {
    let signer = example();
    let at: Timestamp = "2013-05-24T00:00:00Z".parse().unwrap();
    let got = signer.sign(signer.base(), GET, at, Duration::from_secs(1_000_000));
    assert_eq!(got.expires_at.to_string(), "2013-05-31T00:00:00Z");
    let end = SystemTime::from(at) + Duration::from_secs(90);
    signer.keep(Credentials::new("A", "b", Some("t".into()), Some(end), "test"), at);
    let got = signer.sign(signer.base(), GET, at, Duration::from_hours(1));
    assert!(got.url.contains("X-Amz-Expires=90&X-Amz-Security-Token=t&"), "{}", got.url);
}

#[test]
fn keys_are_encoded_once_and_slashes_stay() {
    let signer = example();
    let request = Request { key: "summer/a b+c@dé%2F.jpg", ..GET };
    let got =
        signer.sign(signer.base(), request, "2013-05-24T00:00:00Z".parse().unwrap(), Duration::from_mins(1));
    assert!(got.url.contains("/summer/a%20b%2Bc%40d%C3%A9%252F.jpg?"), "{}", got.url);
}
