"""The templates' text, and for every check that it notices what it is there for."""

from __future__ import annotations

import copy

import checks
import pytest
from templates import NAMES, load, statements

ON_ALL = (
    checks.no_circle,
    checks.data_is_kept,
    checks.services_are_conditioned,
    checks.nothing_secret_in_outputs,
)
PARTICULAR = {
    "photos": (
        checks.bucket_waits_for_queue_policy,
        checks.bucket_is_named_alike,
        checks.queues_fit,
        checks.queues_are_encrypted_with_a_usable_key,
        checks.bucket_is_closed_and_tidy,
        checks.notification_is_whole,
        checks.plain_http_is_refused,
        checks.cors_lets_signed_requests_through,
        checks.alarms_tell_somebody,
    ),
    "topic": (checks.plain_http_is_refused,),
    "access": (checks.policy_names_its_resources,),
    "key": (),
}
CASES = [(name, check) for name in NAMES for check in ON_ALL + PARTICULAR[name]]


@pytest.mark.parametrize(("name", "check"), CASES, ids=lambda v: getattr(v, "__name__", v))
def test_template(name, check):
    check(load(name))


def test_trap_30_no_circle_depends_on_source_arn_source_account_no_secret_visibility_above_limit():
    photos = load("photos")
    checks.no_circle(photos)
    checks.bucket_waits_for_queue_policy(photos)
    checks.services_are_conditioned(photos)
    checks.nothing_secret_in_outputs(photos)
    checks.nothing_secret_in_outputs(load("access"))
    checks.queues_fit(photos)


def at(template, *path):
    for step in path:
        template = template[step]
    return template


def properties(template, name):
    return template["Resources"][name]["Properties"]


def statement(template, name, sid):
    return next(s for s in statements(template["Resources"][name]) if s["Sid"] == sid)


# (template, what is done to it, the check that must notice, a word of what it says)
BREAKAGES = [
    (
        "photos",
        lambda t: statement(t, "EventQueuePolicy", "BucketSendsEvents")["Condition"].update(ArnEquals={"aws:SourceArn": {"Fn::GetAtt": ["PhotoBucket", "Arn"]}}),
        checks.no_circle,
        "depends on itself",
    ),
    (
        "photos",
        lambda t: t["Resources"]["PhotoBucket"].pop("DependsOn"),
        checks.bucket_waits_for_queue_policy,
        "DependsOn",
    ),
    (
        "photos",
        lambda t: statement(t, "EventQueuePolicy", "BucketSendsEvents")["Condition"].pop("StringEquals"),
        checks.services_are_conditioned,
        "BucketSendsEvents",
    ),
    (
        "photos",
        lambda t: statement(t, "EventQueuePolicy", "RuleSendsEvents")["Condition"].pop("ArnEquals"),
        checks.services_are_conditioned,
        "RuleSendsEvents",
    ),
    (
        "photos",
        lambda t: statement(t, "EventQueuePolicy", "BucketSendsEvents").update(Principal="*"),
        checks.services_are_conditioned,
        "BucketSendsEvents",
    ),
    (
        "topic",
        lambda t: statement(t, "EventTopicPolicy", "BucketPublishesEvents")["Condition"].pop("ArnEquals"),
        checks.services_are_conditioned,
        "BucketPublishesEvents",
    ),
    (
        "photos",
        lambda t: properties(t, "PhotoBucket")["BucketName"]["Fn::If"].__setitem__(2, {"Fn::Sub": "${AWS::StackName}-photos"}),
        checks.bucket_is_named_alike,
        "AccountId",
    ),
    (
        "access",
        lambda t: t["Outputs"].update(AccessKeySecret={"Value": {"Fn::GetAtt": ["Key", "SecretAccessKey"]}}),
        checks.nothing_secret_in_outputs,
        "AccessKeySecret",
    ),
    (
        "access",
        lambda t: t["Resources"].update(Key={"Type": "AWS::IAM::AccessKey", "Properties": {}}),
        checks.nothing_secret_in_outputs,
        "lie open",
    ),
    (
        "photos",
        lambda t: properties(t, "EventQueue").update(MaximumMessageSize=65_535),
        checks.queues_fit,
        "MaximumMessageSize",
    ),
    (
        "photos",
        lambda t: t["Parameters"]["VisibilityTimeoutSeconds"].update(MinValue=30),
        checks.queues_fit,
        "MinValue",
    ),
    (
        "photos",
        lambda t: t["Parameters"]["VisibilityTimeoutSeconds"].update(Default=20),
        checks.queues_fit,
        "VisibilityTimeout",
    ),
    (
        "photos",
        lambda t: properties(t, "EventQueue").pop("RedrivePolicy"),
        checks.queues_fit,
        "RedrivePolicy",
    ),
    (
        "photos",
        lambda t: t["Resources"]["PhotoBucket"].pop("DeletionPolicy"),
        checks.data_is_kept,
        "DeletionPolicy",
    ),
    (
        "photos",
        lambda t: t["Resources"]["DeadLetterQueue"].update(UpdateReplacePolicy="Delete"),
        checks.data_is_kept,
        "UpdateReplacePolicy",
    ),
    (
        "key",
        lambda t: t["Resources"]["Key"].pop("DeletionPolicy"),
        checks.data_is_kept,
        "DeletionPolicy",
    ),
    (
        "photos",
        lambda t: properties(t, "EventQueue")["KmsMasterKeyId"]["Fn::If"].__setitem__(2, "alias/aws/sqs"),
        checks.queues_are_encrypted_with_a_usable_key,
        "alias/aws/sqs",
    ),
    (
        "photos",
        lambda t: properties(t, "PhotoBucket").update(OwnershipControl=properties(t, "PhotoBucket").pop("OwnershipControls")),
        checks.bucket_is_closed_and_tidy,
        "ownership",
    ),
    (
        "photos",
        lambda t: properties(t, "PhotoBucket").pop("BucketEncryption"),
        checks.bucket_is_closed_and_tidy,
        "encryption",
    ),
    (
        "photos",
        lambda t: properties(t, "PhotoBucket")["LifecycleConfiguration"]["Rules"][0].update(Status="enabled"),
        checks.bucket_is_closed_and_tidy,
        "Status",
    ),
    (
        "photos",
        lambda t: properties(t, "PhotoBucket")["PublicAccessBlockConfiguration"].update(BlockPublicPolicy="yes"),
        checks.bucket_is_closed_and_tidy,
        "BlockPublicPolicy",
    ),
    (
        "photos",
        lambda t: properties(t, "PhotoBucket")["NotificationConfiguration"]["QueueConfigurations"]["Fn::If"][1].pop(),
        checks.notification_is_whole,
        "QueueConfigurations",
    ),
    (
        "photos",
        lambda t: t["Resources"].pop("DeadLetterQueuePolicy"),
        checks.plain_http_is_refused,
        "DeadLetterQueue",
    ),
    (
        "photos",
        lambda t: t["Parameters"]["RequireTls"].update(Default="false"),
        checks.plain_http_is_refused,
        "off by default",
    ),
    (
        "photos",
        lambda t: at(properties(t, "PhotoBucket"), "CorsConfiguration", "Fn::If", 1, "CorsRules", 0).update(ExposedHeaders=[]),
        checks.cors_lets_signed_requests_through,
        "ETag",
    ),
    (
        "photos",
        lambda t: properties(t, "DeadLettersAlarm").pop("TreatMissingData"),
        checks.alarms_tell_somebody,
        "TreatMissingData",
    ),
    (
        "access",
        lambda t: statement(t, "ServerPolicy", "StorePhotos").update(Action="s3:Put*"),
        checks.policy_names_its_resources,
        "s3:Put",
    ),
    (
        "access",
        lambda t: statement(t, "ServerPolicy", "ConsumeEvents").update(Resource="*"),
        checks.policy_names_its_resources,
        "ConsumeEvents",
    ),
    (
        "access",
        lambda t: t["Parameters"]["BucketName"].update(AllowedPattern=".*"),
        checks.policy_names_its_resources,
        "wildcard",
    ),
]


IDS = [f"{name}-{check.__name__}-{says}" for name, _, check, says in BREAKAGES]


@pytest.mark.parametrize(("name", "breaks", "check", "says"), BREAKAGES, ids=IDS)
def test_a_broken_template_is_noticed(name, breaks, check, says):
    template = copy.deepcopy(load(name))
    breaks(template)
    with pytest.raises((AssertionError, KeyError), match=says):
        check(template)
