//! Whether the bucket tells of all photos, and whom.

use super::{Finding, bucket::unread, mend};
use crate::bucket::{BucketError, Notification, Target};

const CHECK: &str = "notification";
const FAMILIES: [&str; 3] = ["s3:ObjectCreated", "s3:ObjectRemoved", "s3:LifecycleExpiration"];

/// How events come from the bucket to the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    Straight,
    /// By this topic.
    Topic(String),
    EventBridge,
    /// By nothing that was found.
    None,
}

impl Way {
    /// The way of the events of keys `prefix*` to `queue`. Of several topics the one that is told most.
    pub(super) fn find(said: &Notification, queue: &str, prefix: &str) -> Self {
        let most = said.topics.iter().min_by_key(|topic| missing(&said.topics, &topic.arn, prefix).len());
        match most {
            _ if said.queues.iter().any(|target| target.arn == queue) => Self::Straight,
            Some(topic) => Self::Topic(topic.arn.clone()),
            None if said.event_bridge => Self::EventBridge,
            None => Self::None,
        }
    }
}

pub(super) fn examine(
    said: &Result<Notification, BucketError>,
    way: &Way,
    queue: &str,
    prefix: &str,
) -> Finding {
    let said = match said {
        Ok(said) => said,
        Err(error) => return unread(CHECK, error),
    };
    match way {
        Way::Straight => judge(&missing(&said.queues, queue, prefix), queue, prefix),
        // Whom topics and EventBridge tell, the server may not read.
        Way::Topic(topic) => match judge(&missing(&said.topics, topic, prefix), topic, prefix) {
            Finding { mend: None, found, .. } => {
                Finding::ok(CHECK, format!("{found}; whether it hands them on, the round trip tells"))
            }
            wanting => wanting,
        },
        Way::EventBridge => {
            Finding::ok(CHECK, "goes to EventBridge; whether a rule hands it on, the round trip tells")
        }
        Way::None => elsewhere(said, queue),
    }
}

/// Nobody sees at a key's beginning how it ends: a target with a suffix does not hear of every photo.
fn missing(targets: &[Target], arn: &str, prefix: &str) -> Vec<&'static str> {
    let hears = |target: &&Target| {
        target.arn == arn && target.suffix.is_empty() && prefix.starts_with(&target.prefix)
    };
    let told = |family: &str| targets.iter().filter(hears).any(|target| covers(target, family));
    FAMILIES.into_iter().filter(|family| !told(family)).collect()
}

fn judge(missing: &[&str], to: &str, prefix: &str) -> Finding {
    if missing.is_empty() {
        return Finding::ok(CHECK, format!("all events of {prefix}* go to {to}"));
    }
    let found = format!("{} of keys {prefix}* do not go to {to}", missing.join(", "));
    let mend = mend::photos(&format!("KeyPrefix={prefix}"));
    if missing == [FAMILIES[2]] {
        Finding::warning(CHECK, format!("{found}: expired photos are not told to be gone"), mend)
    } else {
        Finding::failure(CHECK, found, mend)
    }
}

fn elsewhere(said: &Notification, queue: &str) -> Finding {
    let others: Vec<_> = said.queues.iter().map(|target| target.arn.as_str()).collect();
    if others.is_empty() {
        return Finding::failure(
            CHECK,
            "the bucket tells nobody of its photos",
            mend::photos("Delivery=direct"),
        );
    }
    let others = others.join(", ");
    if queue.is_empty() {
        let found = format!("events go to {others}; whether that is our queue can't be told");
        return Finding::warning(CHECK, found, "mend what is said of the queue first");
    }
    let found = format!("events go to {others}, not to {queue}");
    let mend = mend::set_to_output("SQS_QUEUE_URL", "QueueUrl");
    Finding::failure(CHECK, found, format!("{mend}; or {}", mend::photos("Delivery=direct")))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    const QUEUE: &str = "arn:aws:sqs:eu-central-1:111122223333:events";
    const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:photos";
    const ALL: [&str; 3] = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"];

    fn target(arn: &str, events: &[&str], prefix: &str) -> Target {
        let events = events.iter().map(ToString::to_string).collect();
        Target { arn: arn.into(), events, prefix: prefix.into(), suffix: String::new() }
    }

    fn look(said: Notification) -> Finding {
        let way = Way::find(&said, QUEUE, "app/");
        examine(&Ok(said), &way, QUEUE, "app/")
    }

    #[test]
    fn queue_and_topic_must_hear_of_every_event_of_every_photo() {
        let single = ["s3:ObjectCreated:Put", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"];
        for arn in [QUEUE, TOPIC] {
            for (targets, level) in [
                (vec![target(arn, &ALL, "")], Level::Ok),
                (vec![target(arn, &ALL, "app/")], Level::Ok),
                (vec![target(arn, &ALL[..1], ""), target(arn, &ALL[1..], "app/")], Level::Ok),
                (vec![target(arn, &ALL, "other/")], Level::Failure),
                (vec![target(arn, &ALL, "app/summer/")], Level::Failure),
                (vec![Target { suffix: ".jpg".into(), ..target(arn, &ALL, "") }], Level::Failure),
                (vec![target(arn, &ALL[..1], "")], Level::Failure),
                (vec![target(arn, &ALL[1..], "")], Level::Failure),
                (vec![target(arn, &single, "")], Level::Failure),
                (vec![target(arn, &ALL[..2], "")], Level::Warning),
            ] {
                let mut said = Notification::default();
                let place = if arn == QUEUE { &mut said.queues } else { &mut said.topics };
                place.clone_from(&targets);
                let finding = look(said);
                assert_eq!(finding.level, level, "{targets:?}: {finding:?}");
                assert!(finding.found.contains(arn), "{finding:?}");
            }
        }
    }

    #[test]
    fn what_goes_to_another_queue_does_not_count() {
        let other = format!("{QUEUE}-of-others");
        let shared = vec![target(QUEUE, &ALL[..1], ""), target(&other, &ALL, "")];
        let finding = look(Notification { queues: shared, ..Notification::default() });
        assert_eq!(finding.level, Level::Failure, "{finding:?}");
        let finding =
            look(Notification { queues: vec![target(&other, &ALL, "")], ..Notification::default() });
        assert!(finding.found.contains("not to"), "{finding:?}");
    }

    #[test]
    fn of_several_topics_one_must_hear_of_all() {
        let topics = vec![target(&format!("{TOPIC}-2"), &ALL[..1], ""), target(TOPIC, &ALL, "")];
        let said = Notification { topics, ..Notification::default() };
        assert_eq!(Way::find(&said, QUEUE, "app/"), Way::Topic(TOPIC.into()));
        assert_eq!(look(said).level, Level::Ok);
    }
}
