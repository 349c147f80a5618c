//! Checks of the queue: type, policy, encryption, limits, dead-letter queue.

use super::{
    notification::EventRoute,
    policy::{PolicyDecision, Sender},
    remediation,
    report::Finding,
};
use crate::queue::{QueueAttributes, QueueError, SqsQueue};

/// Maximum size of an S3 event message.
const MAX_EVENT_BYTES: u64 = 65_536;
/// A server that shuts down finishes or releases its messages within this time.
const HANDLER_LIMIT_SECS: u64 = 30;
/// A message is received a third time after two receivers died.
const MIN_RECEIVE_COUNT: u64 = 3;

/// The check that a successful round trip resolves.
pub(super) const ENCRYPTION: &str = "queue-encryption";

pub(super) fn report_unreachable(error: &QueueError) -> Finding {
    if error.is_access_denied() {
        // A warning only, since the server itself does not read attributes. The round trip shows whether it
        // may receive.
        let parameters = format!("AllowDoctor=true {}", remediation::parameter_from_output("QueueArn"));
        return Finding::warning(
            "queue",
            format!("could not be read: {error}"),
            remediation::deploy_access_stack(&parameters),
        );
    }
    let fix = remediation::set_variable_to_output("SQS_QUEUE_URL", "QueueUrl");
    Finding::failure("queue", error.to_string(), fix)
}

pub(super) async fn check_queue(
    queue: &SqsQueue,
    attributes: &QueueAttributes,
    bucket: &str,
    route: &EventRoute,
) -> Vec<Finding> {
    let url = queue.url();
    vec![
        check_type(attributes),
        check_policy(attributes, bucket, route),
        check_encryption(url, attributes),
        check_message_size(url, attributes),
        check_visibility_timeout(url, attributes),
        check_dead_letter_queue(queue, attributes).await,
    ]
}

fn check_type(attributes: &QueueAttributes) -> Finding {
    const CHECK: &str = "queue";
    let arn = attributes.text("QueueArn");
    if attributes.text("FifoQueue") == "true" {
        let deploy = remediation::deploy_photos_stack("");
        let set_url = remediation::set_variable_to_output("SQS_QUEUE_URL", "QueueUrl");
        let found = format!("{arn} is a FIFO queue, to which S3 can't send events");
        return Finding::failure(CHECK, found, format!("{deploy}, and {set_url}"));
    }
    let waiting = attributes.text("ApproximateNumberOfMessages");
    Finding::ok(CHECK, format!("{arn} responds, {waiting} messages are waiting"))
}

fn check_policy(attributes: &QueueAttributes, bucket: &str, route: &EventRoute) -> Finding {
    const CHECK: &str = "queue-policy";
    let queue_arn = attributes.text("QueueArn");
    // arn:partition:sqs:region:account:name
    let arn_part = |index: usize| queue_arn.split(':').nth(index).unwrap_or_default();
    let bucket_arn = format!("arn:{}:s3:::{bucket}", arn_part(1));
    let (service, source_arn) = match route {
        EventRoute::Direct | EventRoute::None => ("s3.amazonaws.com", Some(bucket_arn.as_str())),
        EventRoute::Topic(topic) => ("sns.amazonaws.com", Some(topic.as_str())),
        EventRoute::EventBridge => ("events.amazonaws.com", None),
    };
    let sender = Sender { service, source_arn, account: arn_part(4), queue_arn };
    let may_not_send = format!(
        "{service} may not send for {} of account {}",
        source_arn.unwrap_or("any rule"),
        sender.account
    );
    let fix = || format!("{} (its EventQueuePolicy)", remediation::deploy_photos_stack(""));
    match sender.evaluate(&attributes.json("Policy")) {
        PolicyDecision::Allowed { missing_conditions } if missing_conditions.is_empty() => {
            Finding::ok(CHECK, format!("{service} may send, for this source and account only"))
        }
        PolicyDecision::Allowed { missing_conditions } => {
            let missing = missing_conditions.join(", ");
            let found =
                format!("{service} may send for sources of other accounts: no condition on {missing}");
            Finding::warning(CHECK, found, fix())
        }
        PolicyDecision::NotAllowed => Finding::failure(CHECK, may_not_send, fix()),
        PolicyDecision::Denied(statement) => {
            Finding::failure(CHECK, format!("{may_not_send}: the statement {statement} denies it"), fix())
        }
    }
}

/// Only an alias shows that AWS manages a key, and the server may not read a key's policy. Any other key is a
/// warning until the event of the round trip arrives.
fn check_encryption(url: &str, attributes: &QueueAttributes) -> Finding {
    match attributes.text("KmsMasterKeyId") {
        "" => Finding::ok(ENCRYPTION, "SQS managed keys"),
        key if key.contains("alias/aws/") => {
            let found = format!("{key} is an AWS managed key, which S3 can't use: its events are lost");
            let fix = remediation::set_queue_attributes(url, "KmsMasterKeyId=,SqsManagedSseEnabled=true");
            Finding::failure(ENCRYPTION, found, fix)
        }
        key => {
            let found = format!("KMS key {key}: only the round trip shows whether S3 may use it");
            let fix = format!(
                "aws kms describe-key --key-id {key} --query KeyMetadata.KeyManager must print CUSTOMER, and \
                 aws kms get-key-policy --key-id {key} --policy-name default must allow s3.amazonaws.com, as \
                 in infra/key.yaml"
            );
            Finding::warning(ENCRYPTION, found, fix)
        }
    }
}

fn check_message_size(url: &str, attributes: &QueueAttributes) -> Finding {
    const CHECK: &str = "message-size";
    let size = attributes.number("MaximumMessageSize").unwrap_or(MAX_EVENT_BYTES);
    if size >= MAX_EVENT_BYTES {
        return Finding::ok(CHECK, format!("up to {size} bytes"));
    }
    let found = format!("up to {size} bytes, but S3's events have up to {MAX_EVENT_BYTES}");
    Finding::failure(CHECK, found, remediation::set_queue_attributes(url, "MaximumMessageSize=262144"))
}

fn check_visibility_timeout(url: &str, attributes: &QueueAttributes) -> Finding {
    const CHECK: &str = "visibility";
    let seconds = attributes.number("VisibilityTimeout").unwrap_or(0);
    if seconds > HANDLER_LIMIT_SECS {
        return Finding::ok(CHECK, format!("{seconds} s"));
    }
    let found =
        format!("{seconds} s is not more than the {HANDLER_LIMIT_SECS} s that a server's shutdown may take");
    let fix = format!(
        "{}; or {}",
        remediation::set_queue_attributes(url, "VisibilityTimeout=60"),
        remediation::deploy_photos_stack("VisibilityTimeoutSeconds=60")
    );
    Finding::warning(CHECK, found, fix)
}

async fn check_dead_letter_queue(queue: &SqsQueue, attributes: &QueueAttributes) -> Finding {
    const CHECK: &str = "dead-letter-queue";
    let fix = || format!("{} (its DeadLetterQueue)", remediation::deploy_photos_stack(""));
    let Some((arn, max_receive_count)) = attributes.redrive_policy() else {
        return Finding::failure(
            CHECK,
            "no dead-letter queue: a message that can't be processed is received until it expires, and is lost",
            fix(),
        );
    };
    let dead_letters = match queue.connect_to(&arn).await {
        Ok(dead_letter_queue) => dead_letter_queue.fetch_attributes().await,
        Err(error) => Err(error),
    };
    match dead_letters {
        Ok(dead_letters) => {
            let waiting = dead_letters.number("ApproximateNumberOfMessages").unwrap_or(0);
            check_dead_letters(&arn, max_receive_count, waiting)
        }
        Err(error) if error.is_access_denied() => {
            let parameters = format!("AllowDoctor=true DeadLetterQueueArn={arn}");
            let fix = remediation::deploy_access_stack(&parameters);
            Finding::warning(CHECK, format!("could not be read: {error}"), fix)
        }
        Err(error) => Finding::failure(CHECK, format!("{arn} could not be read: {error}"), fix()),
    }
}

fn check_dead_letters(arn: &str, max_receive_count: u64, waiting: u64) -> Finding {
    const CHECK: &str = "dead-letter-queue";
    if max_receive_count < MIN_RECEIVE_COUNT {
        let found = format!("a message moves to the dead-letter queue after {max_receive_count} receives");
        return Finding::warning(CHECK, found, remediation::deploy_photos_stack("MaxReceiveCount=10"));
    }
    match waiting {
        0 => Finding::ok(CHECK, format!("{arn} after {max_receive_count} receives, empty")),
        waiting => Finding::warning(
            CHECK,
            format!("{waiting} messages could not be processed"),
            "photoshare redrive --dry-run prints why, photoshare redrive moves them back",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    const URL: &str = "https://sqs.eu-central-1.amazonaws.com/111122223333/events";

    fn attributes(name: &str, value: &str) -> QueueAttributes {
        QueueAttributes([(name.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn an_aws_managed_key_fails_and_a_key_without_an_aws_alias_is_a_warning() {
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
            assert_eq!(check_encryption(URL, &attributes("KmsMasterKeyId", key)).level, level, "{key}");
        }
    }

    #[test]
    fn a_fifo_queue_fails_since_s3_can_not_send_to_it() {
        for (fifo, level) in [("", Level::Ok), ("false", Level::Ok), ("true", Level::Failure)] {
            assert_eq!(check_type(&attributes("FifoQueue", fifo)).level, level, "{fifo}");
        }
    }
}
