//! `photoshare redrive`: brings back what was given up, or says why it was.

use std::{collections::HashSet, time::Duration};

use anyhow::Context as _;

use crate::{
    events::{self, Body},
    queue::{Message, Queue, SqsQueue},
};

/// What is looked at is hidden for as long as looking at all of it may take.
const HIDDEN: Duration = Duration::from_mins(2);
/// A receive that waits asks all of SQS's servers, one that does not may miss some.
const WAIT: Duration = Duration::from_secs(1);
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// Moves the dead letters of `queue` back to it; a dry run moves nothing and says what each one is.
///
/// # Errors
/// When there is no dead-letter queue, or it can't be read or moved.
pub async fn redrive(queue: &SqsQueue, dry_run: bool) -> anyhow::Result<()> {
    let (arn, _) = queue.settings().await?.dead_letters().context("the queue has no dead-letter queue")?;
    let dead = queue.other(&arn).await?;
    if dry_run {
        return explain(&dead).await;
    }
    if let Some(task) = queue.start_move(&arn).await? {
        return follow(&dead, &arn, &task).await;
    }
    let moved = carry(&dead, queue).await?;
    println!("{moved} messages moved back");
    Ok(())
}

/// SQS moves by itself; this waits for its end.
async fn follow(dead: &SqsQueue, arn: &str, task: &str) -> anyhow::Result<()> {
    loop {
        let (status, moved, why) = dead.move_of(arn, task).await?;
        match status.as_str() {
            "RUNNING" | "CANCELLING" => tokio::time::sleep(BETWEEN_LOOKS).await,
            "COMPLETED" => {
                println!("{moved} messages moved back");
                return Ok(());
            }
            _ => anyhow::bail!("SQS ended the move as {status} after {moved} messages: {why}"),
        }
    }
}

/// Each message is sent before it is deleted: killed in between, it is there twice, and told once.
async fn carry(dead: &SqsQueue, to: &SqsQueue) -> anyhow::Result<usize> {
    let mut moved = 0;
    loop {
        let messages = dead.take(WAIT, HIDDEN).await?;
        if messages.is_empty() {
            return Ok(moved);
        }
        for message in messages {
            to.send(&message.body).await?;
            dead.delete(std::slice::from_ref(&message.receipt)).await?;
            moved += 1;
        }
    }
}

async fn explain(dead: &SqsQueue) -> anyhow::Result<()> {
    let mut taken: Vec<Message> = Vec::new();
    let mut known = HashSet::new();
    loop {
        let messages = dead.take(WAIT, HIDDEN).await?;
        // One that comes again was looked at for too long: all of it has been seen.
        if messages.is_empty() || messages.iter().any(|message| !known.insert(message.id.clone())) {
            taken.extend(messages);
            break;
        }
        for message in &messages {
            println!("{} received {} times: {}", message.id, message.receive_count, reason(&message.body));
        }
        taken.extend(messages);
    }
    for message in &taken {
        dead.extend(&message.receipt, Duration::ZERO).await?;
    }
    println!("{} messages would be moved back", known.len());
    Ok(())
}

/// Why a message was given up; never its text.
fn reason(body: &str) -> String {
    let records = match events::parse(body) {
        Err(error) => return error.to_string(),
        Ok(Body::TestEvent) => return "readable: S3's test event".into(),
        Ok(Body::Records(records)) => records,
    };
    let wrong = records.iter().enumerate().filter_map(|(at, record)| {
        record.as_ref().err().map(|error| format!("record {} of {}: {error}", at + 1, records.len()))
    });
    let wrong: Vec<_> = wrong.collect();
    if wrong.is_empty() {
        "readable: the log or the bucket was away for too long".into()
    } else {
        wrong.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_explained_without_its_text() {
        for (body, expected) in [
            ("secret", "body is not JSON (line 1, column 1)"),
            (r#"{"secret": 1}"#, "body is no S3 notification: neither Records nor detail-type"),
            (r#"{"Records": [{"secret": 1}]}"#, "record 1 of 1: record has no eventName"),
            (r#"{"Records": []}"#, "readable: the log or the bucket was away for too long"),
            (r#"{"Event": "s3:TestEvent"}"#, "readable: S3's test event"),
        ] {
            assert_eq!(reason(body), expected);
        }
    }
}
