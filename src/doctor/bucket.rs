//! What of the bucket matters.

use super::{Finding, Notification};
use crate::bucket::{Bucket, BucketError, CorsRule, Target};

const FAMILIES: [&str; 3] = ["s3:ObjectCreated", "s3:ObjectRemoved", "s3:LifecycleExpiration"];
const REDEPLOY: &str = "aws cloudformation deploy --template-file infra/photos.yaml";

pub(super) async fn reachable(bucket: &Bucket, region: &str) -> Finding {
    const CHECK: &str = "bucket";
    let name = bucket.name();
    if let Err(error) = bucket.ping().await {
        if error.is_elsewhere() {
            let found = format!("{name} is not in {region}, which AWS_REGION says");
            let mend =
                format!("set AWS_REGION to what this says: aws s3api get-bucket-location --bucket {name}");
            return Finding::failure(CHECK, found, mend);
        }
        let mend = "compare S3_BUCKET with the output BucketName of infra/photos.yaml, and the server's \
             policy with infra/access.yaml";
        return Finding::failure(CHECK, error.to_string(), mend);
    }
    match bucket.region().await {
        Ok(there) if there != region => {
            let found = format!("{name} is in {there}, AWS_REGION is {region}");
            Finding::failure(CHECK, found, format!("AWS_REGION={there}"))
        }
        Ok(there) => Finding::ok(CHECK, format!("{name} in {there} answers")),
        Err(error) => unread(CHECK, &error),
    }
}

pub(super) fn notification(
    bucket: &Bucket,
    said: &Result<Notification, BucketError>,
    queue: &str,
) -> Finding {
    const CHECK: &str = "notification";
    let said = match said {
        Ok(said) => said,
        Err(error) => return unread(CHECK, error),
    };
    let ours: Vec<_> = said.queues.iter().filter(|target| target.arn == queue).collect();
    if ours.is_empty() {
        return elsewhere(said, queue);
    }
    let prefix = bucket.prefix().as_str();
    let seen = |target: &&&Target| target.suffix.is_empty() && prefix.starts_with(&target.prefix);
    let heard = |family: &&str| ours.iter().filter(seen).any(|target| covers(target, family));
    let missing: Vec<_> = FAMILIES.into_iter().filter(|family| !heard(family)).collect();
    if missing.is_empty() {
        return Finding::ok(CHECK, format!("all events of {prefix}* go to {queue}"));
    }
    let found = format!("{} of keys {prefix}* do not go to {queue}", missing.join(", "));
    let mend = format!("{REDEPLOY} … --parameter-overrides KeyPrefix={prefix}");
    if missing.contains(&FAMILIES[0]) || missing.contains(&FAMILIES[1]) {
        Finding::failure(CHECK, found, mend)
    } else {
        Finding::warning(CHECK, format!("{found}: expired photos are not told to be gone"), mend)
    }
}

/// By a topic or EventBridge, whose own settings the server may not read: the round trip tells.
fn elsewhere(said: &Notification, queue: &str) -> Finding {
    const CHECK: &str = "notification";
    if said.event_bridge {
        return Finding::ok(CHECK, "goes to EventBridge; whether a rule hands it on, the round trip tells");
    }
    if let Some(topic) = said.topics.first() {
        let found = format!("goes to {}; whether that hands it on, the round trip tells", topic.arn);
        return Finding::ok(CHECK, found);
    }
    let others: Vec<_> = said.queues.iter().map(|target| target.arn.as_str()).collect();
    let found = if others.is_empty() {
        "the bucket tells nobody of its photos".to_owned()
    } else {
        format!("events go to {}, not to {queue}", others.join(", "))
    };
    let mend = format!(
        "{REDEPLOY} … --parameter-overrides Delivery=direct, or compare SQS_QUEUE_URL with its output QueueUrl"
    );
    Finding::failure(CHECK, found, mend)
}

fn covers(target: &Target, family: &str) -> bool {
    let all = format!("{family}:*");
    let named = |name: &str| target.events.iter().any(|event| *event == format!("{family}:{name}"));
    target.events.contains(&all)
        || match family {
            "s3:ObjectCreated" => ["Put", "Post", "Copy", "CompleteMultipartUpload"].into_iter().all(named),
            _ => ["Delete", "DeleteMarkerCreated"].into_iter().all(named),
        }
}

pub(super) async fn encryption(bucket: &Bucket) -> Finding {
    const CHECK: &str = "bucket-encryption";
    match bucket.encryption_key().await {
        Ok(None) => Finding::ok(CHECK, "S3's own keys"),
        Ok(Some(key)) => {
            Finding::ok(CHECK, format!("the key {key}; whether it may be used, the round trip tells"))
        }
        Err(error) => unread(CHECK, &error),
    }
}

pub(super) async fn cors(bucket: &Bucket, origins: &[String]) -> Finding {
    const CHECK: &str = "cors";
    let rules = match bucket.cors().await {
        Ok(rules) => rules,
        Err(error) => return unread(CHECK, &error),
    };
    if origins.is_empty() {
        return Finding::ok(CHECK, "no ALLOWED_ORIGINS: native apps need none");
    }
    let lacking = |origin: &String| lack(&rules, origin).map(|lack| format!("{origin}: {lack}"));
    let lacks: Vec<_> = origins.iter().filter_map(lacking).collect();
    if lacks.is_empty() {
        return Finding::ok(CHECK, format!("pages of {} may upload and read ETag", origins.join(", ")));
    }
    let mend = format!("{REDEPLOY} … --parameter-overrides AllowedOrigins={}", origins.join(","));
    Finding::failure(CHECK, lacks.join("; "), mend)
}

/// What a page of `origin` lacks. The first rule that names the origin and a method decides.
fn lack(rules: &[CorsRule], origin: &str) -> Option<String> {
    let of_origin: Vec<_> =
        rules.iter().filter(|rule| rule.origins.iter().any(|pattern| matches(pattern, origin))).collect();
    if of_origin.is_empty() {
        return Some("no rule names it".into());
    }
    for method in ["PUT", "POST", "GET"] {
        let Some(rule) = of_origin.iter().find(|rule| rule.methods.iter().any(|said| said == method)) else {
            return Some(format!("{method} is not allowed"));
        };
        for header in ["content-type", "if-none-match", "x-amz-meta-filename", "x-amz-checksum-sha256"] {
            if method != "GET" && !rule.headers.iter().any(|pattern| matches(pattern, header)) {
                return Some(format!("the header {header} is not allowed for {method}"));
            }
        }
        if method == "PUT" && !rule.exposed.iter().any(|exposed| exposed.eq_ignore_ascii_case("etag")) {
            return Some("ETag is not exposed, which multipart uploads need".into());
        }
    }
    None
}

fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => {
            text.len() + 1 >= pattern.len() && text.starts_with(before) && text.ends_with(after)
        }
    }
}

pub(super) async fn lifecycle(bucket: &Bucket) -> Finding {
    const CHECK: &str = "lifecycle";
    match bucket.sweeps_uploads_after().await {
        Ok(Some(days)) => Finding::ok(CHECK, format!("uploads that were given up go after {days} days")),
        Ok(None) => {
            let mend = format!("{REDEPLOY} (its rule abort-abandoned-uploads)");
            Finding::warning(CHECK, "multipart uploads that were given up stay, and are paid for", mend)
        }
        Err(error) => unread(CHECK, &error),
    }
}

fn unread(check: &'static str, error: &BucketError) -> Finding {
    let mend = if error.is_refusal() {
        "aws cloudformation deploy --template-file infra/access.yaml … --parameter-overrides AllowDoctor=true"
    } else {
        "run it again when the other lines are ok"
    };
    Finding::warning(check, format!("can't be told: {error}"), mend)
}
