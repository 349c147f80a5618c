//! The doctor at a queue that others use as well.

use serde_json::{Value, json};

use super::*;
use crate::{
    bucket::Lives,
    feed::KeyPrefix,
    queue::scripted::{Answer, Sqs, refusal},
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

/// Nobody answers the ping, whose message comes first of several. What was seen, and of which messages
/// the doctor said that they may come again.
async fn look(deletes: u16, gives_back: u16) -> (Result<SeenBy, Trouble>, Vec<String>, Sqs) {
    let ping = Ping::random(&KeyPrefix::default());
    let ours = event_of(&ping.key());
    let sqs = Sqs::new(move |call| match (call.name.as_str(), call.nth) {
        ("ReceiveMessage", 0) => Answer::Says(200, json!({"Messages": [message("early", "secret")]})),
        ("ReceiveMessage", _) => {
            let photo = event_of("summer/a.jpg");
            let batch = [message("ours", &ours), message("photo", &photo), message("late", "secret")];
            Answer::Says(200, json!({ "Messages": batch }))
        }
        ("DeleteMessageBatch", _) if deletes == 200 => {
            Answer::Says(200, json!({"Successful": [{"Id": "0"}], "Failed": []}))
        }
        ("DeleteMessageBatch", _) => refusal(deletes, "InternalError"),
        ("ChangeMessageVisibility", 0) if gives_back != 200 => refusal(gives_back, "InternalError"),
        ("ChangeMessageVisibility", _) => Answer::Says(200, json!({})),
        _ => Answer::Says(404, Value::Null),
    });
    let lives = Lives { view: WAIT, upload_max: WAIT };
    let bucket = Bucket::connect(&sqs.sdk(), "photos", KeyPrefix::default(), lives).await.unwrap();
    let seen = look_for(&bucket, &sqs.queue(), &ping, WAIT).await;
    let given = sqs.calls("ChangeMessageVisibility").into_iter().map(|call| {
        assert_eq!(call.body["VisibilityTimeout"], 0);
        call.body["ReceiptHandle"].as_str().unwrap().trim_start_matches("receipt ").to_owned()
    });
    let given = given.collect();
    (seen, given, sqs)
}

#[tokio::test(start_paused = true)]
async fn the_others_of_the_batch_come_into_sight_again() {
    let (seen, given_back, sqs) = look(200, 200).await;
    assert_eq!(seen, Ok(SeenBy::Doctor));
    assert_eq!(given_back, ["early", "photo", "late"]);
    let calls = sqs.calls("DeleteMessageBatch");
    let deleted: Vec<_> = calls.iter().map(|call| &call.body["Entries"][0]["ReceiptHandle"]).collect();
    assert_eq!(deleted, ["receipt ours"]);
}

#[tokio::test(start_paused = true)]
async fn they_do_whatever_else_fails() {
    let (seen, given_back, _) = look(500, 200).await;
    assert!(seen.unwrap_err().found.contains("DeleteMessageBatch"));
    assert_eq!(given_back, ["early", "photo", "late"]);
    let (seen, tried, _) = look(200, 500).await;
    assert!(seen.unwrap_err().found.starts_with("1 messages of others"));
    assert_eq!(tried, ["early", "photo", "late"]);
}
