//! Message moves that SQS does itself.
//!
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html>

use std::time::Duration;

use aws_sdk_sqs::error::ProvideErrorMetadata;

use crate::queue::{QueueError, SqsQueue, call_error};

const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The progress of a message move.
#[derive(Debug, Clone, Default)]
struct MessageMove {
    /// `RUNNING`, `CANCELLING`, `COMPLETED`, `CANCELLED` or `FAILED`.
    status: String,
    /// The approximate number of messages moved so far.
    moved: i64,
    /// Why the move failed; empty unless it did.
    failure_reason: String,
}

/// Starts a move of the messages in the dead-letter queue `arn` back to their source. Returns the handle of the
/// task; `None` where the action is unsupported (some emulators) or denied: the caller can still receive and
/// send the messages itself.
///
/// # Errors
/// When the call fails for another reason.
pub(super) async fn start_message_move(queue: &SqsQueue, arn: &str) -> Result<Option<String>, QueueError> {
    match queue.client().start_message_move_task().source_arn(arn).send().await {
        Ok(response) => Ok(response.task_handle),
        Err(error) if error.code().is_some_and(is_move_unavailable) => Ok(None),
        Err(error) => Err(call_error("StartMessageMoveTask", &error)),
    }
}

/// Waits until SQS has finished the move with this task handle.
///
/// # Errors
/// When a call fails, or the move ends incomplete.
pub(super) async fn wait_for_move(queue: &SqsQueue, arn: &str, task_handle: &str) -> anyhow::Result<()> {
    loop {
        let MessageMove { status, moved, failure_reason } =
            fetch_message_move(queue, arn, task_handle).await?;
        match status.as_str() {
            "RUNNING" | "CANCELLING" => tokio::time::sleep(POLL_INTERVAL).await,
            "COMPLETED" => {
                println!("{moved} messages moved back");
                return Ok(());
            }
            _ => anyhow::bail!(
                "SQS ended the move with status {status} after {moved} messages: {failure_reason}"
            ),
        }
    }
}

/// Fetches the progress of the move with this task handle.
async fn fetch_message_move(
    queue: &SqsQueue,
    arn: &str,
    task_handle: &str,
) -> Result<MessageMove, QueueError> {
    let request = queue.client().list_message_move_tasks().source_arn(arn).max_results(10);
    let response = request.send().await.map_err(|error| call_error("ListMessageMoveTasks", &error))?;
    let tasks = response.results.unwrap_or_default();
    // SQS lists the handle of running tasks only, and the latest task first: without a match, our task has
    // ended and is the first.
    let task = tasks.iter().find(|task| task.task_handle.as_deref() == Some(task_handle));
    Ok(task.or(tasks.first()).map_or_else(MessageMove::default, |task| MessageMove {
        status: task.status.clone().unwrap_or_default(),
        moved: task.approximate_number_of_messages_moved,
        failure_reason: task.failure_reason.clone().unwrap_or_default(),
    }))
}

fn is_move_unavailable(code: &str) -> bool {
    ["AccessDenied", "InvalidAction", "UnsupportedOperation", "UnknownOperation"]
        .iter()
        .any(|unavailable| code.strip_suffix("Exception").unwrap_or(code).ends_with(unavailable))
}
