"""The other ways from the bucket to the queue, and a key of one's own."""

from __future__ import annotations

import json

FAMILIES = {"s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"}


def first_of(cloud, key):
    """The first message that speaks of `key`, however it is wrapped."""
    return next(message for message in cloud.messages() if key in json.dumps(message))


def notification(cloud):
    found = cloud.client("s3").get_bucket_notification_configuration(Bucket=cloud.outputs()["BucketName"])
    found.pop("ResponseMetadata")
    return found


def test_by_topic_raw_and_wrapped_and_back(photos):
    photos.run("topic")
    assert set(notification(photos)) == {"TopicConfigurations"}
    assert {e for c in notification(photos)["TopicConfigurations"] for e in c["Events"]} == FAMILIES
    photos.put("summer/raw.jpg")
    assert first_of(photos, "raw.jpg")["Records"][0]["eventName"] == "ObjectCreated:Put"

    photos.run("topic-wrapped")
    photos.put("summer/wrapped.jpg")
    wrapped = first_of(photos, "wrapped.jpg")
    assert wrapped["Type"] == "Notification"
    assert json.loads(wrapped["Message"])["Records"][0]["s3"]["object"]["key"] == "summer/wrapped.jpg"

    photos.run("direct")
    assert set(notification(photos)) == {"QueueConfigurations"}
    topics = photos.client("sns").list_subscriptions()["Subscriptions"]
    assert topics == []
    photos.put("summer/direct.jpg")
    assert first_of(photos, "direct.jpg")["Records"]


def test_by_topic_only_keys_below_the_prefix_are_told(cloud):
    cloud.run("deploy", KeyPrefix="prod/")
    cloud.run("topic")
    cloud.put("summer/outside.jpg")
    cloud.put("prod/summer/inside.jpg")
    told = []
    for message in cloud.messages():
        told += [r["s3"]["object"]["key"] for r in message.get("Records", [])]
        if told:
            break
    assert told == ["prod/summer/inside.jpg"]


def test_no_other_topic_can_send_to_the_queue(photos):
    photos.run("topic")
    policy = photos.client("sqs").get_queue_attributes(QueueUrl=photos.outputs()["QueueUrl"], AttributeNames=["Policy"])
    statement = next(s for s in json.loads(policy["Attributes"]["Policy"])["Statement"] if s["Sid"] == "TopicSendsEvents")
    assert statement["Condition"]["ArnEquals"] == {"aws:SourceArn": photos.outputs("photoshare-topic")["TopicArn"]}


def test_by_eventbridge(photos):
    photos.run("eventbridge")
    photos.put("summer/a b+c.jpg")
    event = first_of(photos, "summer/")
    assert (event["source"], event["detail-type"]) == ("aws.s3", "Object Created")
    assert event["detail"]["bucket"]["name"] == photos.outputs()["BucketName"]
    assert event["detail"]["object"]["key"] == "summer/a b+c.jpg"
    photos.client("s3").delete_object(Bucket=photos.outputs()["BucketName"], Key="summer/a b+c.jpg")
    assert first_of(photos, "summer/")["detail-type"] == "Object Deleted"


def test_by_eventbridge_only_keys_below_the_prefix_are_told(cloud):
    cloud.run("deploy", KeyPrefix="prod/")
    cloud.run("eventbridge")
    cloud.put("summer/outside.jpg")
    cloud.put("prod/summer/inside.jpg")
    event = next(m for m in cloud.messages() if "detail" in m)
    assert event["detail"]["object"]["key"] == "prod/summer/inside.jpg"


def test_a_topic_without_its_arn_is_refused(photos):
    photos.run("direct", check=False, Delivery="topic")
    assert "TopicArn must be given" in photos.complaint


def test_a_key_of_ones_own(photos):
    photos.run("access")
    photos.run("kms")
    key = photos.outputs("photoshare-key")["KeyArn"]
    for output in ("QueueUrl", "DeadLetterQueueUrl"):
        found = photos.client("sqs").get_queue_attributes(QueueUrl=photos.outputs()[output], AttributeNames=["All"])
        assert found["Attributes"]["KmsMasterKeyId"] == key
        assert found["Attributes"]["SqsManagedSseEnabled"] == "false"
    photos.put("summer/1.jpg")
    assert photos.told_until("summer/1.jpg")
    iam, arn = photos.client("iam"), photos.outputs("photoshare-access")["PolicyArn"]
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    assert next(s for s in document["Statement"] if s["Sid"] == "UseKey")["Resource"] == key
    document = json.loads(photos.client("kms").get_key_policy(KeyId=key, PolicyName="default")["Policy"])
    services = next(s for s in document["Statement"] if s["Sid"] == "ServicesSendEvents")
    assert services["Condition"] == {"StringEquals": {"aws:SourceAccount": "000000000000"}}
