"""access.yaml, with the access key that the README creates: every call of the server is allowed, no other is."""

from __future__ import annotations

import json

import pytest
import requests
from botocore.exceptions import ClientError


class ServerIdentity:
    """The IAM identity of the server, with its clients."""

    def __init__(self, cloud, **parameters: str) -> None:
        cloud.run("access", **parameters)
        self.key = json.loads(cloud.run("key"))["AccessKey"]
        out = cloud.outputs()
        self.bucket, self.queue, self.dead = out["BucketName"], out["QueueUrl"], out["DeadLetterQueueUrl"]
        self.queue_arn, self.dead_arn = out["QueueArn"], out["DeadLetterQueueArn"]
        self.cloud = cloud
        self.s3, self.sqs = cloud.client("s3", self.key), cloud.client("sqs", self.key)


@pytest.fixture
def server(photos) -> ServerIdentity:
    return ServerIdentity(photos)


def assert_denied(call, **arguments) -> None:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response
    assert error["Error"]["Code"] in ("AccessDenied", "AccessDeniedException", "403"), error


def test_no_secret_is_in_the_stack(server):
    outputs = server.cloud.outputs("photoshare-access")
    assert set(outputs) == {"PolicyArn", "UserName"}
    assert server.key["SecretAccessKey"] not in json.dumps(outputs)


def test_the_server_signs_reads_lists_copies_and_deletes_objects(server):
    s3, where = server.s3, {"Bucket": server.bucket, "Key": "summer/1.jpg"}
    put = s3.generate_presigned_url("put_object", Params=where | {"ContentType": "image/jpeg"})
    assert requests.put(put, b"photo", headers={"Content-Type": "image/jpeg"}, timeout=10).ok
    assert s3.head_object(**where)["ContentLength"] == 5
    assert s3.get_object(**where, Range="bytes=0-1")["Body"].read() == b"ph"
    assert requests.get(s3.generate_presigned_url("get_object", Params=where), timeout=10).content == b"photo"
    form = s3.generate_presigned_post(server.bucket, "summer/2.jpg")
    assert requests.post(form["url"], data=form["fields"], files={"file": b"photo"}, timeout=10).status_code == 204
    listed = s3.list_objects_v2(Bucket=server.bucket, Prefix="summer/")
    assert [o["Key"] for o in listed["Contents"]] == ["summer/1.jpg", "summer/2.jpg"]
    s3.copy_object(Bucket=server.bucket, Key=".photoshare/quarantine/1.jpg", CopySource=where)
    s3.delete_object(**where)
    with pytest.raises(ClientError, match="404"):  # It would be 403 without s3:ListBucket.
        s3.head_object(**where)


def test_the_server_completes_and_aborts_multipart_uploads(server):
    s3, where = server.s3, {"Bucket": server.bucket, "Key": "summer/1.jpg"}
    for finish in (True, False):
        upload = where | {"UploadId": s3.create_multipart_upload(**where)["UploadId"]}
        part = s3.generate_presigned_url("upload_part", Params=upload | {"PartNumber": 1})
        tag = requests.put(part, b"photo", timeout=10).headers["ETag"]
        assert [p["ETag"] for p in s3.list_parts(**upload)["Parts"]] == [tag]
        if finish:
            s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})
        else:
            s3.abort_multipart_upload(**upload)
    assert s3.head_object(**where)["ContentLength"] == 5


def test_the_server_receives_extends_and_deletes_messages(server):
    server.cloud.put("summer/1.jpg")
    queue = {"QueueUrl": server.queue}
    (message,) = server.sqs.receive_message(**queue, WaitTimeSeconds=5)["Messages"]
    receipt = {"ReceiptHandle": message["ReceiptHandle"]}
    server.sqs.change_message_visibility(**queue, **receipt, VisibilityTimeout=60)
    server.sqs.delete_message(**queue, **receipt)
    (message,) = server.sqs.receive_message(**queue, WaitTimeSeconds=5)["Messages"]
    entries = [{"Id": "0", "ReceiptHandle": message["ReceiptHandle"]}]
    assert server.sqs.delete_message_batch(**queue, Entries=entries)["Successful"]


DOCTOR_CALLS = [
    ("s3", "get_bucket_cors"),
    ("s3", "get_bucket_location"),
    ("s3", "get_bucket_notification_configuration"),
    ("s3", "get_bucket_encryption"),
    ("s3", "get_bucket_lifecycle_configuration"),
]


def call_result(server, method) -> str:
    """`allowed`, or the error code of the denial. An error about a setting that does not exist counts as allowed."""
    try:
        getattr(server.s3, method)(Bucket=server.bucket)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        return code if code.startswith("AccessDenied") else "allowed"
    return "allowed"


@pytest.mark.parametrize(("allowed", "expected"), [("true", "allowed"), ("false", "AccessDenied")])
def test_allow_doctor_permits_reading_the_settings(photos, allowed, expected):
    server = ServerIdentity(photos, AllowDoctor=allowed, AllowRedrive="false")
    assert {method: call_result(server, method) for _, method in DOCTOR_CALLS} == {method: expected for _, method in DOCTOR_CALLS}
    for url, arn in ((server.queue, server.queue_arn), (server.dead, server.dead_arn)):
        if allowed == "true":
            response = server.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
            assert response["Attributes"]["QueueArn"] == arn
        else:
            assert_denied(server.sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["All"])


def test_allow_redrive_permits_moving_dead_letters(server):
    server.cloud.client("sqs").send_message(QueueUrl=server.dead, MessageBody="poison")
    (message,) = server.sqs.receive_message(QueueUrl=server.dead, WaitTimeSeconds=5)["Messages"]
    server.sqs.send_message(QueueUrl=server.queue, MessageBody=message["Body"])
    server.sqs.delete_message(QueueUrl=server.dead, ReceiptHandle=message["ReceiptHandle"])
    assert server.sqs.get_queue_url(QueueName=server.dead.rsplit("/", 1)[1])["QueueUrl"] == server.dead


def test_without_allow_redrive_moving_dead_letters_is_denied(photos):
    server = ServerIdentity(photos, AllowRedrive="false")
    assert_denied(server.sqs.receive_message, QueueUrl=server.dead)
    assert_denied(server.sqs.send_message, QueueUrl=server.queue, MessageBody="{}")


def test_every_other_call_is_denied(server):
    cloud = server.cloud
    cloud.client("s3").create_bucket(Bucket="stranger", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    cloud.put("summer/1.jpg", bucket="stranger")
    other = cloud.client("sqs").create_queue(QueueName="stranger")["QueueUrl"]
    cloud.put("summer/1.jpg")
    here = {"Bucket": server.bucket}
    assert_denied(server.s3.get_object, Bucket="stranger", Key="summer/1.jpg")
    assert_denied(server.s3.put_object, Bucket="stranger", Key="summer/2.jpg", Body=b"")
    assert_denied(server.s3.list_objects_v2, Bucket="stranger")
    assert_denied(server.s3.list_buckets)
    assert_denied(server.s3.create_bucket, Bucket="mine", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert_denied(server.s3.delete_bucket, **here)
    assert_denied(server.s3.get_bucket_policy, **here)
    assert_denied(server.s3.put_bucket_notification_configuration, **here, NotificationConfiguration={})
    assert_denied(server.s3.put_bucket_cors, **here, CORSConfiguration={"CORSRules": [{"AllowedMethods": ["PUT"], "AllowedOrigins": ["*"]}]})
    assert_denied(server.s3.put_object_tagging, **here, Key="summer/1.jpg", Tagging={"TagSet": []})
    assert_denied(server.s3.list_object_versions, **here)
    assert_denied(server.sqs.get_queue_url, QueueName=server.queue.rsplit("/", 1)[1])
    assert_denied(server.sqs.purge_queue, QueueUrl=server.queue)
    assert_denied(server.sqs.delete_queue, QueueUrl=server.queue)
    assert_denied(server.sqs.set_queue_attributes, QueueUrl=server.queue, Attributes={"VisibilityTimeout": "1"})
    assert_denied(server.sqs.send_message, QueueUrl=server.dead, MessageBody="{}")
    assert_denied(server.sqs.receive_message, QueueUrl=other)
    assert_denied(cloud.client("iam", server.key).list_users)
    assert_denied(cloud.client("iam", server.key).create_access_key, UserName=server.key["UserName"])


def test_keys_outside_the_prefix_are_denied(cloud):
    cloud.run("deploy", KeyPrefix="prod/")
    server = ServerIdentity(cloud, KeyPrefix="prod/")
    server.s3.put_object(Bucket=server.bucket, Key="prod/summer/1.jpg", Body=b"photo")
    cloud.put("summer/1.jpg")
    outside = {"Bucket": server.bucket, "Key": "summer/1.jpg"}
    assert_denied(server.s3.get_object, **outside)
    assert_denied(server.s3.put_object, **outside, Body=b"")
    assert_denied(server.s3.delete_object, **outside)


def test_a_role_can_replace_the_user(photos):
    photos.run("access", CreateUser="false", RoleService="ecs-tasks.amazonaws.com")
    out = photos.outputs("photoshare-access")
    assert set(out) == {"PolicyArn", "RoleArn"}
    iam, name = photos.client("iam"), out["RoleArn"].rsplit("/", 1)[1]
    trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert [s["Principal"] for s in trust] == [{"Service": "ecs-tasks.amazonaws.com"}]
    attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    assert [p["PolicyArn"] for p in attached] == [out["PolicyArn"]]
    assert photos.client("iam").list_users()["Users"] == []
