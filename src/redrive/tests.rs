//! Redrives with a scripted SQS, which can be in any state.

use serde_json::{Value, json};

use super::*;
use crate::support::scripted_aws::{
    RecordedCall, ScriptedAws, ScriptedResponse, empty_long_poll, error_response, messages_body,
};

const DEAD_LETTER_ARN: &str = "arn:aws:sqs:eu-central-1:1:dead";
const DEAD_LETTER_URL: &str = "https://sqs.eu-central-1.amazonaws.com/1/dead";

/// An SQS with a dead-letter queue; `respond` responds to the other calls.
fn sqs_with_dead_letters(
    respond: impl Fn(&RecordedCall) -> ScriptedResponse + Send + Sync + 'static,
) -> ScriptedAws {
    ScriptedAws::new(move |call| match call.action.as_str() {
        "GetQueueAttributes" => {
            let policy = json!({"deadLetterTargetArn": DEAD_LETTER_ARN, "maxReceiveCount": 10}).to_string();
            ScriptedResponse::Json(200, json!({"Attributes": {"RedrivePolicy": policy}}))
        }
        "GetQueueUrl" => ScriptedResponse::Json(200, json!({ "QueueUrl": DEAD_LETTER_URL })),
        _ => respond(call),
    })
}

/// An SQS that supports message moves and reports one of `states` for each call.
fn sqs_moving(states: Vec<Value>) -> ScriptedAws {
    sqs_with_dead_letters(move |call| match call.action.as_str() {
        "StartMessageMoveTask" => ScriptedResponse::Json(200, json!({"TaskHandle": "ours"})),
        "ListMessageMoveTasks" => ScriptedResponse::Json(200, json!({"Results": states[call.index]})),
        _ => error_response(500, "NotInThisScript"),
    })
}

fn move_task(status: &str, moved: u32) -> Value {
    json!({"Status": status, "ApproximateNumberOfMessagesMoved": moved, "SourceArn": DEAD_LETTER_ARN})
}

/// An SQS without message moves and with two messages; `delete` responds to deletes.
fn sqs_without_moves(
    code: &'static str,
    delete: impl Fn(&RecordedCall) -> Value + Send + Sync + 'static,
) -> ScriptedAws {
    sqs_with_dead_letters(move |call| match (call.action.as_str(), call.index) {
        ("StartMessageMoveTask", _) => error_response(400, code),
        ("ReceiveMessage", 0) => ScriptedResponse::Json(200, messages_body(["a", "b"])),
        ("ReceiveMessage", _) => empty_long_poll(),
        ("DeleteMessageBatch", _) => ScriptedResponse::Json(200, delete(call)),
        _ => ScriptedResponse::Json(200, json!({"MessageId": "sent"})),
    })
}

fn delete_succeeded() -> Value {
    json!({"Successful": [{"Id": "0"}], "Failed": []})
}

fn delete_failed() -> Value {
    json!({"Successful": [], "Failed": [{"Id": "0", "Code": "InternalError", "SenderFault": false}]})
}

#[tokio::test(start_paused = true)]
async fn a_move_by_sqs_is_awaited() {
    let mut running = move_task("RUNNING", 1);
    running["TaskHandle"] = json!("ours");
    let mut earlier = move_task("FAILED", 0);
    earlier["FailureReason"] = json!("from another day");
    let sqs = sqs_moving(vec![json!([earlier, running]), json!([move_task("COMPLETED", 2), earlier])]);
    redrive(&sqs.queue(), false).await.unwrap();
    assert_eq!(sqs.calls("StartMessageMoveTask")[0].body["SourceArn"], DEAD_LETTER_ARN);
    assert_eq!(sqs.calls("ListMessageMoveTasks").len(), 2);
    assert!(sqs.calls("ReceiveMessage").is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_move_is_an_error_with_the_reason() {
    for status in ["FAILED", "CANCELLED"] {
        let mut task = move_task(status, 7);
        task["FailureReason"] = json!("CouldNotMoveMessage");
        let sqs = sqs_moving(vec![json!([task])]);
        let error = redrive(&sqs.queue(), false).await.unwrap_err().to_string();
        assert!(error.contains(status) && error.contains("after 7 messages: CouldNotMoveMessage"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_message_moves_each_message_is_sent_and_then_deleted() {
    for code in ["AccessDeniedException", "UnsupportedOperation", "InvalidAction"] {
        let sqs = sqs_without_moves(code, |_| delete_succeeded());
        redrive(&sqs.queue(), false).await.unwrap();
        let sent = sqs.calls("SendMessage");
        assert_eq!(sent.len(), 2, "{code}");
        assert!(sent.iter().all(|sent| sent.body["QueueUrl"] != DEAD_LETTER_URL));
        let deletes = sqs.calls("DeleteMessageBatch");
        assert_eq!(deletes.len(), 2, "{code}");
        assert!(sent.iter().zip(&deletes).all(|(sent, delete)| sent.at <= delete.at));
        assert!(deletes.iter().all(|delete| delete.body["QueueUrl"] == DEAD_LETTER_URL));
    }
}

#[tokio::test(start_paused = true)]
async fn another_error_of_the_move_is_returned() {
    let sqs = sqs_without_moves("ResourceNotFoundException", |_| delete_succeeded());
    let error = redrive(&sqs.queue(), false).await.unwrap_err().to_string();
    assert!(error.contains("StartMessageMoveTask"), "{error}");
    assert!(sqs.calls("ReceiveMessage").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failed_delete_is_retried_and_counted_only_after_success() {
    let sqs = sqs_without_moves("InvalidAction", |call| {
        if call.index == 0 { delete_failed() } else { delete_succeeded() }
    });
    redrive(&sqs.queue(), false).await.unwrap();
    assert_eq!(sqs.calls("DeleteMessageBatch").len(), 3);

    let sqs = sqs_without_moves("InvalidAction", |_| delete_failed());
    let result = transfer_messages(&sqs.queue(), &sqs.queue()).await.unwrap();
    assert_eq!(result, TransferResult { moved: 0, not_deleted: 2 });
    let sqs = sqs_without_moves("InvalidAction", |_| delete_failed());
    let error = redrive(&sqs.queue(), false).await.unwrap_err().to_string();
    assert!(error.contains("2 messages were sent back, but not deleted"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_releases_every_message_even_after_an_error() {
    let sqs = sqs_with_dead_letters(|call| match (call.action.as_str(), call.index) {
        ("ReceiveMessage", 0) => ScriptedResponse::Json(200, messages_body(["a", "b"])),
        ("ReceiveMessage", 1) => ScriptedResponse::Json(200, messages_body(["c"])),
        ("ReceiveMessage", _) | ("ChangeMessageVisibility", 0) => error_response(500, "InternalError"),
        _ => ScriptedResponse::Json(200, json!({})),
    });
    redrive(&sqs.queue(), true).await.unwrap_err();
    let released: Vec<_> =
        sqs.calls("ChangeMessageVisibility").iter().map(|call| call.body.clone()).collect();
    let receipts: Vec<_> = released.iter().map(|body| body["ReceiptHandle"].as_str().unwrap()).collect();
    assert_eq!(receipts, ["receipt a", "receipt b", "receipt c"]);
    assert!(released.iter().all(|body| body["VisibilityTimeout"] == 0), "{released:?}");
    assert!(sqs.calls("SendMessage").is_empty() && sqs.calls("DeleteMessageBatch").is_empty());
}

#[test]
fn a_message_is_described_without_quoting_it() {
    for (body, expected) in [
        ("secret", "body is not JSON (line 1, column 1)"),
        (r#"{"secret": 1}"#, "body is not an S3 notification: neither Records nor detail-type"),
        (r#"{"Records": [{"secret": 1}]}"#, "record 1 of 1: record has no eventName"),
        (r#"{"Records": []}"#, "readable: the feed log or the bucket was probably unavailable for too long"),
        (r#"{"Event": "s3:TestEvent"}"#, "readable: the test event of S3"),
    ] {
        assert_eq!(describe_message(body), expected);
    }
}
