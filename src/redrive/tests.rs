//! Moves on an SQS by a script, which can be had in every state.

use serde_json::{Value, json};

use super::*;
use crate::queue::scripted::{Answer, Call, Sqs, messages, nothing, refusal};

const DEAD: &str = "arn:aws:sqs:eu-central-1:1:dead";
const DEAD_URL: &str = "https://sqs.eu-central-1.amazonaws.com/1/dead";

/// A queue whose dead letters are in another; the rest is answered by `answer`.
fn sqs(answer: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Sqs {
    Sqs::new(move |call| match call.name.as_str() {
        "GetQueueAttributes" => {
            let policy = json!({"deadLetterTargetArn": DEAD, "maxReceiveCount": 10}).to_string();
            Answer::Says(200, json!({"Attributes": {"RedrivePolicy": policy}}))
        }
        "GetQueueUrl" => Answer::Says(200, json!({ "QueueUrl": DEAD_URL })),
        _ => answer(call),
    })
}

/// Moves are begun, and stand as `states` say, one after the other.
fn moving(states: Vec<Value>) -> Sqs {
    sqs(move |call| match call.name.as_str() {
        "StartMessageMoveTask" => Answer::Says(200, json!({"TaskHandle": "ours"})),
        "ListMessageMoveTasks" => Answer::Says(200, json!({"Results": states[call.nth]})),
        _ => refusal(500, "NotInThisScript"),
    })
}

fn state(status: &str, moved: u32) -> Value {
    json!({"Status": status, "ApproximateNumberOfMessagesMoved": moved, "SourceArn": DEAD})
}

/// No moves, but two messages; deletes are answered by `deletes`.
fn carrying(refused: &'static str, deletes: impl Fn(&Call) -> Value + Send + Sync + 'static) -> Sqs {
    sqs(move |call| match (call.name.as_str(), call.nth) {
        ("StartMessageMoveTask", _) => refusal(400, refused),
        ("ReceiveMessage", 0) => Answer::Says(200, messages(["a", "b"])),
        ("ReceiveMessage", _) => nothing(),
        ("DeleteMessageBatch", _) => Answer::Says(200, deletes(call)),
        _ => Answer::Says(200, json!({"MessageId": "sent"})),
    })
}

fn deleted() -> Value {
    json!({"Successful": [{"Id": "0"}], "Failed": []})
}

fn not_deleted() -> Value {
    json!({"Successful": [], "Failed": [{"Id": "0", "Code": "InternalError", "SenderFault": false}]})
}

#[tokio::test(start_paused = true)]
async fn sqs_moves_by_itself_and_its_end_is_waited_for() {
    let mut running = state("RUNNING", 1);
    running["TaskHandle"] = json!("ours");
    let mut earlier = state("FAILED", 0);
    earlier["FailureReason"] = json!("of another day");
    let sqs = moving(vec![json!([earlier, running]), json!([state("COMPLETED", 2), earlier])]);
    redrive(&sqs.queue(), false).await.unwrap();
    assert_eq!(sqs.calls("StartMessageMoveTask")[0].body["SourceArn"], DEAD);
    assert_eq!(sqs.calls("ListMessageMoveTasks").len(), 2);
    assert!(sqs.calls("ReceiveMessage").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_move_that_did_not_complete_is_an_error_that_says_why() {
    for status in ["FAILED", "CANCELLED"] {
        let mut ended = state(status, 7);
        ended["FailureReason"] = json!("CouldNotMoveMessage");
        let sqs = moving(vec![json!([ended])]);
        let error = redrive(&sqs.queue(), false).await.unwrap_err().to_string();
        assert!(error.contains(status) && error.contains("after 7 messages: CouldNotMoveMessage"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_sqs_may_not_or_can_not_move_messages_are_sent_and_then_deleted() {
    for refused in ["AccessDeniedException", "UnsupportedOperation", "InvalidAction"] {
        let sqs = carrying(refused, |_| deleted());
        redrive(&sqs.queue(), false).await.unwrap();
        let sent = sqs.calls("SendMessage");
        assert_eq!(sent.len(), 2, "{refused}");
        assert!(sent.iter().all(|sent| sent.body["QueueUrl"] != DEAD_URL));
        let deletes = sqs.calls("DeleteMessageBatch");
        assert_eq!(deletes.len(), 2, "{refused}");
        assert!(sent.iter().zip(&deletes).all(|(sent, delete)| sent.at <= delete.at));
        assert!(deletes.iter().all(|delete| delete.body["QueueUrl"] == DEAD_URL));
    }
}

#[tokio::test(start_paused = true)]
async fn another_refusal_of_the_move_is_an_error() {
    let sqs = carrying("ResourceNotFoundException", |_| deleted());
    let error = redrive(&sqs.queue(), false).await.unwrap_err().to_string();
    assert!(error.contains("StartMessageMoveTask"), "{error}");
    assert!(sqs.calls("ReceiveMessage").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_fails_is_tried_again_and_counts_only_when_it_worked() {
    let sqs = carrying("InvalidAction", |call| if call.nth == 0 { not_deleted() } else { deleted() });
    redrive(&sqs.queue(), false).await.unwrap();
    assert_eq!(sqs.calls("DeleteMessageBatch").len(), 3);

    let never = carrying("InvalidAction", |_| not_deleted());
    let carried = carry(&never.queue(), &never.queue()).await.unwrap();
    assert_eq!(carried, Carried { moved: 0, left: 2 });
    let never = carrying("InvalidAction", |_| not_deleted());
    let error = redrive(&never.queue(), false).await.unwrap_err().to_string();
    assert!(error.contains("2 messages were sent back, but could not be deleted"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_gives_every_message_back_whatever_fails() {
    let sqs = sqs(|call| match (call.name.as_str(), call.nth) {
        ("ReceiveMessage", 0) => Answer::Says(200, messages(["a", "b"])),
        ("ReceiveMessage", 1) => Answer::Says(200, messages(["c"])),
        ("ReceiveMessage", _) | ("ChangeMessageVisibility", 0) => refusal(500, "InternalError"),
        _ => Answer::Says(200, json!({})),
    });
    redrive(&sqs.queue(), true).await.unwrap_err();
    let given: Vec<_> = sqs.calls("ChangeMessageVisibility").iter().map(|call| call.body.clone()).collect();
    let receipts: Vec<_> = given.iter().map(|body| body["ReceiptHandle"].as_str().unwrap()).collect();
    assert_eq!(receipts, ["receipt a", "receipt b", "receipt c"]);
    assert!(given.iter().all(|body| body["VisibilityTimeout"] == 0), "{given:?}");
    assert!(sqs.calls("SendMessage").is_empty() && sqs.calls("DeleteMessageBatch").is_empty());
}

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
