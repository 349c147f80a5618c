//! A real object on the real way.

use std::time::Duration;

use tokio::time::Instant;

use super::{Finding, bucket::of, mend, with_sources};
use crate::{
    bucket::{Bucket, Ping},
    events::{self, Body},
    queue::{Message, Queue, ReceiptHandle, SqsQueue},
};

const CHECK: &str = "round-trip";
const BODY: &[u8] = b"photoshare doctor";
/// A running server has this long to answer before the doctor receives from the queue itself.
const SERVER_FIRST: Duration = Duration::from_secs(5);
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
/// What the doctor receives stays hidden a little longer than it looks: received again and again, it
/// would be counted into the dead-letter queue.
const HIDDEN_BEYOND: Duration = Duration::from_secs(10);

/// Who saw the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SeenBy {
    Server,
    Doctor,
    Nobody,
}

/// What was received, by whose it is.
#[derive(Default)]
struct Sorted {
    /// Of this doctor, or of an earlier one.
    doctors: Vec<ReceiptHandle>,
    others: Vec<ReceiptHandle>,
    ours_is_there: bool,
}

/// Presigned PUT, event, delete. A failure that was found before makes waiting for the event pointless.
pub(super) async fn travel(bucket: &Bucket, queue: &SqsQueue, wait: Duration, hopeless: bool) -> Finding {
    let ping = Ping::random(bucket.prefix());
    let begun = Instant::now();
    if let Err(found) = store(bucket, &ping).await {
        return Finding::failure(CHECK, found, mend::access(&of(bucket)));
    }
    let stored = begun.elapsed();
    let begun = Instant::now();
    let seen = if hopeless { Ok(SeenBy::Nobody) } else { look_for(bucket, queue, &ping, wait).await };
    let event = begun.elapsed();
    let begun = Instant::now();
    if let Err(error) = bucket.clean_up(&ping).await {
        let found = format!("{} can't be deleted: {error}", ping.key());
        return Finding::failure(CHECK, found, mend::access(&of(bucket)));
    }
    let legs = |by: &str| {
        let [put, event, delete] = [stored, event, begun.elapsed()].map(|leg| leg.as_millis());
        format!("PUT {put} ms, event {event} ms ({by}), DELETE {delete} ms")
    };
    match seen {
        Ok(SeenBy::Server) => Finding::ok(CHECK, legs("seen by a running server")),
        Ok(SeenBy::Doctor) => Finding::ok(CHECK, legs("seen by the doctor itself, no server answered")),
        Ok(SeenBy::Nobody) if hopeless => Finding::warning(
            CHECK,
            "PUT and DELETE work; the event was not waited for",
            "mend the failures above first",
        ),
        Ok(SeenBy::Nobody) => Finding::failure(
            CHECK,
            format!("the event did not arrive within {} s", wait.as_secs()),
            "S3 may take a minute: photoshare doctor --wait-secs 120; then look at what stands between bucket and queue \
             (topic subscription, EventBridge rule, key policy), or at an older server that takes the messages",
        ),
        Err(found) => Finding::failure(CHECK, found, mend::access(&of(bucket))),
    }
}

async fn store(bucket: &Bucket, ping: &Ping) -> Result<(), String> {
    let (url, headers) = bucket.signed_ping(ping, BODY.len() as u64);
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build();
    let mut request = client.map_err(|error| error.to_string())?.put(url).body(BODY);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    // The URL is a secret for as long as it lives.
    let response = request.send().await.map_err(|error| with_sources(&error.without_url()))?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let said = response.text().await.unwrap_or_default();
    let code = said.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    Err(format!("the presigned PUT was refused: {status} {}", code.map_or("", |(code, _)| code)))
}

/// What is others' comes into sight again, whatever came of looking; what can't be given back does so by
/// itself a little later.
async fn look_for(bucket: &Bucket, queue: &SqsQueue, ping: &Ping, wait: Duration) -> Result<SeenBy, String> {
    let mut others = Vec::new();
    let seen = look(bucket, queue, ping, wait, &mut others).await;
    match queue.give_back(&others).await {
        0 => seen,
        left => seen.and(Err(format!(
            "{left} messages of others could not be given back, and stay hidden for up to {} s",
            (wait + HIDDEN_BEYOND).as_secs()
        ))),
    }
}

async fn look(
    bucket: &Bucket,
    queue: &SqsQueue,
    ping: &Ping,
    wait: Duration,
    others: &mut Vec<ReceiptHandle>,
) -> Result<SeenBy, String> {
    let (begun, server_first) = (Instant::now(), SERVER_FIRST.min(wait / 2));
    while begun.elapsed() < wait {
        if bucket.is_answered(ping).await.map_err(|error| error.to_string())? {
            return Ok(SeenBy::Server);
        }
        if begun.elapsed() < server_first {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            continue;
        }
        let messages = queue.take(Duration::from_secs(1), wait + HIDDEN_BEYOND).await;
        let sorted = sort(messages.map_err(|error| error.to_string())?, bucket, ping);
        others.extend(sorted.others);
        // What an earlier doctor left behind is of no use to anybody either.
        if !sorted.doctors.is_empty() {
            queue.delete(&sorted.doctors).await.map_err(|error| error.to_string())?;
        }
        if sorted.ours_is_there {
            return Ok(SeenBy::Doctor);
        }
    }
    Ok(SeenBy::Nobody)
}

fn sort(messages: Vec<Message>, bucket: &Bucket, ping: &Ping) -> Sorted {
    let mut sorted = Sorted::default();
    for message in messages {
        let keys = doctors(&message.body, bucket);
        sorted.ours_is_there |= keys.contains(&ping.key());
        if keys.is_empty() { &mut sorted.others } else { &mut sorted.doctors }.push(message.receipt);
    }
    sorted
}

/// The keys that a message tells of, if all of them are doctors' own.
fn doctors(body: &str, bucket: &Bucket) -> Vec<String> {
    let Ok(Body::Records(records)) = events::parse(body) else { return Vec::new() };
    let own = |record: &Result<events::ObjectEvent, events::RecordError>| {
        let event = record.as_ref().ok().filter(|event| event.bucket == bucket.name())?;
        Ping::owns(bucket.prefix(), &event.key).then(|| event.key.clone())
    };
    records.iter().map(own).collect::<Option<_>>().unwrap_or_default()
}

#[cfg(test)]
mod tests;
