"""access.yaml under the access key that the README makes: what the server calls passes, nothing else does."""

from __future__ import annotations

import json

import pytest
import requests
from botocore.exceptions import ClientError


class Server:
    """The identity that the server runs under."""

    def __init__(self, cloud, **parameters: str) -> None:
        cloud.run("access", **parameters)
        self.key = json.loads(cloud.run("key"))["AccessKey"]
        out = cloud.outputs()
        self.bucket, self.queue, self.dead = out["BucketName"], out["QueueUrl"], out["DeadLetterQueueUrl"]
        self.queue_arn, self.dead_arn = out["QueueArn"], out["DeadLetterQueueArn"]
        self.cloud = cloud
        self.s3, self.sqs = cloud.client("s3", self.key), cloud.client("sqs", self.key)


@pytest.fixture
def server(photos) -> Server:
    return Server(photos)


def refused(call, **arguments) -> None:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response
    assert error["Error"]["Code"] in ("AccessDenied", "AccessDeniedException", "403"), error


def test_no_secret_is_in_the_stack(server):
    outputs = server.cloud.outputs("photoshare-access")
    assert set(outputs) == {"PolicyArn", "UserName"}
    assert server.key["SecretAccessKey"] not in json.dumps(outputs)


def test_an_upload_is_signed_stored_seen_and_removed(server):
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
    with pytest.raises(ClientError, match="404"):  # 403 without s3:ListBucket
        s3.head_object(**where)


def test_multipart_uploads(server):
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


def test_events_are_consumed(server):
    server.cloud.put("summer/1.jpg")
    queue = {"QueueUrl": server.queue}
    (message,) = server.sqs.receive_message(**queue, WaitTimeSeconds=5)["Messages"]
    receipt = {"ReceiptHandle": message["ReceiptHandle"]}
    server.sqs.change_message_visibility(**queue, **receipt, VisibilityTimeout=60)
    server.sqs.delete_message(**queue, **receipt)
    (message,) = server.sqs.receive_message(**queue, WaitTimeSeconds=5)["Messages"]
    entries = [{"Id": "0", "ReceiptHandle": message["ReceiptHandle"]}]
    assert server.sqs.delete_message_batch(**queue, Entries=entries)["Successful"]


DOCTOR = [
    ("s3", "get_bucket_cors"),
    ("s3", "get_bucket_location"),
    ("s3", "get_bucket_notification_configuration"),
    ("s3", "get_bucket_encryption"),
    ("s3", "get_bucket_lifecycle_configuration"),
]


def ask(server, method) -> str:
    """"allowed", or the refusal; a setting that the emulator does not keep is allowed, too."""
    try:
        getattr(server.s3, method)(Bucket=server.bucket)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        return code if code.startswith("AccessDenied") else "allowed"
    return "allowed"


@pytest.mark.parametrize(("allowed", "answer"), [("true", "allowed"), ("false", "AccessDenied")])
def test_doctor_reads_settings_if_it_may(photos, allowed, answer):
    server = Server(photos, AllowDoctor=allowed, AllowRedrive="false")
    assert {method: ask(server, method) for _, method in DOCTOR} == {method: answer for _, method in DOCTOR}
    for url, arn in ((server.queue, server.queue_arn), (server.dead, server.dead_arn)):
        if allowed == "true":
            said = server.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
            assert said["Attributes"]["QueueArn"] == arn
        else:
            refused(server.sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["All"])


def test_redrive_moves_dead_letters_if_it_may(server):
    server.cloud.client("sqs").send_message(QueueUrl=server.dead, MessageBody="poison")
    (message,) = server.sqs.receive_message(QueueUrl=server.dead, WaitTimeSeconds=5)["Messages"]
    server.sqs.send_message(QueueUrl=server.queue, MessageBody=message["Body"])
    server.sqs.delete_message(QueueUrl=server.dead, ReceiptHandle=message["ReceiptHandle"])
    assert server.sqs.get_queue_url(QueueName=server.dead.rsplit("/", 1)[1])["QueueUrl"] == server.dead


def test_redrive_is_refused_if_it_may_not(photos):
    server = Server(photos, AllowRedrive="false")
    refused(server.sqs.receive_message, QueueUrl=server.dead)
    refused(server.sqs.send_message, QueueUrl=server.queue, MessageBody="{}")


def test_anything_else_is_refused(server):
    cloud = server.cloud
    cloud.client("s3").create_bucket(Bucket="stranger", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    cloud.put("summer/1.jpg", bucket="stranger")
    other = cloud.client("sqs").create_queue(QueueName="stranger")["QueueUrl"]
    cloud.put("summer/1.jpg")
    here = {"Bucket": server.bucket}
    refused(server.s3.get_object, Bucket="stranger", Key="summer/1.jpg")
    refused(server.s3.put_object, Bucket="stranger", Key="summer/2.jpg", Body=b"")
    refused(server.s3.list_objects_v2, Bucket="stranger")
    refused(server.s3.list_buckets)
    refused(server.s3.create_bucket, Bucket="mine", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    refused(server.s3.delete_bucket, **here)
    refused(server.s3.get_bucket_policy, **here)
    refused(server.s3.put_bucket_notification_configuration, **here, NotificationConfiguration={})
    refused(server.s3.put_bucket_cors, **here, CORSConfiguration={"CORSRules": [{"AllowedMethods": ["PUT"], "AllowedOrigins": ["*"]}]})
    refused(server.s3.put_object_tagging, **here, Key="summer/1.jpg", Tagging={"TagSet": []})
    refused(server.s3.list_object_versions, **here)
    refused(server.sqs.get_queue_url, QueueName=server.queue.rsplit("/", 1)[1])
    refused(server.sqs.purge_queue, QueueUrl=server.queue)
    refused(server.sqs.delete_queue, QueueUrl=server.queue)
    refused(server.sqs.set_queue_attributes, QueueUrl=server.queue, Attributes={"VisibilityTimeout": "1"})
    refused(server.sqs.send_message, QueueUrl=server.dead, MessageBody="{}")
    refused(server.sqs.receive_message, QueueUrl=other)
    refused(cloud.client("iam", server.key).list_users)
    refused(cloud.client("iam", server.key).create_access_key, UserName=server.key["UserName"])


def test_only_keys_below_the_prefix_are_touched(cloud):
    cloud.run("deploy", KeyPrefix="prod/")
    server = Server(cloud, KeyPrefix="prod/")
    server.s3.put_object(Bucket=server.bucket, Key="prod/summer/1.jpg", Body=b"photo")
    cloud.put("summer/1.jpg")
    outside = {"Bucket": server.bucket, "Key": "summer/1.jpg"}
    refused(server.s3.get_object, **outside)
    refused(server.s3.put_object, **outside, Body=b"")
    refused(server.s3.delete_object, **outside)


def test_a_role_in_place_of_the_user(photos):
    photos.run("access", CreateUser="false", RoleService="ecs-tasks.amazonaws.com")
    out = photos.outputs("photoshare-access")
    assert set(out) == {"PolicyArn", "RoleArn"}
    iam, name = photos.client("iam"), out["RoleArn"].rsplit("/", 1)[1]
    trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert [s["Principal"] for s in trust] == [{"Service": "ecs-tasks.amazonaws.com"}]
    attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    assert [p["PolicyArn"] for p in attached] == [out["PolicyArn"]]
    assert photos.client("iam").list_users()["Users"] == []
