"""photos.yaml, deployed by the commands of the README: events arrive, and what must be refused is refused."""

from __future__ import annotations

import json

import pytest
import requests
from botocore.exceptions import ClientError

EVENT_TYPES = {"s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"}


def attributes(cloud, output="QueueUrl"):
    url = cloud.outputs()[output]
    return cloud.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]


def resources(cloud):
    found = cloud.client("cloudformation").describe_stack_resources(StackName="photoshare")
    return {r["LogicalResourceId"] for r in found["StackResources"]}


def test_the_printed_settings_name_the_created_resources(photos):
    settings = dict(line.split("=", 1) for line in photos.run("settings").splitlines())
    assert settings == {
        "S3_BUCKET": "photoshare-000000000000-eu-west-1",
        "SQS_QUEUE_URL": photos.outputs()["QueueUrl"],
        "AWS_REGION": "eu-west-1",
    }
    photos.client("s3").head_bucket(Bucket=settings["S3_BUCKET"])
    assert attributes(photos)["QueueArn"] == photos.outputs()["QueueArn"]
    assert attributes(photos, "DeadLetterQueueUrl")["QueueArn"] == photos.outputs()["DeadLetterQueueArn"]


def test_events_of_stored_and_removed_photos_reach_the_queue(photos):
    s3, bucket = photos.client("s3"), photos.outputs()["BucketName"]
    first = next(photos.messages())
    assert (first["Event"], first["Bucket"]) == ("s3:TestEvent", bucket)

    photos.put("summer/a b+c.jpg")
    (record,) = next(photos.messages())["Records"]
    assert record["eventName"] == "ObjectCreated:Put"
    assert record["s3"]["bucket"]["name"] == bucket
    assert record["s3"]["object"]["key"] == "summer/a+b%2Bc.jpg"
    assert record["s3"]["object"]["size"] == len(b"photo")
    assert record["s3"]["object"]["sequencer"]

    s3.delete_object(Bucket=bucket, Key="summer/a b+c.jpg")
    (record,) = next(photos.messages())["Records"]
    assert record["eventName"] == "ObjectRemoved:Delete"


def test_the_notification_has_all_three_event_types(photos):
    found = photos.client("s3").get_bucket_notification_configuration(Bucket=photos.outputs()["BucketName"])
    assert {event for c in found["QueueConfigurations"] for event in c["Events"]} == EVENT_TYPES


def test_only_keys_below_the_prefix_send_events(cloud):
    cloud.run("deploy", KeyPrefix="prod/photos/")
    for key in ("summer/1.jpg", "prod/summer/2.jpg", "prod/photos/summer/3.jpg"):
        cloud.put(key)
    bucket = cloud.outputs()["BucketName"]
    cloud.client("s3").delete_object(Bucket=bucket, Key="summer/1.jpg")
    cloud.client("s3").delete_object(Bucket=bucket, Key="prod/photos/summer/3.jpg")
    records = cloud.records_until("prod/photos/summer/3.jpg", "ObjectRemoved")
    assert {key for _, key in records} == {"prod/photos/summer/3.jpg"}


def test_the_bucket_gets_the_given_name(cloud):
    cloud.run("deploy", BucketName="my-own-photos")
    assert cloud.outputs()["BucketName"] == "my-own-photos"
    cloud.put("summer/1.jpg")
    assert cloud.records_until("summer/1.jpg")


def test_an_invalid_prefix_or_name_is_refused(cloud):
    for parameter, value in (("KeyPrefix", "prod"), ("KeyPrefix", "/prod/"), ("KeyPrefix", "../"), ("BucketName", "My.Bucket")):
        cloud.run("deploy", check=False, **{parameter: value})
        assert parameter in cloud.stderr, (parameter, value, cloud.stderr)


def test_no_other_bucket_can_send_to_the_queue(photos):
    """S3 checks the queue's policy, with its SourceArn and SourceAccount, before it accepts a notification."""
    s3 = photos.client("s3")
    s3.create_bucket(Bucket="stranger", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    configuration = {"QueueConfigurations": [{"QueueArn": photos.outputs()["QueueArn"], "Events": ["s3:ObjectCreated:*"]}]}
    with pytest.raises(ClientError, match="Unable to validate"):
        s3.put_bucket_notification_configuration(Bucket="stranger", NotificationConfiguration=configuration)


def test_cors_permits_uploads_from_the_given_origin_only(photos):
    url = f"{photos.url}/{photos.outputs()['BucketName']}/summer/1.jpg"

    def preflight(origin):
        request_headers = "content-type,if-none-match,x-amz-meta-caption,x-amz-checksum-sha256"
        headers = {"Origin": origin, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": request_headers}
        return requests.options(url, headers=headers, timeout=10)

    allowed = preflight("https://photos.example.com")
    assert allowed.ok
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://photos.example.com"
    assert preflight("https://elsewhere.example.com").status_code == 403
    rules = photos.client("s3").get_bucket_cors(Bucket=photos.outputs()["BucketName"])["CORSRules"]
    assert rules[0]["ExposeHeaders"] == ["ETag"]


def test_without_an_origin_there_is_no_cors(cloud):
    cloud.run("deploy", AllowedOrigins="")
    with pytest.raises(ClientError, match="NoSuchCORSConfiguration"):
        cloud.client("s3").get_bucket_cors(Bucket=cloud.outputs()["BucketName"])


def test_the_bucket_is_not_public(photos):
    block = photos.client("s3").get_public_access_block(Bucket=photos.outputs()["BucketName"])
    assert all(block["PublicAccessBlockConfiguration"].values())
    photos.put("summer/1.jpg")
    url = f"{photos.url}/{photos.outputs()['BucketName']}/summer/1.jpg"
    assert requests.get(url, timeout=10).status_code == 403


def test_a_message_moves_to_the_dead_letter_queue_after_the_last_receive(cloud):
    cloud.run("deploy", MaxReceiveCount="3")
    queue, dead = cloud.outputs()["QueueUrl"], cloud.outputs()["DeadLetterQueueUrl"]
    sqs = cloud.client("sqs")
    assert next(cloud.messages())["Event"] == "s3:TestEvent"
    sqs.send_message(QueueUrl=queue, MessageBody="poison")
    for _ in range(3):
        (message,) = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"]
        sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    assert "Messages" not in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=0)
    (message,) = sqs.receive_message(QueueUrl=dead, WaitTimeSeconds=5)["Messages"]
    assert message["Body"] == "poison"


def test_the_alarms_watch_both_queues(cloud):
    topic = cloud.client("sns").create_topic(Name="pager")["TopicArn"]
    cloud.run("deploy", AlarmTopicArn=topic)
    alarms = cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]
    names = {a["MetricName"]: a["Dimensions"][0]["Value"] for a in alarms}
    assert names == {
        "ApproximateAgeOfOldestMessage": cloud.outputs()["QueueUrl"].rsplit("/", 1)[1],
        "ApproximateNumberOfMessagesVisible": cloud.outputs()["DeadLetterQueueUrl"].rsplit("/", 1)[1],
    }
    assert all(a["AlarmActions"] == [topic] == a["OKActions"] for a in alarms)


def test_versioning_keeps_deleted_objects(cloud):
    cloud.run("deploy", Versioning="true")
    s3, bucket = cloud.client("s3"), cloud.outputs()["BucketName"]
    cloud.put("summer/1.jpg")
    s3.delete_object(Bucket=bucket, Key="summer/1.jpg")
    records = cloud.records_until("summer/1.jpg", "ObjectRemoved")
    assert records[-1] == ("ObjectRemoved:DeleteMarkerCreated", "summer/1.jpg")
    assert len(s3.list_object_versions(Bucket=bucket)["Versions"]) == 1


def test_the_maximum_signature_age_becomes_a_bucket_policy(cloud):
    cloud.run("deploy", MaxSignatureAgeSeconds="3900")
    policy = json.loads(cloud.client("s3").get_bucket_policy(Bucket=cloud.outputs()["BucketName"])["Policy"])
    (statement,) = policy["Statement"]
    assert statement["Sid"] == "RefuseOldSignatures"
    assert statement["Condition"] == {"NumericGreaterThan": {"s3:signatureAge": "3900000"}}


def test_an_update_changes_the_named_parameters_and_keeps_the_others(photos):
    before = attributes(photos)
    assert (before["VisibilityTimeout"], before["MaximumMessageSize"]) == ("60", "262144")
    photos.put("summer/before.jpg")
    photos.run("update")
    after = attributes(photos)
    assert after["VisibilityTimeout"] == "90"
    assert json.loads(after["RedrivePolicy"])["maxReceiveCount"] in (5, "5")
    assert after["QueueArn"] == before["QueueArn"]
    rules = photos.client("s3").get_bucket_cors(Bucket=photos.outputs()["BucketName"])["CORSRules"]
    assert rules[0]["AllowedOrigins"] == ["https://photos.example.com"]
    photos.put("summer/after.jpg")
    records = photos.records_until("summer/after.jpg")
    assert ("ObjectCreated:Put", "summer/before.jpg") in records, "an event was lost by the update"


def test_a_change_set_lists_the_changes_and_applies_them(photos):
    output = photos.run("change-set")
    assert ["Modify", "PhotoBucket"] in [line.split()[:2] for line in output.splitlines()]
    (stack,) = photos.client("cloudformation").describe_stacks(StackName="photoshare")["Stacks"]
    assert stack["StackStatus"] == "UPDATE_COMPLETE"
    assert {"ParameterKey": "PhotoExpirationDays", "ParameterValue": "365"} in stack["Parameters"]
    photos.put("summer/1.jpg")
    assert photos.records_until("summer/1.jpg")


def test_reverting_drift_changes_no_parameter(photos):
    """The emulator compares templates, so it can't show that manual changes are overwritten. It does show that
    all parameters keep their values: otherwise the change set would not be empty."""
    photos.run("update")
    photos.run("drift", check=False)
    change_sets = photos.client("cloudformation").list_change_sets(StackName="photoshare")["Summaries"]
    (change_set,) = (c for c in change_sets if c["ChangeSetName"].startswith("as-deployed-"))
    assert "contain changes" in change_set["StatusReason"]


def test_deleting_the_stack_keeps_photos_and_messages(photos):
    out = photos.outputs()
    photos.put("summer/1.jpg")
    photos.run("delete")
    stacks = photos.client("cloudformation").describe_stacks()["Stacks"]
    assert [s for s in stacks if s["StackName"] == "photoshare"] == []
    assert photos.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    assert photos.client("s3").get_object(Bucket=out["BucketName"], Key="summer/1.jpg")["Body"].read() == b"photo"
    photos.put("summer/2.jpg", bucket=out["BucketName"])
    keys = set()
    for message in photos.messages(out["QueueUrl"]):
        keys |= {r["s3"]["object"]["key"] for r in message.get("Records", [])}
        if "summer/2.jpg" in keys:
            break
    assert keys == {"summer/1.jpg", "summer/2.jpg"}


def test_a_failed_first_creation_leaves_no_resources(cloud):
    """The creation fails because of RequireTls: the emulator's S3 uses plain HTTP, which the queue refuses."""
    cloud.run("deploy", check=False, RequireTls="true")
    assert "Failed to create/update the stack" in cloud.stderr
    assert "Unable to validate the following destination configurations" in cloud.stack_failures()
    assert not cloud.client("sqs").list_queues().get("QueueUrls")


def test_the_stack_has_the_default_resources(photos):
    assert resources(photos) == {
        "PhotoBucket", "EventQueue", "DeadLetterQueue", "EventQueuePolicy", "EventsWaitAlarm", "DeadLettersAlarm",
    }  # fmt: skip
