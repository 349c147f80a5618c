"""What cfn-lint and checkov do not see and an emulator does not mind, but AWS or an operator would.

Each check takes a template and asserts; `test_templates.py` runs it on the template as it is, and on
copies that are broken on purpose.
"""

from __future__ import annotations

import re

from templates import as_list, of_type, references, statements, unfold, walk

# A stopping server finishes, or hands back, what it received within Heroku's 30 seconds.
HANDLER_LIMIT_SECONDS = 30
# S3's events reach 64 KiB.
LARGEST_EVENT_BYTES = 65_536

# A call and its batch: one action on AWS (`test_policy.py` holds them to AWS's own list).
BATCHES = {"sqs:DeleteMessage*": "sqs:DeleteMessage", "sqs:SendMessage*": "sqs:SendMessage"}

HOLDS_DATA = ("AWS::S3::Bucket", "AWS::SQS::Queue", "AWS::KMS::Key")
POLICIES = ("AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy")


def closure(template: dict, name: str) -> set[str]:
    """Everything that has to exist before the resource `name`."""
    resources, seen, open_ = template["Resources"], set(), [name]
    while open_:
        resource = resources[open_.pop()]
        needs = references(resource.get("Properties", {})) | set(as_list(resource.get("DependsOn", [])))
        new = (needs & resources.keys()) - seen
        seen |= new
        open_ += new
    return seen


def no_circle(template: dict) -> None:
    for name in template["Resources"]:
        assert name not in closure(template, name), f"{name} depends on itself"


def bucket_waits_for_queue_policy(template: dict) -> None:
    for name, bucket in of_type(template, "AWS::S3::Bucket").items():
        for policy in of_type(template, "AWS::SQS::QueuePolicy"):
            if "Condition" in template["Resources"][policy]:
                continue  # the dead-letter queue's: S3 sends nothing there
            assert policy in as_list(bucket.get("DependsOn", [])), f"{name}: no DependsOn {policy}"


def services_are_conditioned(template: dict) -> None:
    """Any bucket in the world sends as s3.amazonaws.com: the account *and* the source must match."""
    for kind in POLICIES:
        for name, resource in of_type(template, kind).items():
            for statement in statements(resource):
                if statement["Effect"] != "Allow":
                    continue
                assert set(statement["Principal"]) == {"Service"}, f"{name}: {statement['Sid']}"
                keys = {key for test in statement.get("Condition", {}).values() for key in test}
                assert {"aws:SourceArn", "aws:SourceAccount"} <= keys, f"{name}: {statement['Sid']}"


def bucket_is_named_alike(template: dict) -> None:
    """The name that the policies and the rule spell out is the bucket's."""
    bucket = of_type(template, "AWS::S3::Bucket")["PhotoBucket"]["Properties"]["BucketName"]
    default = bucket["Fn::If"][2]["Fn::Sub"]
    found = set()
    for node in walk({k: v for k, v in template["Resources"].items() if k != "PhotoBucket"}):
        if isinstance(node, dict) and as_list(node.get("Fn::If"))[0] == "HasBucketName":
            found |= {str(list(n.values())[0]).removeprefix("arn:${AWS::Partition}:s3:::") for n in node["Fn::If"][1:]}
    assert found == {"BucketName", "${BucketName}", default}, found


def nothing_secret_in_outputs(template: dict) -> None:
    assert not of_type(template, "AWS::IAM::AccessKey"), "an access key would lie open in the stack"
    for name, output in template["Outputs"].items():
        assert not re.search(r"secret|password|token|accesskey", name + str(output["Value"]), re.I), name
    for name, parameter in template.get("Parameters", {}).items():
        if re.search(r"secret|password|token", name, re.I):
            assert parameter.get("NoEcho"), f"{name} is shown to whoever may look"


def queues_fit(template: dict) -> None:
    parameters = template["Parameters"]
    for name, queue in of_type(template, "AWS::SQS::Queue").items():
        p = queue["Properties"]
        assert p["MaximumMessageSize"] >= 2 * LARGEST_EVENT_BYTES, f"{name}: MaximumMessageSize"
        visibility = parameters[p["VisibilityTimeout"]["Ref"]]
        assert visibility["MinValue"] > HANDLER_LIMIT_SECONDS, f"{name}: MinValue of the visibility"
        assert visibility["Default"] >= visibility["MinValue"], f"{name}: VisibilityTimeout"
        assert "FifoQueue" not in p, f"{name}: S3 sends to no FIFO queue"
    queues = of_type(template, "AWS::SQS::Queue")
    source, dead = queues["EventQueue"]["Properties"], queues["DeadLetterQueue"]["Properties"]
    redrive = source.get("RedrivePolicy", {})
    assert redrive.get("deadLetterTargetArn") == {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}, "RedrivePolicy"
    assert parameters[redrive["maxReceiveCount"]["Ref"]]["Default"] >= 3, "maxReceiveCount"
    assert source["ReceiveMessageWaitTimeSeconds"] == 20, "short polls are billed"
    assert dead["MessageRetentionPeriod"] > source["MessageRetentionPeriod"], "a dead letter keeps its age"


def data_is_kept(template: dict) -> None:
    for kind in HOLDS_DATA:
        for name, resource in of_type(template, kind).items():
            assert resource.get("DeletionPolicy") in ("Retain", "RetainExceptOnCreate"), f"{name}: DeletionPolicy"
            assert resource.get("UpdateReplacePolicy") == "Retain", f"{name}: UpdateReplacePolicy"


def queues_are_encrypted_with_a_usable_key(template: dict) -> None:
    """S3 can't use alias/aws/sqs: its events would vanish without a word."""
    for name, queue in of_type(template, "AWS::SQS::Queue").items():
        p = queue["Properties"]
        assert p["SqsManagedSseEnabled"] == {"Fn::If": ["HasKmsKey", False, True]}, f"{name}: SSE-SQS"
        assert p["KmsMasterKeyId"]["Fn::If"][1] == {"Ref": "KmsKeyArn"}, f"{name}: KmsMasterKeyId"
    for node in walk(template["Resources"]):
        assert not (isinstance(node, str) and node.startswith("alias/aws/")), node


def bucket_is_closed_and_tidy(template: dict) -> None:
    """Spelled right: an emulator takes these for granted, typos and all."""
    p = of_type(template, "AWS::S3::Bucket")["PhotoBucket"]["Properties"]
    block = p.get("PublicAccessBlockConfiguration", {})
    for key in ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"):
        assert block.get(key) is True, f"PublicAccessBlock: {key}"
    owners = [rule.get("ObjectOwnership") for rule in p.get("OwnershipControls", {}).get("Rules", [])]
    assert owners == ["BucketOwnerEnforced"], "ownership"
    algorithms = {
        rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"]
        for rule in unfold(p.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", []))
    }
    assert algorithms == {"AES256", "aws:kms"}, "encryption"
    rules = {rule["Id"]: rule for rule in unfold(p.get("LifecycleConfiguration", {}).get("Rules", []))}
    assert all(rule["Status"] == "Enabled" for rule in rules.values()), "lifecycle: Status"
    abort = rules.get("abort-abandoned-uploads", {})
    assert abort.get("AbortIncompleteMultipartUpload") == {"DaysAfterInitiation": 1}, "lifecycle: multipart"
    noncurrent = rules.get("expire-noncurrent-versions", {}).get("NoncurrentVersionExpiration")
    assert noncurrent == {"NoncurrentDays": {"Ref": "NoncurrentVersionDays"}}, "lifecycle: versions"
    assert rules.get("expire-photos", {}).get("ExpirationInDays") == {"Ref": "PhotoExpirationDays"}, "lifecycle: photos"
    assert template["Parameters"]["PhotoExpirationDays"]["Default"] == 0, "photos expire unasked"


def notification_is_whole(template: dict) -> None:
    """The three families of events, each with the prefix filter, on both ways through S3 itself."""
    p = of_type(template, "AWS::S3::Bucket")["PhotoBucket"]["Properties"]["NotificationConfiguration"]
    wanted = {"s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"}
    prefix = {"S3Key": {"Rules": [{"Name": "prefix", "Value": {"Ref": "KeyPrefix"}}]}}
    for way in ("QueueConfigurations", "TopicConfigurations"):
        entries = p[way]["Fn::If"][1]
        assert {entry["Event"] for entry in entries} == wanted, way
        for entry in entries:
            assert entry["Filter"] == {"Fn::If": ["HasKeyPrefix", prefix, {"Ref": "AWS::NoValue"}]}, way


def plain_http_is_refused(template: dict) -> None:
    assert template["Parameters"]["RequireTls"]["Default"] == "true", "RequireTls is off by default"
    protected = set()
    for kind in POLICIES:
        for resource in of_type(template, kind).values():
            for statement in statements(resource):
                if statement["Effect"] == "Deny" and statement.get("Condition") == {
                    "Bool": {"aws:SecureTransport": "false"}
                }:
                    assert statement["Principal"] == "*", statement["Sid"]
                    protected |= references(statement["Resource"])
    holders = ("AWS::S3::Bucket", "AWS::SQS::Queue", "AWS::SNS::Topic")
    missing = {name for kind in holders for name in of_type(template, kind)} - protected
    assert not missing, f"plain HTTP reaches {missing}"


def cors_lets_signed_requests_through(template: dict) -> None:
    p = of_type(template, "AWS::S3::Bucket")["PhotoBucket"]["Properties"]
    (rule,) = p["CorsConfiguration"]["Fn::If"][1]["CorsRules"]
    assert rule["AllowedOrigins"] == {"Ref": "AllowedOrigins"}, "origins"
    assert set(rule["AllowedMethods"]) == {"PUT", "POST", "GET", "HEAD", "DELETE"}, "methods"
    assert rule["AllowedHeaders"] == ["*"], "signed headers vary"
    assert "ETag" in rule["ExposedHeaders"], "multipart uploads read the ETag"
    assert template["Parameters"]["AllowedOrigins"]["Default"] == "", "no origin unasked"


def alarms_tell_somebody(template: dict) -> None:
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    watched = {}
    for name, alarm in alarms.items():
        p = alarm["Properties"]
        assert p["AlarmActions"] == {"Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]}, name
        assert p["TreatMissingData"] == "notBreaching", f"{name}: an idle queue has no data"
        (dimension,) = p["Dimensions"]
        watched[p["MetricName"]] = dimension["Value"]["Fn::GetAtt"]
    assert watched == {
        "ApproximateAgeOfOldestMessage": ["EventQueue", "QueueName"],
        "ApproximateNumberOfMessagesVisible": ["DeadLetterQueue", "QueueName"],
    }, watched


def policy_names_its_resources(template: dict) -> None:
    """No wildcard but the key's tail and the batches', one purpose a Sid, no statement without one."""
    (policy,) = of_type(template, "AWS::IAM::ManagedPolicy").values()
    sids = [statement["Sid"] for statement in statements(policy)]
    assert len(sids) == len(set(sids)), "a Sid twice"
    for statement in statements(policy):
        assert statement["Effect"] == "Allow", statement["Sid"]
        for action in as_list(statement["Action"]):
            assert "*" not in action or action in BATCHES, f"{statement['Sid']}: {action}"
        (resource,) = as_list(statement["Resource"])
        assert references(resource) & {"BucketName", "QueueArn", "DeadLetterQueueArn", "KmsKeyArn"}, statement["Sid"]
        text = str(resource.get("Fn::Sub", ""))
        assert "*" not in text.removesuffix("/${KeyPrefix}*"), f"{statement['Sid']}: {text}"
    for name, parameter in template["Parameters"].items():
        if name.endswith(("Name", "Arn", "Prefix")):
            assert not re.fullmatch(parameter["AllowedPattern"], "*"), f"{name} takes a wildcard"
