"""The variants of the deployment: delivery by a topic or by EventBridge, and a customer-managed key."""

from __future__ import annotations

import json

EVENT_TYPES = {"s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"}


def first_message_about(cloud, key):
    """The first message that contains `key`, in whatever envelope."""
    return next(message for message in cloud.messages() if key in json.dumps(message))


def notification(cloud):
    found = cloud.client("s3").get_bucket_notification_configuration(Bucket=cloud.outputs()["BucketName"])
    found.pop("ResponseMetadata")
    return found


def test_delivery_by_topic_raw_then_wrapped_then_direct_again(photos):
    photos.run("topic")
    assert set(notification(photos)) == {"TopicConfigurations"}
    assert {e for c in notification(photos)["TopicConfigurations"] for e in c["Events"]} == EVENT_TYPES
    photos.put("summer/raw.jpg")
    assert first_message_about(photos, "raw.jpg")["Records"][0]["eventName"] == "ObjectCreated:Put"

    photos.run("topic-wrapped")
    photos.put("summer/wrapped.jpg")
    wrapped = first_message_about(photos, "wrapped.jpg")
    assert wrapped["Type"] == "Notification"
    assert json.loads(wrapped["Message"])["Records"][0]["s3"]["object"]["key"] == "summer/wrapped.jpg"

    photos.run("direct")
    assert set(notification(photos)) == {"QueueConfigurations"}
    topics = photos.client("sns").list_subscriptions()["Subscriptions"]
    assert topics == []
    photos.put("summer/direct.jpg")
    assert first_message_about(photos, "direct.jpg")["Records"]


def test_delivery_by_topic_sends_only_events_of_keys_below_the_prefix(cloud):
    cloud.run("deploy", KeyPrefix="prod/")
    cloud.run("topic")
    cloud.put("summer/outside.jpg")
    cloud.put("prod/summer/inside.jpg")
    keys = []
    for message in cloud.messages():
        keys += [r["s3"]["object"]["key"] for r in message.get("Records", [])]
        if keys:
            break
    assert keys == ["prod/summer/inside.jpg"]


def test_no_other_topic_can_send_to_the_queue(photos):
    photos.run("topic")
    policy = photos.client("sqs").get_queue_attributes(QueueUrl=photos.outputs()["QueueUrl"], AttributeNames=["Policy"])
    statement = next(s for s in json.loads(policy["Attributes"]["Policy"])["Statement"] if s["Sid"] == "TopicSendsEvents")
    assert statement["Condition"]["ArnEquals"] == {"aws:SourceArn": photos.outputs("photoshare-topic")["TopicArn"]}


def test_delivery_by_eventbridge(photos):
    photos.run("eventbridge")
    photos.put("summer/a b+c.jpg")
    event = first_message_about(photos, "summer/")
    assert (event["source"], event["detail-type"]) == ("aws.s3", "Object Created")
    assert event["detail"]["bucket"]["name"] == photos.outputs()["BucketName"]
    assert event["detail"]["object"]["key"] == "summer/a b+c.jpg"
    photos.client("s3").delete_object(Bucket=photos.outputs()["BucketName"], Key="summer/a b+c.jpg")
    assert first_message_about(photos, "summer/")["detail-type"] == "Object Deleted"


def test_delivery_by_eventbridge_sends_only_events_of_keys_below_the_prefix(cloud):
    cloud.run("deploy", KeyPrefix="prod/")
    cloud.run("eventbridge")
    cloud.put("summer/outside.jpg")
    cloud.put("prod/summer/inside.jpg")
    event = next(m for m in cloud.messages() if "detail" in m)
    assert event["detail"]["object"]["key"] == "prod/summer/inside.jpg"


def test_delivery_by_topic_without_a_topic_arn_is_refused(photos):
    photos.run("direct", check=False, Delivery="topic")
    assert "TopicArn must be given" in photos.stderr


def test_a_customer_managed_key_encrypts_the_queues(photos):
    photos.run("access")
    photos.run("kms")
    key = photos.outputs("photoshare-key")["KeyArn"]
    for output in ("QueueUrl", "DeadLetterQueueUrl"):
        found = photos.client("sqs").get_queue_attributes(QueueUrl=photos.outputs()[output], AttributeNames=["All"])
        assert found["Attributes"]["KmsMasterKeyId"] == key
        assert found["Attributes"]["SqsManagedSseEnabled"] == "false"
    photos.put("summer/1.jpg")
    assert photos.records_until("summer/1.jpg")
    iam, arn = photos.client("iam"), photos.outputs("photoshare-access")["PolicyArn"]
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    assert next(s for s in document["Statement"] if s["Sid"] == "UseKey")["Resource"] == key
    document = json.loads(photos.client("kms").get_key_policy(KeyId=key, PolicyName="default")["Policy"])
    services = next(s for s in document["Statement"] if s["Sid"] == "ServicesSendEvents")
    assert services["Condition"] == {"StringEquals": {"aws:SourceAccount": "000000000000"}}
