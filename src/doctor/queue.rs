//! What of the queue matters.

use serde_json::Value;

use super::{Finding, Notification};
use crate::queue::{QueueError, QueueSettings, SqsQueue};

/// S3's events reach 64 KiB.
const LARGEST_EVENT: u64 = 65_536;
/// A stopping server finishes, or gives back, within this many seconds.
const HANDLER_LIMIT: u64 = 30;

pub(super) fn unreachable(error: &QueueError) -> Finding {
    let mend = "compare SQS_QUEUE_URL with the output QueueUrl of infra/photos.yaml, and the server's \
         policy with infra/access.yaml";
    Finding::failure("queue", error.to_string(), mend)
}

pub(super) async fn examine(
    queue: &SqsQueue,
    settings: &QueueSettings,
    bucket: &str,
    by: &Notification,
) -> Vec<Finding> {
    vec![
        kind(settings),
        policy(queue, settings, bucket, by),
        encryption(queue, settings, by),
        message_size(queue, settings),
        visibility(queue, settings),
        dead_letters(queue, settings).await,
    ]
}

fn kind(settings: &QueueSettings) -> Finding {
    const CHECK: &str = "queue";
    let arn = settings.text("QueueArn");
    if settings.text("FifoQueue") == "true" {
        let mend =
            "aws cloudformation deploy --template-file infra/photos.yaml, and SQS_QUEUE_URL of its output";
        return Finding::failure(CHECK, format!("{arn} is a FIFO queue, to which S3 sends nothing"), mend);
    }
    let waiting = settings.text("ApproximateNumberOfMessages");
    Finding::ok(CHECK, format!("{arn} answers, {waiting} messages wait"))
}

/// Whether whoever hands over the events is let in.
fn policy(queue: &SqsQueue, settings: &QueueSettings, bucket: &str, by: &Notification) -> Finding {
    const CHECK: &str = "queue-policy";
    let (service, source) = match (by.topics.first(), by.event_bridge, by.queues.is_empty()) {
        (Some(topic), _, true) => ("sns.amazonaws.com", Some(topic.arn.clone())),
        (None, true, true) => ("events.amazonaws.com", None),
        _ => ("s3.amazonaws.com", Some(format!("arn:aws:s3:::{bucket}"))),
    };
    let mend = format!(
        "aws cloudformation deploy --template-file infra/photos.yaml (its EventQueuePolicy, on {})",
        queue.url()
    );
    let policy = settings.json("Policy");
    let letting = list(&policy["Statement"])
        .into_iter()
        .find(|statement| lets_in(statement, service, source.as_deref()));
    let Some(letting) = letting else {
        return Finding::failure(
            CHECK,
            format!("{service} may not send for {}", source.unwrap_or_default()),
            mend,
        );
    };
    let conditions = letting["Condition"].to_string().to_ascii_lowercase();
    let lacking: Vec<_> = ["aws:SourceArn", "aws:SourceAccount"]
        .into_iter()
        .filter(|key| !conditions.contains(&key.to_ascii_lowercase()))
        .collect();
    if lacking.is_empty() {
        Finding::ok(CHECK, format!("{service} may send, for this bucket and account only"))
    } else {
        let found = format!("{service} may send whoever asks it to: no condition on {}", lacking.join(", "));
        Finding::warning(CHECK, found, mend)
    }
}

fn lets_in(statement: &Value, service: &str, source: Option<&str>) -> bool {
    let principal = &statement["Principal"];
    let who = principal == "*"
        || list(&principal["AWS"]).contains(&&Value::from("*"))
        || list(&principal["Service"]).contains(&&Value::from(service));
    let what = list(&statement["Action"])
        .into_iter()
        .filter_map(Value::as_str)
        .any(|action| ["sqs:sendmessage", "sqs:*", "*"].contains(&action.to_ascii_lowercase().as_str()));
    statement["Effect"] == "Allow" && who && what && source.is_none_or(|source| source_is(statement, source))
}

/// Whether the statement's condition on the source, where it has one, holds for `source`.
fn source_is(statement: &Value, source: &str) -> bool {
    let operators = statement["Condition"].as_object().into_iter().flat_map(|operators| operators.values());
    let sources = operators.filter_map(Value::as_object).flatten();
    sources.filter(|(key, _)| key.eq_ignore_ascii_case("aws:SourceArn")).all(|(_, arns)| {
        list(arns).into_iter().filter_map(Value::as_str).any(|arn| {
            let last = |arn: &str| arn.rsplit(":::").next().unwrap_or_default().to_owned();
            arn == source
                || last(arn) == last(source)
                || arn.split_once('*').is_some_and(|(start, _)| source.starts_with(start))
        })
    })
}

fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(values) => values.iter().collect(),
        value => vec![value],
    }
}

fn encryption(queue: &SqsQueue, settings: &QueueSettings, by: &Notification) -> Finding {
    const CHECK: &str = "queue-encryption";
    match settings.text("KmsMasterKeyId") {
        "" => Finding::ok(CHECK, "SQS's own keys"),
        key if key.ends_with("alias/aws/sqs") => {
            let mend = format!(
                "aws sqs set-queue-attributes --queue-url {} --attributes KmsMasterKeyId=,SqsManagedSseEnabled=true",
                queue.url()
            );
            Finding::failure(
                CHECK,
                format!("{key}: S3 can't use that key, its events vanish without a word"),
                mend,
            )
        }
        key => {
            let who = if by.queues.is_empty() { "who hands over the events" } else { "s3.amazonaws.com" };
            let found = format!("the key {key}; its policy must let {who} use it: the round trip tells");
            Finding::ok(CHECK, found)
        }
    }
}

fn message_size(queue: &SqsQueue, settings: &QueueSettings) -> Finding {
    const CHECK: &str = "message-size";
    let size = settings.number("MaximumMessageSize").unwrap_or(LARGEST_EVENT);
    if size >= LARGEST_EVENT {
        return Finding::ok(CHECK, format!("up to {size} bytes"));
    }
    let mend = set(queue, "MaximumMessageSize", "262144");
    Finding::failure(CHECK, format!("up to {size} bytes: S3's events may have {LARGEST_EVENT}"), mend)
}

fn visibility(queue: &SqsQueue, settings: &QueueSettings) -> Finding {
    const CHECK: &str = "visibility";
    let seconds = settings.number("VisibilityTimeout").unwrap_or(0);
    if seconds > HANDLER_LIMIT {
        return Finding::ok(CHECK, format!("{seconds} s"));
    }
    let mend = format!(
        "{}; in infra/photos.yaml VisibilityTimeoutSeconds=60",
        set(queue, "VisibilityTimeout", "60")
    );
    let found = format!("{seconds} s: not above the {HANDLER_LIMIT} s that a stopping server may take");
    Finding::warning(CHECK, found, mend)
}

async fn dead_letters(queue: &SqsQueue, settings: &QueueSettings) -> Finding {
    const CHECK: &str = "dead-letter-queue";
    let Some((arn, count)) = settings.dead_letters() else {
        let mend = "aws cloudformation deploy --template-file infra/photos.yaml (its DeadLetterQueue)";
        return Finding::failure(
            CHECK,
            "none: what can't be read comes again for ever, and is lost in the end",
            mend,
        );
    };
    let dead = match queue.other(&arn).await {
        Ok(dead) => dead.settings().await,
        Err(error) => Err(error),
    };
    let dead = match dead {
        Ok(dead) => dead,
        Err(error) => {
            return Finding::failure(
                CHECK,
                format!("{arn} can't be seen: {error}"),
                "deploy infra/photos.yaml and infra/access.yaml again",
            );
        }
    };
    if count < 3 {
        let mend = "deploy infra/photos.yaml with MaxReceiveCount=10";
        return Finding::warning(CHECK, format!("a message is given up after {count} receives"), mend);
    }
    match dead.number("ApproximateNumberOfMessages") {
        Some(0) | None => Finding::ok(CHECK, format!("{arn} after {count} receives, empty")),
        Some(waiting) => Finding::warning(
            CHECK,
            format!("{waiting} messages were given up"),
            "photoshare redrive --dry-run says why, photoshare redrive brings them back",
        ),
    }
}

fn set(queue: &SqsQueue, name: &str, value: &str) -> String {
    format!("aws sqs set-queue-attributes --queue-url {} --attributes {name}={value}", queue.url())
}
