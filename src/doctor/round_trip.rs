//! A real object on the real way.

use std::time::Duration;

use tokio::time::Instant;

use super::{Finding, bucket::of, mend, with_sources};
use crate::{
    bucket::{Bucket, Ping},
    events::{self, Body},
    queue::{Message, Queue, QueueError, ReceiptHandle, SqsQueue},
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

/// What did not work, and what mends it.
#[derive(Debug, PartialEq, Eq)]
struct Trouble {
    found: String,
    mend: String,
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
    if let Err(trouble) = store(bucket, &ping).await {
        return trouble.into();
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
        Err(trouble) => trouble.into(),
    }
}

impl Trouble {
    /// Something that may pass.
    fn passing(found: String) -> Self {
        Self { found, mend: "try again; it is a matter of the network, or of AWS".into() }
    }

    /// Something that is not allowed, but would be with these parameters.
    fn refusal(found: String, parameters: &str) -> Self {
        let mend = format!(
            "{} (and its KmsKeyArn, where bucket or queue has a key of your own)",
            mend::access(parameters)
        );
        Self { found, mend }
    }

    fn of_queue(error: &QueueError) -> Self {
        if error.is_refusal() {
            Self::refusal(error.to_string(), &mend::from_output("QueueArn"))
        } else {
            Self::passing(error.to_string())
        }
    }
}

impl From<Trouble> for Finding {
    fn from(Trouble { found, mend }: Trouble) -> Self {
        Self::failure(CHECK, found, mend)
    }
}

async fn store(bucket: &Bucket, ping: &Ping) -> Result<(), Trouble> {
    let (url, headers) = bucket.signed_ping(ping, BODY.len() as u64);
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build();
    let mut request = client.map_err(|error| Trouble::passing(error.to_string()))?.put(url).body(BODY);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    // The URL is a secret for as long as it lives.
    let sent = request.send().await;
    let response = sent.map_err(|error| Trouble::passing(with_sources(&error.without_url())))?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let said = response.text().await.unwrap_or_default();
    let code = said.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let found = format!("the presigned PUT was refused: {status} {}", code.map_or("", |(code, _)| code));
    Err(if status.is_server_error() { Trouble::passing(found) } else { Trouble::refusal(found, &of(bucket)) })
}

/// What is others' comes into sight again, whatever came of looking; what can't be given back does so by
/// itself a little later.
async fn look_for(bucket: &Bucket, queue: &SqsQueue, ping: &Ping, wait: Duration) -> Result<SeenBy, Trouble> {
    let mut others = Vec::new();
    let seen = look(bucket, queue, ping, wait, &mut others).await;
    match queue.give_back(&others).await {
        0 => seen,
        left => seen.and(Err(Trouble {
            found: format!("{left} messages of others could not be given back"),
            mend: format!(
                "wait: they come into sight again by themselves within {} s",
                (wait + HIDDEN_BEYOND).as_secs()
            ),
        })),
    }
}

async fn look(
    bucket: &Bucket,
    queue: &SqsQueue,
    ping: &Ping,
    wait: Duration,
    others: &mut Vec<ReceiptHandle>,
) -> Result<SeenBy, Trouble> {
    let (begun, server_first) = (Instant::now(), SERVER_FIRST.min(wait / 2));
    while begun.elapsed() < wait {
        let answered = bucket.is_answered(ping).await;
        if answered.map_err(|error| Trouble::refusal(error.to_string(), &of(bucket)))? {
            return Ok(SeenBy::Server);
        }
        if begun.elapsed() < server_first {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            continue;
        }
        let messages = queue.take(Duration::from_secs(1), wait + HIDDEN_BEYOND).await;
        let sorted = sort(messages.map_err(|error| Trouble::of_queue(&error))?, bucket, ping);
        others.extend(sorted.others);
        // What an earlier doctor left behind is of no use to anybody either.
        if !sorted.doctors.is_empty() {
            queue.delete(&sorted.doctors).await.map_err(|error| Trouble::of_queue(&error))?;
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
