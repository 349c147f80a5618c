//! Checks of the bucket's event notifications: which events go where.

use super::{
    bucket::report_unreadable,
    notification_config::{NotificationConfig, NotificationTarget},
    remediation,
    report::Finding,
};
use crate::bucket::BucketError;

const CHECK: &str = "notification";
/// The event types that the feed log needs.
const EVENT_TYPES: [&str; 3] = ["s3:ObjectCreated", "s3:ObjectRemoved", "s3:LifecycleExpiration"];

/// How events get from the bucket to the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EventRoute {
    /// The bucket sends to the queue.
    Direct,
    /// The bucket sends to the SNS topic with this ARN.
    Topic(String),
    EventBridge,
    /// The configuration has no route.
    None,
}

impl EventRoute {
    /// Returns the route of events for keys `prefix*` to the queue. Of several topics it chooses the one that
    /// receives the most event types.
    pub(super) fn find(notification: &NotificationConfig, queue_arn: &str, prefix: &str) -> Self {
        let topics = &notification.topics;
        let best = topics.iter().min_by_key(|topic| missing_types(topics, &topic.arn, prefix).len());
        match best {
            _ if notification.queues.iter().any(|target| target.arn == queue_arn) => Self::Direct,
            Some(topic) => Self::Topic(topic.arn.clone()),
            None if notification.event_bridge => Self::EventBridge,
            None => Self::None,
        }
    }
}

pub(super) fn check_notification(
    notification: &Result<NotificationConfig, BucketError>,
    route: &EventRoute,
    queue_arn: &str,
    prefix: &str,
) -> Finding {
    let notification = match notification {
        Ok(notification) => notification,
        Err(error) => return report_unreadable(CHECK, error),
    };
    match route {
        EventRoute::Direct => {
            report_types(&missing_types(&notification.queues, queue_arn, prefix), queue_arn, prefix)
        }
        // The server has no permission to read the subscriptions of a topic or the rules of EventBridge.
        EventRoute::Topic(topic) => {
            match report_types(&missing_types(&notification.topics, topic, prefix), topic, prefix) {
                Finding { fix: None, found, .. } => Finding::ok(
                    CHECK,
                    format!("{found}; the round trip shows whether the topic forwards them"),
                ),
                finding => finding,
            }
        }
        EventRoute::EventBridge => {
            Finding::ok(CHECK, "events go to EventBridge; the round trip shows whether a rule forwards them")
        }
        EventRoute::None => report_no_route(notification, queue_arn),
    }
}

/// Returns the event types that the target does not receive for all keys `prefix*`. A target with a suffix
/// filter does not count, since not every photo's key has that suffix.
fn missing_types(targets: &[NotificationTarget], arn: &str, prefix: &str) -> Vec<&'static str> {
    let receives_all_keys = |target: &&NotificationTarget| {
        target.arn == arn && target.suffix.is_empty() && prefix.starts_with(&target.prefix)
    };
    let is_covered =
        |event_type: &str| targets.iter().filter(receives_all_keys).any(|target| covers(target, event_type));
    EVENT_TYPES.into_iter().filter(|event_type| !is_covered(event_type)).collect()
}

fn report_types(missing: &[&str], destination: &str, prefix: &str) -> Finding {
    if missing.is_empty() {
        return Finding::ok(CHECK, format!("all events of keys {prefix}* go to {destination}"));
    }
    let found = format!("{} events of keys {prefix}* do not go to {destination}", missing.join(", "));
    let fix = remediation::deploy_photos_stack(&format!("KeyPrefix={prefix}"));
    if missing == [EVENT_TYPES[2]] {
        Finding::warning(CHECK, format!("{found}: expired photos are not announced as removed"), fix)
    } else {
        Finding::failure(CHECK, found, fix)
    }
}

fn report_no_route(notification: &NotificationConfig, queue_arn: &str) -> Finding {
    let queues: Vec<_> = notification.queues.iter().map(|target| target.arn.as_str()).collect();
    let deploy = remediation::deploy_photos_stack("Delivery=direct");
    if queues.is_empty() {
        return Finding::failure(CHECK, "the bucket sends no events", deploy);
    }
    let queues = queues.join(", ");
    if queue_arn.is_empty() {
        let found = format!("events go to {queues}; the ARN of the configured queue is unknown");
        return Finding::warning(CHECK, found, "fix the queue first");
    }
    let found = format!("events go to {queues}, not to {queue_arn}");
    let set_url = remediation::set_variable_to_output("SQS_QUEUE_URL", "QueueUrl");
    Finding::failure(CHECK, found, format!("{set_url}; or {deploy}"))
}

/// Whether the target receives every event of this type, by a wildcard or by naming each.
fn covers(target: &NotificationTarget, event_type: &str) -> bool {
    let wildcard = format!("{event_type}:*");
    let is_listed = |name: &str| target.events.iter().any(|event| *event == format!("{event_type}:{name}"));
    target.events.contains(&wildcard)
        || match event_type {
            "s3:ObjectCreated" => {
                ["Put", "Post", "Copy", "CompleteMultipartUpload"].into_iter().all(is_listed)
            }
            _ => ["Delete", "DeleteMarkerCreated"].into_iter().all(is_listed),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    const QUEUE: &str = "arn:aws:sqs:eu-central-1:111122223333:events";
    const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:photos";
    const ALL: [&str; 3] = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"];

    fn target(arn: &str, events: &[&str], prefix: &str) -> NotificationTarget {
        let events = events.iter().map(ToString::to_string).collect();
        NotificationTarget { arn: arn.into(), events, prefix: prefix.into(), suffix: String::new() }
    }

    fn check(notification: NotificationConfig) -> Finding {
        let route = EventRoute::find(&notification, QUEUE, "app/");
        check_notification(&Ok(notification), &route, QUEUE, "app/")
    }

    #[test]
    fn queue_and_topic_must_receive_every_event_of_every_photo() {
        let single = ["s3:ObjectCreated:Put", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"];
        for arn in [QUEUE, TOPIC] {
            for (targets, level) in [
                (vec![target(arn, &ALL, "")], Level::Ok),
                (vec![target(arn, &ALL, "app/")], Level::Ok),
                (vec![target(arn, &ALL[..1], ""), target(arn, &ALL[1..], "app/")], Level::Ok),
                (vec![target(arn, &ALL, "other/")], Level::Failure),
                (vec![target(arn, &ALL, "app/summer/")], Level::Failure),
                (vec![NotificationTarget { suffix: ".jpg".into(), ..target(arn, &ALL, "") }], Level::Failure),
                (vec![target(arn, &ALL[..1], "")], Level::Failure),
                (vec![target(arn, &ALL[1..], "")], Level::Failure),
                (vec![target(arn, &single, "")], Level::Failure),
                (vec![target(arn, &ALL[..2], "")], Level::Warning),
            ] {
                let mut notification = NotificationConfig::default();
                let list = if arn == QUEUE { &mut notification.queues } else { &mut notification.topics };
                list.clone_from(&targets);
                let finding = check(notification);
                assert_eq!(finding.level, level, "{targets:?}: {finding:?}");
                assert!(finding.found.contains(arn), "{finding:?}");
            }
        }
    }

    #[test]
    fn events_to_another_queue_do_not_count() {
        let other = format!("{QUEUE}-of-others");
        let shared = vec![target(QUEUE, &ALL[..1], ""), target(&other, &ALL, "")];
        let finding = check(NotificationConfig { queues: shared, ..NotificationConfig::default() });
        assert_eq!(finding.level, Level::Failure, "{finding:?}");
        let finding = check(NotificationConfig {
            queues: vec![target(&other, &ALL, "")],
            ..NotificationConfig::default()
        });
        assert!(finding.found.contains("not to"), "{finding:?}");
    }

    #[test]
    fn one_of_several_topics_must_receive_all_events() {
        let topics = vec![target(&format!("{TOPIC}-2"), &ALL[..1], ""), target(TOPIC, &ALL, "")];
        let notification = NotificationConfig { topics, ..NotificationConfig::default() };
        assert_eq!(EventRoute::find(&notification, QUEUE, "app/"), EventRoute::Topic(TOPIC.into()));
        assert_eq!(check(notification).level, Level::Ok);
    }
}
