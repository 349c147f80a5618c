"""Trap 31: the policy of access.yaml is what the code calls, no more and no less."""

from __future__ import annotations

import json
import re
from pathlib import Path

import boto3
import cfnlint
import checks
import pytest
from templates import ROOT, as_list, load, of_type, statements

# Purpose by purpose: a change here is a decision, not a slip.
PURPOSES = {
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

# What an SDK call needs, where its name does not say so already.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
NEEDS = {
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
# Used, but by no SDK call: URLs and forms are signed, and S3 itself asks for the key.
SIGNED = {"s3:GetObject", "s3:PutObject"}
BEHIND_S3_AND_SQS = {"kms:Decrypt", "kms:GenerateDataKey"}


def granted() -> dict[str, set[str]]:
    (policy,) = of_type(load("access"), "AWS::IAM::ManagedPolicy").values()
    return {s["Sid"]: {checks.BATCHES.get(a, a) for a in as_list(s["Action"])} for s in statements(policy)}


def calls(text: str, service: str) -> set[str]:
    """The SDK operations of a service that Rust source calls: `client.put_object()`."""
    operations = boto3.client(service, region_name="eu-west-1").meta.method_to_api_mapping
    return set(re.findall(r"\.\s*([a-z0-9_]+)\(\)", text)) & operations.keys()


def needed(call: str, service: str) -> set[str]:
    api = boto3.client(service, region_name="eu-west-1").meta.method_to_api_mapping[call]
    return NEEDS[service].get(call, {f"{service}:{api}"})


def called() -> dict[str, set[str]]:
    """Action to the places that need it."""
    found: dict[str, set[str]] = {}
    for source in sorted((ROOT / "src").rglob("*.rs")):
        text = source.read_text()
        for service in ("s3", "sqs"):
            if f"aws_sdk_{service}" in text:
                for call in calls(text, service):
                    for action in needed(call, service):
                        found.setdefault(action, set()).add(f"{source.relative_to(ROOT)}: {call}")
    return found


def test_every_statement_grants_its_purpose():
    assert granted() == PURPOSES


def test_trap_31_the_policy_grants_all_that_the_code_calls():
    allowed = set().union(*granted().values())
    missing = {action: places for action, places in called().items() if action not in allowed}
    assert missing == {}


def test_trap_31_the_policy_grants_nothing_that_the_code_does_not_call():
    allowed = set().union(*granted().values())
    assert allowed - called().keys() - SIGNED - BEHIND_S3_AND_SQS == set()


def test_trap_31_what_only_operators_call_is_granted_to_them_alone():
    polling = (ROOT / "src/queue/sqs.rs").read_text()
    assert granted()["ConsumeEvents"] == set().union(*(needed(call, "sqs") for call in calls(polling, "sqs")))


def aws_actions(service: str) -> set[str]:
    """AWS's own list, in lower case, as it comes with cfn-lint."""
    data = Path(cfnlint.__file__).parent / "data/AdditionalSpecs/Policies.json"
    return {f"{service}:{action}" for action in json.loads(data.read_text())[service]["Actions"]}


def test_the_batches_star_means_one_action():
    for pattern, action in checks.BATCHES.items():
        meant = {a for a in aws_actions("sqs") if a.startswith(pattern.removesuffix("*").lower())}
        assert meant == {action.lower()}


@pytest.mark.parametrize("action", sorted(set().union(*PURPOSES.values())))
def test_every_action_is_one_of_aws(action):
    assert action.lower() in aws_actions(action.split(":")[0])


def test_a_call_beyond_the_policy_is_noticed():
    rust = "let x = self\n    .client\n    .put_bucket_policy()\n    .send().await; client.head_object().send()"
    assert calls(rust, "s3") == {"put_bucket_policy", "head_object"}
    assert needed("put_bucket_policy", "s3") == {"s3:PutBucketPolicy"}
    assert needed("put_bucket_policy", "s3").isdisjoint(set().union(*PURPOSES.values()))
