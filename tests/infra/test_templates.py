"""Runs the checks on the templates, and each check on templates that are broken on purpose."""

from __future__ import annotations

import copy

import checks
import pytest
from templates import NAMES, load, statements

CHECKS_OF_ALL = (
    checks.check_no_dependency_cycle,
    checks.check_data_is_retained,
    checks.check_services_are_conditioned,
    checks.check_no_secret_in_outputs,
)
CHECKS_BY_TEMPLATE = {
    "photos": (
        checks.check_bucket_depends_on_queue_policy,
        checks.check_bucket_name_is_consistent,
        checks.check_queue_settings,
        checks.check_queue_encryption,
        checks.check_bucket_settings,
        checks.check_notification_is_complete,
        checks.check_plain_http_is_refused,
        checks.check_cors_permits_signed_requests,
        checks.check_alarms,
    ),
    "topic": (checks.check_plain_http_is_refused,),
    "access": (checks.check_policy_names_its_resources,),
    "key": (),
}
CASES = [(name, check) for name in NAMES for check in CHECKS_OF_ALL + CHECKS_BY_TEMPLATE[name]]


@pytest.mark.parametrize(("name", "check"), CASES, ids=lambda v: getattr(v, "__name__", v))
def test_template(name, check):
    check(load(name))


def test_photos_has_no_cycle_conditioned_policies_no_secret_outputs_and_fitting_queues():
    photos = load("photos")
    checks.check_no_dependency_cycle(photos)
    checks.check_bucket_depends_on_queue_policy(photos)
    checks.check_services_are_conditioned(photos)
    checks.check_no_secret_in_outputs(photos)
    checks.check_no_secret_in_outputs(load("access"))
    checks.check_queue_settings(photos)


def node_at(template, *path):
    for step in path:
        template = template[step]
    return template


def properties(template, name):
    return template["Resources"][name]["Properties"]


def statement(template, name, sid):
    return next(s for s in statements(template["Resources"][name]) if s["Sid"] == sid)


# (template, the change that breaks it, the check that must fail, a part of its message)
BREAKAGES = [
    (
        "photos",
        lambda t: statement(t, "EventQueuePolicy", "BucketSendsEvents")["Condition"].update(ArnEquals={"aws:SourceArn": {"Fn::GetAtt": ["PhotoBucket", "Arn"]}}),
        checks.check_no_dependency_cycle,
        "depends on itself",
    ),
    (
        "photos",
        lambda t: t["Resources"]["PhotoBucket"].pop("DependsOn"),
        checks.check_bucket_depends_on_queue_policy,
        "DependsOn",
    ),
    (
        "photos",
        lambda t: statement(t, "EventQueuePolicy", "BucketSendsEvents")["Condition"].pop("StringEquals"),
        checks.check_services_are_conditioned,
        "BucketSendsEvents",
    ),
    (
        "photos",
        lambda t: statement(t, "EventQueuePolicy", "RuleSendsEvents")["Condition"].pop("ArnEquals"),
        checks.check_services_are_conditioned,
        "RuleSendsEvents",
    ),
    (
        "photos",
        lambda t: statement(t, "EventQueuePolicy", "BucketSendsEvents").update(Principal="*"),
        checks.check_services_are_conditioned,
        "BucketSendsEvents",
    ),
    (
        "topic",
        lambda t: statement(t, "EventTopicPolicy", "BucketPublishesEvents")["Condition"].pop("ArnEquals"),
        checks.check_services_are_conditioned,
        "BucketPublishesEvents",
    ),
    (
        "photos",
        lambda t: properties(t, "PhotoBucket")["BucketName"]["Fn::If"].__setitem__(2, {"Fn::Sub": "${AWS::StackName}-photos"}),
        checks.check_bucket_name_is_consistent,
        "AccountId",
    ),
    (
        "access",
        lambda t: t["Outputs"].update(AccessKeySecret={"Value": {"Fn::GetAtt": ["Key", "SecretAccessKey"]}}),
        checks.check_no_secret_in_outputs,
        "AccessKeySecret",
    ),
    (
        "access",
        lambda t: t["Resources"].update(Key={"Type": "AWS::IAM::AccessKey", "Properties": {}}),
        checks.check_no_secret_in_outputs,
        "readable in the stack",
    ),
    (
        "photos",
        lambda t: properties(t, "EventQueue").update(MaximumMessageSize=65_535),
        checks.check_queue_settings,
        "MaximumMessageSize",
    ),
    (
        "photos",
        lambda t: t["Parameters"]["VisibilityTimeoutSeconds"].update(MinValue=30),
        checks.check_queue_settings,
        "MinValue",
    ),
    (
        "photos",
        lambda t: t["Parameters"]["VisibilityTimeoutSeconds"].update(Default=20),
        checks.check_queue_settings,
        "VisibilityTimeout",
    ),
    (
        "photos",
        lambda t: properties(t, "EventQueue").pop("RedrivePolicy"),
        checks.check_queue_settings,
        "RedrivePolicy",
    ),
    (
        "photos",
        lambda t: t["Resources"]["PhotoBucket"].pop("DeletionPolicy"),
        checks.check_data_is_retained,
        "DeletionPolicy",
    ),
    (
        "photos",
        lambda t: t["Resources"]["DeadLetterQueue"].update(UpdateReplacePolicy="Delete"),
        checks.check_data_is_retained,
        "UpdateReplacePolicy",
    ),
    (
        "key",
        lambda t: t["Resources"]["Key"].pop("DeletionPolicy"),
        checks.check_data_is_retained,
        "DeletionPolicy",
    ),
    (
        "photos",
        lambda t: properties(t, "EventQueue")["KmsMasterKeyId"]["Fn::If"].__setitem__(2, "alias/aws/sqs"),
        checks.check_queue_encryption,
        "alias/aws/sqs",
    ),
    (
        "photos",
        lambda t: properties(t, "PhotoBucket").update(OwnershipControl=properties(t, "PhotoBucket").pop("OwnershipControls")),
        checks.check_bucket_settings,
        "ownership",
    ),
    (
        "photos",
        lambda t: properties(t, "PhotoBucket").pop("BucketEncryption"),
        checks.check_bucket_settings,
        "encryption",
    ),
    (
        "photos",
        lambda t: properties(t, "PhotoBucket")["LifecycleConfiguration"]["Rules"][0].update(Status="enabled"),
        checks.check_bucket_settings,
        "Status",
    ),
    (
        "photos",
        lambda t: properties(t, "PhotoBucket")["PublicAccessBlockConfiguration"].update(BlockPublicPolicy="yes"),
        checks.check_bucket_settings,
        "BlockPublicPolicy",
    ),
    (
        "photos",
        lambda t: properties(t, "PhotoBucket")["NotificationConfiguration"]["QueueConfigurations"]["Fn::If"][1].pop(),
        checks.check_notification_is_complete,
        "QueueConfigurations",
    ),
    (
        "photos",
        lambda t: t["Resources"].pop("DeadLetterQueuePolicy"),
        checks.check_plain_http_is_refused,
        "DeadLetterQueue",
    ),
    (
        "photos",
        lambda t: t["Parameters"]["RequireTls"].update(Default="false"),
        checks.check_plain_http_is_refused,
        "off by default",
    ),
    (
        "photos",
        lambda t: node_at(properties(t, "PhotoBucket"), "CorsConfiguration", "Fn::If", 1, "CorsRules", 0).update(ExposedHeaders=[]),
        checks.check_cors_permits_signed_requests,
        "ETag",
    ),
    (
        "photos",
        lambda t: properties(t, "DeadLettersAlarm").pop("TreatMissingData"),
        checks.check_alarms,
        "TreatMissingData",
    ),
    (
        "access",
        lambda t: statement(t, "ServerPolicy", "StorePhotos").update(Action="s3:Put*"),
        checks.check_policy_names_its_resources,
        "s3:Put",
    ),
    (
        "access",
        lambda t: statement(t, "ServerPolicy", "ConsumeEvents").update(Resource="*"),
        checks.check_policy_names_its_resources,
        "ConsumeEvents",
    ),
    (
        "access",
        lambda t: t["Parameters"]["BucketName"].update(AllowedPattern=".*"),
        checks.check_policy_names_its_resources,
        "wildcard",
    ),
]


IDS = [f"{name}-{check.__name__}-{message}" for name, _, check, message in BREAKAGES]


@pytest.mark.parametrize(("name", "break_template", "check", "message"), BREAKAGES, ids=IDS)
def test_each_check_detects_a_broken_template(name, break_template, check, message):
    template = copy.deepcopy(load(name))
    break_template(template)
    with pytest.raises((AssertionError, KeyError), match=message):
        check(template)
