"""The policy of access.yaml grants exactly the actions that the code calls."""

from __future__ import annotations

import json
import re
from pathlib import Path

import boto3
import cfnlint
import checks
import pytest
from templates import ROOT, as_list, load, of_type, statements

# The actions of each statement, listed once more so that a change is deliberate.
ACTIONS_BY_STATEMENT = {
    "ReadPhotos": {"s3:GetObject"},
    "StorePhotos": {"s3:PutObject"},
    "ManageMultipartUploads": {"s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"},
    "RemovePhotos": {"s3:DeleteObject"},
    "ListPhotos": {"s3:ListBucket"},
    "ConsumeEvents": {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"},
    "DoctorReadsBucketSettings": {"s3:GetBucketCORS", "s3:GetBucketLocation", "s3:GetBucketNotification", "s3:GetEncryptionConfiguration", "s3:GetLifecycleConfiguration"},
    "DoctorReadsQueue": {"sqs:GetQueueAttributes"},
    "DoctorReadsDeadLetterQueue": {"sqs:GetQueueAttributes", "sqs:GetQueueUrl"},
    "RedriveTakesDeadLetters": {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:StartMessageMoveTask", "sqs:ListMessageMoveTasks"},
    "RedriveSendsBack": {"sqs:SendMessage", "sqs:GetQueueAttributes"},
    "UseKey": {"kms:Decrypt", "kms:GenerateDataKey"},
}  # fmt: skip

# The actions that an SDK call needs, where they differ from the name of the call.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
ACTIONS_BY_CALL = {
    "s3": {
        "head_object": {"s3:GetObject", "s3:ListBucket"},
        "head_bucket": {"s3:ListBucket"},
        "list_objects_v2": {"s3:ListBucket"},
        "copy_object": {"s3:GetObject", "s3:PutObject"},
        "create_multipart_upload": {"s3:PutObject"},
        "upload_part": {"s3:PutObject"},
        "complete_multipart_upload": {"s3:PutObject"},
        "list_parts": {"s3:ListMultipartUploadParts"},
        "get_bucket_cors": {"s3:GetBucketCORS"},
        "get_bucket_notification_configuration": {"s3:GetBucketNotification"},
        "get_bucket_encryption": {"s3:GetEncryptionConfiguration"},
        "get_bucket_lifecycle_configuration": {"s3:GetLifecycleConfiguration"},
    },
    "sqs": {
        "delete_message_batch": {"sqs:DeleteMessage"},
        "send_message_batch": {"sqs:SendMessage"},
        "change_message_visibility_batch": {"sqs:ChangeMessageVisibility"},
    },
}
# Used without an SDK call: by presigned URLs and forms, and by S3 and SQS for encryption.
PRESIGNED = {"s3:GetObject", "s3:PutObject"}
USED_BY_S3_AND_SQS = {"kms:Decrypt", "kms:GenerateDataKey"}


def granted_actions() -> dict[str, set[str]]:
    (policy,) = of_type(load("access"), "AWS::IAM::ManagedPolicy").values()
    return {s["Sid"]: {checks.BATCH_PATTERNS.get(a, a) for a in as_list(s["Action"])} for s in statements(policy)}


def sdk_calls(text: str, service: str) -> set[str]:
    """The SDK operations of a service that Rust source calls, as in `client.put_object()` and `bucket.client().put_object()`."""
    operations = boto3.client(service, region_name="eu-west-1").meta.method_to_api_mapping
    return set(re.findall(r"\.\s*([a-z0-9_]+)\(\)", text)) & operations.keys()


def required_actions(call: str, service: str) -> set[str]:
    api = boto3.client(service, region_name="eu-west-1").meta.method_to_api_mapping[call]
    return ACTIONS_BY_CALL[service].get(call, {f"{service}:{api}"})


def actions_of_code() -> dict[str, set[str]]:
    """The source files and calls that need an action, by action. A file calls the SDK that it imports, or the client
    of the bucket or the queue."""
    found: dict[str, set[str]] = {}
    for source in sorted((ROOT / "src").rglob("*.rs")):
        text = source.read_text()
        for service in ("s3", "sqs"):
            if f"aws_sdk_{service}" in text or ".client()" in text:
                for call in sdk_calls(text, service):
                    for action in required_actions(call, service):
                        found.setdefault(action, set()).add(f"{source.relative_to(ROOT)}: {call}")
    return found


def test_every_statement_grants_the_listed_actions():
    assert granted_actions() == ACTIONS_BY_STATEMENT


def test_the_policy_grants_all_actions_that_the_code_calls():
    allowed = set().union(*granted_actions().values())
    missing = {action: sources for action, sources in actions_of_code().items() if action not in allowed}
    assert missing == {}


def test_the_policy_grants_no_action_that_the_code_does_not_call():
    allowed = set().union(*granted_actions().values())
    assert allowed - actions_of_code().keys() - PRESIGNED - USED_BY_S3_AND_SQS == set()


def test_the_statement_for_consuming_events_grants_only_what_the_consumer_calls():
    polling = (ROOT / "src/queue/sqs.rs").read_text()
    assert granted_actions()["ConsumeEvents"] == set().union(*(required_actions(call, "sqs") for call in sdk_calls(polling, "sqs")))


def aws_actions(service: str) -> set[str]:
    """All actions of an AWS service, in lower case, from the list that cfn-lint contains."""
    data = Path(cfnlint.__file__).parent / "data/AdditionalSpecs/Policies.json"
    return {f"{service}:{action}" for action in json.loads(data.read_text())[service]["Actions"]}


def test_each_batch_pattern_matches_one_action():
    for pattern, action in checks.BATCH_PATTERNS.items():
        matching = {a for a in aws_actions("sqs") if a.startswith(pattern.removesuffix("*").lower())}
        assert matching == {action.lower()}


@pytest.mark.parametrize("action", sorted(set().union(*ACTIONS_BY_STATEMENT.values())))
def test_every_action_exists_on_aws(action):
    assert action.lower() in aws_actions(action.split(":")[0])


def test_a_call_beyond_the_policy_is_detected():
    rust = "let x = self\n    .client\n    .put_bucket_policy()\n    .send().await; bucket.client().head_object().send()"
    assert sdk_calls(rust, "s3") == {"put_bucket_policy", "head_object"}
    assert required_actions("put_bucket_policy", "s3") == {"s3:PutBucketPolicy"}
    assert required_actions("put_bucket_policy", "s3").isdisjoint(set().union(*ACTIONS_BY_STATEMENT.values()))
