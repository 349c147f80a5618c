//! `photoshare redrive`: moves messages from the dead-letter queue back to the queue, or explains why they
//! are unreadable.

mod message_move;

use std::{collections::HashSet, time::Duration};

use anyhow::Context as _;

use crate::{
    events::{self, MessageBody},
    queue::{Queue, QueueError, ReceiptHandle, SqsQueue, call_error},
};
use message_move::{start_message_move, wait_for_move};

/// How long a dry run hides the messages that it has read. Long enough to read the whole queue, so that no
/// message is received twice.
const VISIBILITY_TIMEOUT: Duration = Duration::from_mins(2);
/// A long poll queries all servers of SQS; a short poll queries a subset and may miss messages.
const LONG_POLL_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_DELETE_ATTEMPTS: usize = 3;

/// The result of sending messages back one by one.
#[derive(Debug, Default, PartialEq, Eq)]
struct TransferResult {
    /// Sent back, and deleted from the dead-letter queue.
    moved: usize,
    /// Sent back, but still in the dead-letter queue as well.
    not_deleted: usize,
}

/// Moves the messages of the dead-letter queue back to `queue`. A dry run moves nothing, and prints for each
/// message why it is unreadable.
///
/// # Errors
/// When there is no dead-letter queue, or a call to SQS fails.
pub async fn redrive(queue: &SqsQueue, dry_run: bool) -> anyhow::Result<()> {
    let (arn, _) = queue
        .fetch_attributes()
        .await?
        .redrive_policy()
        .context("the queue has no dead-letter queue (RedrivePolicy)")?;
    let dead_letter_queue = queue.connect_to(&arn).await?;
    if dry_run {
        return explain_messages(&dead_letter_queue).await;
    }
    if let Some(task) = start_message_move(queue, &arn).await? {
        return wait_for_move(&dead_letter_queue, &arn, &task).await;
    }
    let TransferResult { moved, not_deleted } = transfer_messages(&dead_letter_queue, queue).await?;
    println!("{moved} messages moved back");
    anyhow::ensure!(
        not_deleted == 0,
        "{not_deleted} messages were sent back, but not deleted from the dead-letter queue: run it again"
    );
    Ok(())
}

/// Sends each message back, then deletes it. The order matters: after a crash in between the message is in
/// both queues, and the feed log drops the records of the second one as duplicates.
async fn transfer_messages(dead_letter_queue: &SqsQueue, queue: &SqsQueue) -> anyhow::Result<TransferResult> {
    let mut result = TransferResult::default();
    loop {
        let messages = dead_letter_queue.receive_with(LONG_POLL_TIMEOUT, VISIBILITY_TIMEOUT).await?;
        if messages.is_empty() {
            return Ok(result);
        }
        for message in messages {
            send_message(queue, &message.body).await?;
            if delete_with_retries(dead_letter_queue, message.receipt).await? {
                result.moved += 1;
            } else {
                result.not_deleted += 1;
            }
        }
    }
}

async fn send_message(queue: &SqsQueue, body: &str) -> Result<(), QueueError> {
    let request = queue.client().send_message().queue_url(queue.url()).message_body(body);
    request.send().await.map_err(|error| call_error("SendMessage", &error))?;
    Ok(())
}

/// Returns whether the message was deleted.
async fn delete_with_retries(dead_letter_queue: &SqsQueue, receipt: ReceiptHandle) -> anyhow::Result<bool> {
    let mut remaining = vec![receipt];
    for _ in 0..MAX_DELETE_ATTEMPTS {
        remaining = dead_letter_queue.delete(&remaining).await?;
        if remaining.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn explain_messages(dead_letter_queue: &SqsQueue) -> anyhow::Result<()> {
    let mut receipts = Vec::new();
    let count = print_messages(dead_letter_queue, &mut receipts).await;
    // Also after an error. A failed release needs no report: the message becomes visible by itself.
    dead_letter_queue.release(&receipts).await;
    println!("{} messages would be moved back", count?);
    Ok(())
}

/// Prints a line for each message, and returns their number. Receipt handles are added to `receipts`. The
/// bodies are not kept: a queue may hold more than fits into memory.
async fn print_messages(
    dead_letter_queue: &SqsQueue,
    receipts: &mut Vec<ReceiptHandle>,
) -> anyhow::Result<usize> {
    let mut seen = HashSet::new();
    loop {
        let messages = dead_letter_queue.receive_with(LONG_POLL_TIMEOUT, VISIBILITY_TIMEOUT).await?;
        // A message that was received before has become visible again: the whole queue has been read.
        let is_complete = messages.is_empty() || messages.iter().any(|message| seen.contains(&message.id));
        for message in messages {
            if seen.insert(message.id.clone()) {
                println!(
                    "{} received {} times: {}",
                    message.id,
                    message.receive_count,
                    describe_message(&message.body)
                );
            }
            receipts.push(message.receipt);
        }
        if is_complete {
            return Ok(seen.len());
        }
    }
}

/// Describes why a message is unreadable, without quoting it.
fn describe_message(body: &str) -> String {
    let records = match events::parse_body(body) {
        Err(error) => return error.to_string(),
        Ok(MessageBody::TestEvent) => return "readable: the test event of S3".into(),
        Ok(MessageBody::Records(records)) => records,
    };
    let errors = records.iter().enumerate().filter_map(|(index, record)| {
        record.as_ref().err().map(|error| format!("record {} of {}: {error}", index + 1, records.len()))
    });
    let errors: Vec<_> = errors.collect();
    if errors.is_empty() {
        "readable: the feed log or the bucket was probably unavailable for too long".into()
    } else {
        errors.join("; ")
    }
}

#[cfg(test)]
mod tests;
