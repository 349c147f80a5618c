//! `photoshare redrive`: brings back what was given up, or says why it was.

use std::{collections::HashSet, time::Duration};

use anyhow::Context as _;

use crate::{
    events::{self, Body},
    queue::{Queue, ReceiptHandle, SqsQueue},
};

/// What is looked at is hidden for as long as looking at all of it may take.
const HIDDEN: Duration = Duration::from_mins(2);
/// A receive that waits asks all of SQS's servers, one that does not may miss some.
const WAIT: Duration = Duration::from_secs(1);
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);
const DELETE_TRIES: usize = 3;

/// What came of carrying messages over by hand.
#[derive(Debug, Default, PartialEq, Eq)]
struct Carried {
    /// Sent and deleted.
    moved: usize,
    /// Sent, and still in the dead-letter queue as well.
    left: usize,
}

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
    let Carried { moved, left } = carry(&dead, queue).await?;
    println!("{moved} messages moved back");
    anyhow::ensure!(left == 0, "{left} messages were sent back, but could not be deleted: run it again");
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
async fn carry(dead: &SqsQueue, to: &SqsQueue) -> anyhow::Result<Carried> {
    let mut carried = Carried::default();
    loop {
        let messages = dead.take(WAIT, HIDDEN).await?;
        if messages.is_empty() {
            return Ok(carried);
        }
        for message in messages {
            to.send(&message.body).await?;
            if delete(dead, message.receipt).await? {
                carried.moved += 1;
            } else {
                carried.left += 1;
            }
        }
    }
}

/// Whether it is gone in the end.
async fn delete(dead: &SqsQueue, receipt: ReceiptHandle) -> anyhow::Result<bool> {
    let mut left = vec![receipt];
    for _ in 0..DELETE_TRIES {
        left = dead.delete(&left).await?;
        if left.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn explain(dead: &SqsQueue) -> anyhow::Result<()> {
    let mut taken = Vec::new();
    let explained = explain_each(dead, &mut taken).await;
    // What can't be given back comes into sight by itself.
    dead.give_back(&taken).await;
    println!("{} messages would be moved back", explained?);
    Ok(())
}

/// How many there are. Only their receipts are kept: a queue may hold more than fits into memory.
async fn explain_each(dead: &SqsQueue, taken: &mut Vec<ReceiptHandle>) -> anyhow::Result<usize> {
    let mut known = HashSet::new();
    loop {
        let messages = dead.take(WAIT, HIDDEN).await?;
        // One that comes again was looked at for too long: all of it has been seen.
        let seen_all = messages.is_empty() || messages.iter().any(|message| known.contains(&message.id));
        for message in messages {
            if known.insert(message.id.clone()) {
                println!(
                    "{} received {} times: {}",
                    message.id,
                    message.receive_count,
                    reason(&message.body)
                );
            }
            taken.push(message.receipt);
        }
        if seen_all {
            return Ok(known.len());
        }
    }
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
mod tests;
