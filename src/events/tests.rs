use proptest::prelude::*;
use serde_json::json;

use super::*;

fn put(key: &str) -> Value {
    json!({
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-central-1",
        "eventTime": "2026-11-22T18:40:02.531Z", "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "AWS:AIDA"}, "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810"},
        "s3": {
            "s3SchemaVersion": "1.0", "configurationId": "photos",
            "bucket": {"name": "photos", "ownerIdentity": {"principalId": "A"}, "arn": "arn:aws:s3:::photos"},
            "object": {"key": key, "size": 1024, "eTag": "d41d8cd98f00b204e9800998ecf8427e", "sequencer": "0055AED6DCD90281E5"}
        }
    })
}

fn records(body: &Value) -> Vec<Result<ObjectEvent, RecordError>> {
    match parse_body(&body.to_string()).expect("a body") {
        MessageBody::Records(records) => records,
        MessageBody::TestEvent => panic!("a test event"),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "each test builds its own record")]
fn parse_one(record: Value) -> Result<ObjectEvent, RecordError> {
    records(&json!({ "Records": [record] })).remove(0)
}

#[test]
fn the_test_event_is_recognized() {
    let body = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-11-22T18:40:02.531Z",
        "Bucket": "photos", "RequestId": "1", "HostId": "2"});
    assert!(matches!(parse_body(&body.to_string()), Ok(MessageBody::TestEvent)));
    let wrapped = json!({"Type": "Notification", "TopicArn": "arn:aws:sns:::t", "Message": body.to_string()});
    assert!(matches!(parse_body(&wrapped.to_string()), Ok(MessageBody::TestEvent)));
}

#[test]
fn a_delete_event_needs_neither_etag_nor_size() {
    let mut record = put("summer/a.jpg");
    record["eventName"] = json!("ObjectRemoved:Delete");
    record["s3"]["object"] = json!({"key": "summer/a.jpg", "sequencer": "0055AED6DCD90281E6"});
    let event = parse_one(record.clone()).unwrap();
    assert_eq!((event.size, event.e_tag), (None, None));
    record["s3"]["object"]["eTag"] = json!("");
    assert_eq!(parse_one(record).unwrap().e_tag, None);
}

#[test]
fn a_tagging_event_needs_no_sequencer() {
    let mut record = put("summer/a.jpg");
    record["eventName"] = json!("ObjectTagging:Put");
    record["s3"]["object"].as_object_mut().unwrap().remove("sequencer");
    let event = parse_one(record).unwrap();
    assert_eq!((event.name.as_str(), event.sequencer), ("ObjectTagging:Put", None));
}

#[test]
fn versions_2_x_and_unknown_fields_are_accepted_and_3_0_is_rejected() {
    for version in ["2.0", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.17"] {
        let mut record = put("summer/a.jpg");
        record["eventVersion"] = json!(version);
        record["s3"]["object"]["brandNew"] = json!({"deep": [1]});
        record["glacierEventData"] = json!({"restoreEventData": {}});
        assert!(parse_one(record).is_ok(), "{version}");
    }
    let mut record = put("summer/a.jpg");
    record["eventVersion"] = json!("3.0");
    assert!(matches!(parse_one(record), Err(RecordError::UnsupportedVersion(version)) if version == "3.0"));
}

#[test]
fn optional_fields_may_be_missing() {
    let mut record = put("summer/a.jpg");
    record["requestParameters"] = Value::Null;
    record["responseElements"] = Value::Null;
    for field in ["eventVersion", "eventTime", "userIdentity", "eventSource"] {
        record.as_object_mut().unwrap().remove(field);
    }
    let event = parse_one(record).unwrap();
    assert_eq!((event.key.as_str(), event.time), ("summer/a.jpg", None));
}

#[test]
fn the_s3_prefix_of_an_event_name_is_removed() {
    let mut record = put("summer/a.jpg");
    record["eventName"] = json!("s3:ObjectCreated:Put");
    assert_eq!(parse_one(record).unwrap().name, "ObjectCreated:Put");
}

#[test]
fn a_malformed_record_does_not_affect_the_others() {
    let body = json!({"Records": [put("summer/a.jpg"), {"s3": 1}, put("summer/b.jpg")]});
    let keys: Vec<_> = records(&body).into_iter().map(|record| record.map(|event| event.key).ok()).collect();
    assert_eq!(keys, [Some("summer/a.jpg".into()), None, Some("summer/b.jpg".into())]);
}

#[test]
fn every_envelope_is_parsed_to_the_same_event() {
    let direct = json!({"Records": [put("summer/a+b.jpg")]});
    let sns = json!({"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:::t", "Message": direct.to_string()});
    let bridge = json!({
        "version": "0", "id": "1", "detail-type": "Object Created", "source": "aws.s3", "account": "1",
        "time": "2026-11-22T18:40:02.531Z", "region": "eu-central-1", "resources": ["arn:aws:s3:::photos"],
        "detail": {"version": "0", "bucket": {"name": "photos"}, "reason": "PutObject",
            "object": {"key": "summer/a b.jpg", "size": 1024, "etag": "d41d8cd98f00b204e9800998ecf8427e", "sequencer": "0055AED6DCD90281E5"}}
    });
    let events: Vec<_> = [direct, sns, bridge].iter().map(|body| records(body).remove(0).unwrap()).collect();
    assert_eq!(events[0], events[1]);
    assert_eq!(events[0], events[2]);
}

#[test]
fn an_event_bridge_key_is_not_decoded() {
    let body = json!({"detail-type": "Object Created",
        "detail": {"bucket": {"name": "photos"}, "object": {"key": "summer/a+b%2Bc.jpg"}}});
    assert_eq!(records(&body).remove(0).unwrap().key, "summer/a+b%2Bc.jpg");
}

#[test]
fn event_bridge_deletions_are_distinguished() {
    for (reason, deletion, expected) in [
        ("DeleteObject", "Permanently Deleted", "ObjectRemoved:Delete"),
        ("DeleteObject", "Delete Marker Created", "ObjectRemoved:DeleteMarkerCreated"),
        ("Lifecycle Expiration", "Permanently Deleted", "LifecycleExpiration:Delete"),
        ("Lifecycle Expiration", "Delete Marker Created", "LifecycleExpiration:DeleteMarkerCreated"),
    ] {
        let body = json!({"detail-type": "Object Deleted", "detail": {"bucket": {"name": "photos"},
            "object": {"key": "summer/a.jpg"}, "reason": reason, "deletion-type": deletion}});
        assert_eq!(records(&body).remove(0).unwrap().name, expected);
    }
}

#[test]
fn a_multipart_etag_is_used_verbatim() {
    let mut record = put("summer/a.jpg");
    record["eventName"] = json!("ObjectCreated:CompleteMultipartUpload");
    record["s3"]["object"]["eTag"] = json!("9bb58f26192e4ba00f01e2e7b136bbd8-5");
    assert_eq!(parse_one(record).unwrap().e_tag.as_deref(), Some("9bb58f26192e4ba00f01e2e7b136bbd8-5"));
}

#[test]
fn other_bodies_are_rejected_without_quoting_them() {
    for body in ["", "hello secret", "[]", "{}", "{\"Records\": {}}", "{\"Message\": \"x\"}"] {
        let error = parse_body(body).expect_err(body).to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

proptest! {
    #[test]
    fn any_bytes_parse_without_a_panic(bytes: Vec<u8>) {
        let _ = parse_body(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_json_of_a_similar_structure_parses_without_a_panic(version in ".{0,4}", name in ".{0,20}", key in ".{0,40}", size: i64, sequencer in ".{0,20}") {
        let _ = parse_body(&json!({"Records": [{"eventVersion": version, "eventName": name, "s3":
            {"bucket": {"name": "b"}, "object": {"key": key, "size": size, "sequencer": sequencer}}}]}).to_string());
    }

    #[test]
    fn the_key_of_an_event_is_the_key_that_was_built(feed in "[a-z é🏖%+]{1,12}", name in "[^/.]{1,40}") {
        use crate::feed::{FeedId, KeyPrefix, ObjectKey};
        let prefix = KeyPrefix::default();
        let key = ObjectKey::build(&prefix, &FeedId::parse(&feed).unwrap(), &name).unwrap();
        let event = parse_one(put(&encode_key(key.as_str()))).unwrap();
        prop_assert_eq!(ObjectKey::parse(&prefix, &event.key), Ok(key));
    }
}
