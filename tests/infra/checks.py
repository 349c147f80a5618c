"""Checks for faults that cfn-lint, checkov and an emulator accept, but that fail on AWS or in operation.

Each check takes a template and asserts. `test_templates.py` runs it on the template itself and on copies
that are broken on purpose.
"""

from __future__ import annotations

import re

from templates import as_list, of_type, references, statements, expand_conditions, walk

# A stopping server finishes or releases its messages within the 30 seconds that Heroku grants.
SHUTDOWN_LIMIT_SECONDS = 30
# An event of S3 has up to 64 KiB.
LARGEST_EVENT_BYTES = 65_536

# A call and its batch form are one action on AWS (`test_policy.py` compares them with AWS's own list).
BATCH_PATTERNS = {"sqs:DeleteMessage*": "sqs:DeleteMessage", "sqs:SendMessage*": "sqs:SendMessage"}

DATA_TYPES = ("AWS::S3::Bucket", "AWS::SQS::Queue", "AWS::KMS::Key")
RESOURCE_POLICY_TYPES = ("AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy")


def dependencies(template: dict, name: str) -> set[str]:
    """All resources that have to exist before the resource `name`."""
    resources, seen, open_ = template["Resources"], set(), [name]
    while open_:
        resource = resources[open_.pop()]
        needs = references(resource.get("Properties", {})) | set(as_list(resource.get("DependsOn", [])))
        new = (needs & resources.keys()) - seen
        seen |= new
        open_ += new
    return seen


def check_no_dependency_cycle(template: dict) -> None:
    for name in template["Resources"]:
        assert name not in dependencies(template, name), f"{name} depends on itself"


def check_bucket_depends_on_queue_policy(template: dict) -> None:
    for name, bucket in of_type(template, "AWS::S3::Bucket").items():
        for policy in of_type(template, "AWS::SQS::QueuePolicy"):
            if "Condition" in template["Resources"][policy]:
                continue  # The policy of the dead-letter queue, to which S3 sends nothing.
            assert policy in as_list(bucket.get("DependsOn", [])), f"{name}: no DependsOn {policy}"


def check_services_are_conditioned(template: dict) -> None:
    """Buckets of all accounts send as s3.amazonaws.com: the account *and* the source must match."""
    for kind in RESOURCE_POLICY_TYPES:
        for name, resource in of_type(template, kind).items():
            for statement in statements(resource):
                if statement["Effect"] != "Allow":
                    continue
                assert set(statement["Principal"]) == {"Service"}, f"{name}: {statement['Sid']}"
                keys = {key for test in statement.get("Condition", {}).values() for key in test}
                assert {"aws:SourceArn", "aws:SourceAccount"} <= keys, f"{name}: {statement['Sid']}"


def check_bucket_name_is_consistent(template: dict) -> None:
    """The policies and the rule build the bucket's name by the same expression as the bucket."""
    bucket = of_type(template, "AWS::S3::Bucket")["PhotoBucket"]["Properties"]["BucketName"]
    default = bucket["Fn::If"][2]["Fn::Sub"]
    found = set()
    for node in walk({k: v for k, v in template["Resources"].items() if k != "PhotoBucket"}):
        if isinstance(node, dict) and as_list(node.get("Fn::If"))[0] == "HasBucketName":
            found |= {str(list(n.values())[0]).removeprefix("arn:${AWS::Partition}:s3:::") for n in node["Fn::If"][1:]}
    assert found == {"BucketName", "${BucketName}", default}, found


def check_no_secret_in_outputs(template: dict) -> None:
    assert not of_type(template, "AWS::IAM::AccessKey"), "an access key would be readable in the stack"
    for name, output in template["Outputs"].items():
        assert not re.search(r"secret|password|token|accesskey", name + str(output["Value"]), re.I), name
    for name, parameter in template.get("Parameters", {}).items():
        if re.search(r"secret|password|token", name, re.I):
            assert parameter.get("NoEcho"), f"{name} has no NoEcho"


def check_queue_settings(template: dict) -> None:
    parameters = template["Parameters"]
    for name, queue in of_type(template, "AWS::SQS::Queue").items():
        p = queue["Properties"]
        assert p["MaximumMessageSize"] >= 2 * LARGEST_EVENT_BYTES, f"{name}: MaximumMessageSize"
        visibility = parameters[p["VisibilityTimeout"]["Ref"]]
        assert visibility["MinValue"] > SHUTDOWN_LIMIT_SECONDS, f"{name}: MinValue of the visibility"
        assert visibility["Default"] >= visibility["MinValue"], f"{name}: VisibilityTimeout"
        assert "FifoQueue" not in p, f"{name}: S3 can't send to a FIFO queue"
    queues = of_type(template, "AWS::SQS::Queue")
    source, dead = queues["EventQueue"]["Properties"], queues["DeadLetterQueue"]["Properties"]
    redrive = source.get("RedrivePolicy", {})
    assert redrive.get("deadLetterTargetArn") == {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}, "RedrivePolicy"
    assert parameters[redrive["maxReceiveCount"]["Ref"]]["Default"] >= 3, "maxReceiveCount"
    assert source["ReceiveMessageWaitTimeSeconds"] == 20, "short polling costs more requests"
    assert dead["MessageRetentionPeriod"] > source["MessageRetentionPeriod"], "a message keeps its age in the dead-letter queue"


def check_data_is_retained(template: dict) -> None:
    for kind in DATA_TYPES:
        for name, resource in of_type(template, kind).items():
            assert resource.get("DeletionPolicy") in ("Retain", "RetainExceptOnCreate"), f"{name}: DeletionPolicy"
            assert resource.get("UpdateReplacePolicy") == "Retain", f"{name}: UpdateReplacePolicy"


def check_queue_encryption(template: dict) -> None:
    """S3 can't use alias/aws/sqs: its events would be lost without an error."""
    for name, queue in of_type(template, "AWS::SQS::Queue").items():
        p = queue["Properties"]
        assert p["SqsManagedSseEnabled"] == {"Fn::If": ["HasKmsKey", False, True]}, f"{name}: SSE-SQS"
        assert p["KmsMasterKeyId"]["Fn::If"][1] == {"Ref": "KmsKeyArn"}, f"{name}: KmsMasterKeyId"
    for node in walk(template["Resources"]):
        assert not (isinstance(node, str) and node.startswith("alias/aws/")), node


def check_bucket_settings(template: dict) -> None:
    """An emulator ignores these properties, so a misspelled one would pass every deployment test."""
    p = of_type(template, "AWS::S3::Bucket")["PhotoBucket"]["Properties"]
    block = p.get("PublicAccessBlockConfiguration", {})
    for key in ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"):
        assert block.get(key) is True, f"PublicAccessBlock: {key}"
    owners = [rule.get("ObjectOwnership") for rule in p.get("OwnershipControls", {}).get("Rules", [])]
    assert owners == ["BucketOwnerEnforced"], "ownership"
    algorithms = {
        rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"]
        for rule in expand_conditions(p.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", []))
    }
    assert algorithms == {"AES256", "aws:kms"}, "encryption"
    rules = {rule["Id"]: rule for rule in expand_conditions(p.get("LifecycleConfiguration", {}).get("Rules", []))}
    assert all(rule["Status"] == "Enabled" for rule in rules.values()), "lifecycle: Status"
    abort = rules.get("abort-abandoned-uploads", {})
    assert abort.get("AbortIncompleteMultipartUpload") == {"DaysAfterInitiation": 1}, "lifecycle: multipart"
    noncurrent = rules.get("expire-noncurrent-versions", {}).get("NoncurrentVersionExpiration")
    assert noncurrent == {"NoncurrentDays": {"Ref": "NoncurrentVersionDays"}}, "lifecycle: versions"
    assert rules.get("expire-photos", {}).get("ExpirationInDays") == {"Ref": "PhotoExpirationDays"}, "lifecycle: photos"
    assert template["Parameters"]["PhotoExpirationDays"]["Default"] == 0, "photos expire by default"


def check_notification_is_complete(template: dict) -> None:
    """All three event types, each with the prefix filter, to the queue and to the topic."""
    p = of_type(template, "AWS::S3::Bucket")["PhotoBucket"]["Properties"]["NotificationConfiguration"]
    expected = {"s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"}
    prefix = {"S3Key": {"Rules": [{"Name": "prefix", "Value": {"Ref": "KeyPrefix"}}]}}
    for configuration in ("QueueConfigurations", "TopicConfigurations"):
        entries = p[configuration]["Fn::If"][1]
        assert {entry["Event"] for entry in entries} == expected, configuration
        for entry in entries:
            assert entry["Filter"] == {"Fn::If": ["HasKeyPrefix", prefix, {"Ref": "AWS::NoValue"}]}, configuration


def check_plain_http_is_refused(template: dict) -> None:
    assert template["Parameters"]["RequireTls"]["Default"] == "true", "RequireTls is off by default"
    protected = set()
    for kind in RESOURCE_POLICY_TYPES:
        for resource in of_type(template, kind).values():
            for statement in statements(resource):
                if statement["Effect"] == "Deny" and statement.get("Condition") == {
                    "Bool": {"aws:SecureTransport": "false"}
                }:
                    assert statement["Principal"] == "*", statement["Sid"]
                    protected |= references(statement["Resource"])
    types = ("AWS::S3::Bucket", "AWS::SQS::Queue", "AWS::SNS::Topic")
    missing = {name for kind in types for name in of_type(template, kind)} - protected
    assert not missing, f"plain HTTP reaches {missing}"


def check_cors_permits_signed_requests(template: dict) -> None:
    p = of_type(template, "AWS::S3::Bucket")["PhotoBucket"]["Properties"]
    (rule,) = p["CorsConfiguration"]["Fn::If"][1]["CorsRules"]
    assert rule["AllowedOrigins"] == {"Ref": "AllowedOrigins"}, "origins"
    assert set(rule["AllowedMethods"]) == {"PUT", "POST", "GET", "HEAD", "DELETE"}, "methods"
    assert rule["AllowedHeaders"] == ["*"], "the signed headers depend on the upload"
    assert "ETag" in rule["ExposedHeaders"], "multipart uploads need the ETag"
    assert template["Parameters"]["AllowedOrigins"]["Default"] == "", "an origin is allowed by default"


def check_alarms(template: dict) -> None:
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    queues = {}
    for name, alarm in alarms.items():
        p = alarm["Properties"]
        assert p["AlarmActions"] == {"Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]}, name
        assert p["TreatMissingData"] == "notBreaching", f"{name}: an idle queue has no data"
        (dimension,) = p["Dimensions"]
        queues[p["MetricName"]] = dimension["Value"]["Fn::GetAtt"]
    assert queues == {
        "ApproximateAgeOfOldestMessage": ["EventQueue", "QueueName"],
        "ApproximateNumberOfMessagesVisible": ["DeadLetterQueue", "QueueName"],
    }, queues


def check_policy_names_its_resources(template: dict) -> None:
    """No wildcards except in the key's suffix and the batch patterns, and one Sid for each purpose."""
    (policy,) = of_type(template, "AWS::IAM::ManagedPolicy").values()
    sids = [statement["Sid"] for statement in statements(policy)]
    assert len(sids) == len(set(sids)), "a Sid is used twice"
    for statement in statements(policy):
        assert statement["Effect"] == "Allow", statement["Sid"]
        for action in as_list(statement["Action"]):
            assert "*" not in action or action in BATCH_PATTERNS, f"{statement['Sid']}: {action}"
        (resource,) = as_list(statement["Resource"])
        assert references(resource) & {"BucketName", "QueueArn", "DeadLetterQueueArn", "KmsKeyArn"}, statement["Sid"]
        text = str(resource.get("Fn::Sub", ""))
        assert "*" not in text.removesuffix("/${KeyPrefix}*"), f"{statement['Sid']}: {text}"
    for name, parameter in template["Parameters"].items():
        if name.endswith(("Name", "Arn", "Prefix")):
            assert not re.fullmatch(parameter["AllowedPattern"], "*"), f"{name} accepts a wildcard"
