//! What of the queue matters.

use super::{
    Finding, mend,
    notification::Way,
    policy::{Sender, Verdict},
};
use crate::queue::{QueueError, QueueSettings, SqsQueue};

/// S3's events reach 64 KiB.
const LARGEST_EVENT: u64 = 65_536;
/// A stopping server finishes, or gives back, within this many seconds.
const HANDLER_LIMIT: u64 = 30;
/// A message whose receiver died twice is still tried.
const FEWEST_RECEIVES: u64 = 3;

/// The check that the round trip may settle.
pub(super) const ENCRYPTION: &str = "queue-encryption";

pub(super) fn unreachable(error: &QueueError) -> Finding {
    if error.is_refusal() {
        // The server itself need not read them: whether it may receive, the round trip tells.
        let rights = format!("AllowDoctor=true {}", mend::from_output("QueueArn"));
        return Finding::warning("queue", format!("can't be told: {error}"), mend::access(&rights));
    }
    Finding::failure("queue", error.to_string(), mend::set_to_output("SQS_QUEUE_URL", "QueueUrl"))
}

pub(super) async fn examine(
    queue: &SqsQueue,
    settings: &QueueSettings,
    bucket: &str,
    way: &Way,
) -> Vec<Finding> {
    let url = queue.url();
    vec![
        kind(settings),
        policy(settings, bucket, way),
        encryption(url, settings),
        message_size(url, settings),
        visibility(url, settings),
        dead_letters(queue, settings).await,
    ]
}

fn kind(settings: &QueueSettings) -> Finding {
    const CHECK: &str = "queue";
    let arn = settings.text("QueueArn");
    if settings.text("FifoQueue") == "true" {
        let mend = format!("{}, and {}", mend::photos(""), mend::set_to_output("SQS_QUEUE_URL", "QueueUrl"));
        return Finding::failure(CHECK, format!("{arn} is a FIFO queue, to which S3 sends nothing"), mend);
    }
    let waiting = settings.text("ApproximateNumberOfMessages");
    Finding::ok(CHECK, format!("{arn} answers, {waiting} messages wait"))
}

fn policy(settings: &QueueSettings, bucket: &str, way: &Way) -> Finding {
    const CHECK: &str = "queue-policy";
    let queue = settings.text("QueueArn");
    // arn:partition:sqs:region:account:name
    let part = |at: usize| queue.split(':').nth(at).unwrap_or_default();
    let bucket_arn = format!("arn:{}:s3:::{bucket}", part(1));
    let (service, source) = match way {
        Way::Straight | Way::None => ("s3.amazonaws.com", Some(bucket_arn.as_str())),
        Way::Topic(topic) => ("sns.amazonaws.com", Some(topic.as_str())),
        Way::EventBridge => ("events.amazonaws.com", None),
    };
    let sender = Sender { service, source, account: part(4), queue };
    let may_not =
        format!("{service} may not send for {} of account {}", source.unwrap_or("any rule"), sender.account);
    let mend = || format!("{} (its EventQueuePolicy)", mend::photos(""));
    match sender.judge(&settings.json("Policy")) {
        Verdict::Allowed { unbound } if unbound.is_empty() => {
            Finding::ok(CHECK, format!("{service} may send, for this source and account only"))
        }
        Verdict::Allowed { unbound } => {
            let unbound = unbound.join(", ");
            let found = format!("{service} may send whoever asks it to: no condition on {unbound}");
            Finding::warning(CHECK, found, mend())
        }
        Verdict::NotAllowed => Finding::failure(CHECK, may_not, mend()),
        Verdict::Denied(statement) => {
            Finding::failure(CHECK, format!("{may_not}: the statement {statement} denies it"), mend())
        }
    }
}

/// Whether a key that is not named by an alias is one that AWS manages, or lets S3 use it, is not for the
/// server to read: where the event of the round trip arrives, it is a good one.
fn encryption(url: &str, settings: &QueueSettings) -> Finding {
    match settings.text("KmsMasterKeyId") {
        "" => Finding::ok(ENCRYPTION, "SQS's own keys"),
        key if key.contains("alias/aws/") => {
            let found =
                format!("{key}, a key that AWS manages: S3 can't use it, its events vanish without a word");
            let mend = mend::queue(url, "KmsMasterKeyId=,SqsManagedSseEnabled=true");
            Finding::failure(ENCRYPTION, found, mend)
        }
        key => {
            let found = format!("the key {key}: whether S3 may use it, only the round trip tells");
            let mend = format!(
                "aws kms describe-key --key-id {key} --query KeyMetadata.KeyManager must say CUSTOMER, and aws \
                 kms get-key-policy --key-id {key} --policy-name default must let s3.amazonaws.com use it, as \
                 infra/key.yaml has it"
            );
            Finding::warning(ENCRYPTION, found, mend)
        }
    }
}

fn message_size(url: &str, settings: &QueueSettings) -> Finding {
    const CHECK: &str = "message-size";
    let size = settings.number("MaximumMessageSize").unwrap_or(LARGEST_EVENT);
    if size >= LARGEST_EVENT {
        return Finding::ok(CHECK, format!("up to {size} bytes"));
    }
    let found = format!("up to {size} bytes: S3's events may have {LARGEST_EVENT}");
    Finding::failure(CHECK, found, mend::queue(url, "MaximumMessageSize=262144"))
}

fn visibility(url: &str, settings: &QueueSettings) -> Finding {
    const CHECK: &str = "visibility";
    let seconds = settings.number("VisibilityTimeout").unwrap_or(0);
    if seconds > HANDLER_LIMIT {
        return Finding::ok(CHECK, format!("{seconds} s"));
    }
    let found = format!("{seconds} s: not above the {HANDLER_LIMIT} s that a stopping server may take");
    let mend = mend::queue(url, "VisibilityTimeout=60");
    Finding::warning(CHECK, found, format!("{mend}; or {}", mend::photos("VisibilityTimeoutSeconds=60")))
}

async fn dead_letters(queue: &SqsQueue, settings: &QueueSettings) -> Finding {
    const CHECK: &str = "dead-letter-queue";
    let Some((arn, count)) = settings.dead_letters() else {
        return Finding::failure(
            CHECK,
            "none: what can't be read comes again for ever, and is lost in the end",
            format!("{} (its DeadLetterQueue)", mend::photos("")),
        );
    };
    let dead = match queue.other(&arn).await {
        Ok(dead) => dead.settings().await,
        Err(error) => Err(error),
    };
    match dead {
        Ok(dead) => judge_dead_letters(&arn, count, dead.number("ApproximateNumberOfMessages").unwrap_or(0)),
        Err(error) if error.is_refusal() => {
            let found = format!("can't be told: {error}");
            let parameters = format!("AllowDoctor=true DeadLetterQueueArn={arn}");
            Finding::warning(CHECK, found, mend::access(&parameters))
        }
        Err(error) => {
            let found = format!("{arn} can't be seen: {error}");
            Finding::failure(CHECK, found, format!("{} (its DeadLetterQueue)", mend::photos("")))
        }
    }
}

fn judge_dead_letters(arn: &str, count: u64, waiting: u64) -> Finding {
    const CHECK: &str = "dead-letter-queue";
    if count < FEWEST_RECEIVES {
        let found = format!("a message is given up after {count} receives");
        return Finding::warning(CHECK, found, mend::photos("MaxReceiveCount=10"));
    }
    match waiting {
        0 => Finding::ok(CHECK, format!("{arn} after {count} receives, empty")),
        waiting => Finding::warning(
            CHECK,
            format!("{waiting} messages were given up"),
            "photoshare redrive --dry-run says why, photoshare redrive brings them back",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    const URL: &str = "https://sqs.eu-central-1.amazonaws.com/111122223333/events";

    fn settings(name: &str, value: &str) -> QueueSettings {
        QueueSettings([(name.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn a_key_is_judged_by_its_name_as_far_as_it_tells() {
        for (key, level) in [
            ("", Level::Ok),
            ("alias/aws/sqs", Level::Failure),
            ("arn:aws:kms:eu-central-1:111122223333:alias/aws/sqs", Level::Failure),
            ("alias/photos", Level::Warning),
            (
                "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
                Level::Warning,
            ),
        ] {
            assert_eq!(encryption(URL, &settings("KmsMasterKeyId", key)).level, level, "{key}");
        }
    }

    #[test]
    fn a_fifo_queue_can_not_be_told_by_s3() {
        for (fifo, level) in [("", Level::Ok), ("false", Level::Ok), ("true", Level::Failure)] {
            assert_eq!(kind(&settings("FifoQueue", fifo)).level, level, "{fifo}");
        }
    }
}
