//! Stores an object, waits for its event, deletes the object.

mod error;
mod ping_object;

use std::time::Duration;

use tokio::time::Instant;

use super::{bucket::stack_parameters, remediation, report::Finding};
use crate::{
    bucket::{Bucket, Ping},
    events::{self, MessageBody},
    queue::{Message, Queue, ReceiptHandle, SqsQueue},
};
use error::RoundTripError;

const CHECK: &str = "round-trip";
/// How long a running server may acknowledge the event before the doctor receives from the queue itself.
const SERVER_GRACE_PERIOD: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Received messages stay invisible this much longer than the doctor waits. If they were received repeatedly,
/// SQS would move them to the dead-letter queue.
const EXTRA_VISIBILITY: Duration = Duration::from_secs(10);

/// The process that received the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventReceiver {
    Server,
    Doctor,
    /// The event did not arrive in time.
    None,
}

/// Received messages by their owner.
#[derive(Default)]
struct ReceivedMessages {
    /// Events of objects that this or an earlier doctor stored.
    doctor: Vec<ReceiptHandle>,
    others: Vec<ReceiptHandle>,
    has_own_event: bool,
}

/// Makes the round trip: presigned PUT, event, DELETE. `blocked` skips the wait for the event, after a check
/// has failed without which no event arrives.
pub(super) async fn check_round_trip(
    bucket: &Bucket,
    queue: &SqsQueue,
    event_timeout: Duration,
    blocked: bool,
) -> Finding {
    let ping = Ping::random(bucket.prefix());
    let start = Instant::now();
    if let Err(error) = ping_object::store(bucket, &ping).await {
        return error.into();
    }
    let put_time = start.elapsed();
    let start = Instant::now();
    let receiver = if blocked {
        Ok(EventReceiver::None)
    } else {
        wait_for_event(bucket, queue, &ping, event_timeout).await
    };
    let event_time = start.elapsed();
    let start = Instant::now();
    if let Err(error) = ping_object::delete(bucket, &ping).await {
        let found = format!("failed to delete {}: {error}", ping.key());
        let fix = remediation::deploy_access_stack(&stack_parameters(bucket));
        return Finding::failure(CHECK, found, fix);
    }
    let times = |receiver: &str| {
        let [put, event, delete] = [put_time, event_time, start.elapsed()].map(|time| time.as_millis());
        format!("PUT {put} ms, event {event} ms ({receiver}), DELETE {delete} ms")
    };
    match receiver {
        Ok(EventReceiver::Server) => Finding::ok(CHECK, times("received by a running server")),
        Ok(EventReceiver::Doctor) => {
            Finding::ok(CHECK, times("received by the doctor itself, no server acknowledged it"))
        }
        Ok(EventReceiver::None) if blocked => Finding::warning(
            CHECK,
            "PUT and DELETE succeeded; the event was not waited for",
            "fix the failures above first",
        ),
        Ok(EventReceiver::None) => Finding::failure(
            CHECK,
            format!("the event did not arrive within {} s", event_timeout.as_secs()),
            "S3 may take a minute: photoshare doctor --wait-secs 120; then check what is between bucket and \
             queue (topic subscription, EventBridge rule, key policy), and whether another program receives \
             from the queue",
        ),
        Err(error) => error.into(),
    }
}

impl From<RoundTripError> for Finding {
    fn from(RoundTripError { found, fix }: RoundTripError) -> Self {
        Self::failure(CHECK, found, fix)
    }
}

/// Waits for the event of `ping`, then releases the received messages of others, also after an error. A
/// message that can't be released becomes visible again when its visibility timeout expires.
async fn wait_for_event(
    bucket: &Bucket,
    queue: &SqsQueue,
    ping: &Ping,
    event_timeout: Duration,
) -> Result<EventReceiver, RoundTripError> {
    let mut others = Vec::new();
    let receiver = receive_event(bucket, queue, ping, event_timeout, &mut others).await;
    match queue.release(&others).await {
        0 => receiver,
        failed => receiver.and(Err(RoundTripError {
            found: format!("failed to release {failed} messages of others"),
            fix: format!(
                "wait: they become visible again within {} s",
                (event_timeout + EXTRA_VISIBILITY).as_secs()
            ),
        })),
    }
}

/// Waits for an acknowledgement first, then also receives from the queue. `others` collects messages to
/// release.
async fn receive_event(
    bucket: &Bucket,
    queue: &SqsQueue,
    ping: &Ping,
    event_timeout: Duration,
    others: &mut Vec<ReceiptHandle>,
) -> Result<EventReceiver, RoundTripError> {
    let (start, grace_period) = (Instant::now(), SERVER_GRACE_PERIOD.min(event_timeout / 2));
    while start.elapsed() < event_timeout {
        let acknowledged = ping_object::is_acknowledged(bucket, ping)
            .await
            .map_err(|error| RoundTripError::access_denied(error.to_string(), &stack_parameters(bucket)))?;
        if acknowledged {
            return Ok(EventReceiver::Server);
        }
        if start.elapsed() < grace_period {
            tokio::time::sleep(POLL_INTERVAL).await;
            continue;
        }
        let messages = queue.receive_with(Duration::from_secs(1), event_timeout + EXTRA_VISIBILITY).await;
        let messages = messages.map_err(|error| RoundTripError::from_queue_error(&error))?;
        let received = sort_by_owner(messages, bucket, ping);
        others.extend(received.others);
        if !received.doctor.is_empty() {
            let deleted = queue.delete(&received.doctor).await;
            deleted.map_err(|error| RoundTripError::from_queue_error(&error))?;
        }
        if received.has_own_event {
            return Ok(EventReceiver::Doctor);
        }
    }
    Ok(EventReceiver::None)
}

fn sort_by_owner(messages: Vec<Message>, bucket: &Bucket, ping: &Ping) -> ReceivedMessages {
    let mut received = ReceivedMessages::default();
    for message in messages {
        let keys = parse_doctor_keys(&message.body, bucket);
        received.has_own_event |= keys.contains(&ping.key());
        if keys.is_empty() { &mut received.others } else { &mut received.doctor }.push(message.receipt);
    }
    received
}

/// Returns the keys in a message if doctors stored all of them, otherwise none.
fn parse_doctor_keys(body: &str, bucket: &Bucket) -> Vec<String> {
    let Ok(MessageBody::Records(records)) = events::parse_body(body) else { return Vec::new() };
    let doctor_key = |record: &Result<events::ObjectEvent, events::RecordError>| {
        let event = record.as_ref().ok().filter(|event| event.bucket == bucket.name())?;
        Ping::is_doctor_key(bucket.prefix(), &event.key).then(|| event.key.clone())
    };
    records.iter().map(doctor_key).collect::<Option<_>>().unwrap_or_default()
}

#[cfg(test)]
mod tests;
