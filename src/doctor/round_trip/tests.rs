//! The round trip on a queue that contains messages of others.

use serde_json::{Value, json};

use super::*;
use crate::{
    feed::KeyPrefix,
    support::scripted_aws::{ScriptedAws, ScriptedResponse, error_response},
};

const WAIT: Duration = Duration::from_secs(20);

fn message(id: &str, body: &str) -> Value {
    json!({"MessageId": id, "ReceiptHandle": format!("receipt {id}"), "Body": body})
}

fn event_of(key: &str) -> String {
    let object = json!({"key": key, "sequencer": "01"});
    let s3 = json!({"bucket": {"name": "photos"}, "object": object});
    json!({"Records": [{"eventVersion": "2.1", "eventName": "ObjectCreated:Put", "s3": s3}]}).to_string()
}

/// Waits for the event on a queue with three other messages and without a server. SQS responds to deletes and
/// to the first release with these status codes. Returns the result and the messages that were released.
async fn run_round_trip(
    delete_status: u16,
    release_status: u16,
) -> (Result<EventReceiver, RoundTripError>, Vec<String>, ScriptedAws) {
    let ping = Ping::random(&KeyPrefix::default());
    let ours = event_of(&ping.key());
    let sqs = ScriptedAws::new(move |call| match (call.action.as_str(), call.index) {
        ("ReceiveMessage", 0) => {
            ScriptedResponse::Json(200, json!({"Messages": [message("early", "secret")]}))
        }
        ("ReceiveMessage", _) => {
            let photo = event_of("summer/a.jpg");
            let batch = [message("ours", &ours), message("photo", &photo), message("late", "secret")];
            ScriptedResponse::Json(200, json!({ "Messages": batch }))
        }
        ("DeleteMessageBatch", _) if delete_status == 200 => {
            ScriptedResponse::Json(200, json!({"Successful": [{"Id": "0"}], "Failed": []}))
        }
        ("DeleteMessageBatch", _) => error_response(delete_status, "InternalError"),
        ("ChangeMessageVisibility", 0) if release_status != 200 => {
            error_response(release_status, "InternalError")
        }
        ("ChangeMessageVisibility", _) => ScriptedResponse::Json(200, json!({})),
        _ => ScriptedResponse::Json(404, Value::Null),
    });
    let receiver = wait_for_event(&sqs.bucket().await, &sqs.queue(), &ping, WAIT).await;
    let released = sqs.calls("ChangeMessageVisibility").into_iter().map(|call| {
        assert_eq!(call.body["VisibilityTimeout"], 0);
        call.body["ReceiptHandle"].as_str().unwrap().trim_start_matches("receipt ").to_owned()
    });
    let released = released.collect();
    (receiver, released, sqs)
}

#[tokio::test(start_paused = true)]
async fn messages_of_others_are_released() {
    let (receiver, released, sqs) = run_round_trip(200, 200).await;
    assert_eq!(receiver, Ok(EventReceiver::Doctor));
    assert_eq!(released, ["early", "photo", "late"]);
    let calls = sqs.calls("DeleteMessageBatch");
    let deleted: Vec<_> = calls.iter().map(|call| &call.body["Entries"][0]["ReceiptHandle"]).collect();
    assert_eq!(deleted, ["receipt ours"]);
}

#[tokio::test(start_paused = true)]
async fn messages_of_others_are_released_also_after_an_error() {
    let (receiver, released, _) = run_round_trip(500, 200).await;
    assert!(receiver.unwrap_err().found.contains("DeleteMessageBatch"));
    assert_eq!(released, ["early", "photo", "late"]);
    let (receiver, tried, _) = run_round_trip(200, 500).await;
    assert!(receiver.unwrap_err().found.starts_with("failed to release 1 messages"));
    assert_eq!(tried, ["early", "photo", "late"]);
}
