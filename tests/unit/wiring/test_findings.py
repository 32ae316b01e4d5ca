"""What the doctor finds: each ailment by itself, and nothing in a sound wiring."""

import json
from typing import Any

import pytest

from app.wiring import policies
from app.wiring.bucket_rules import QUEUES, merged, our_rule
from app.wiring.findings import BucketSeen, Finding, QueueSeen, Refusal, examine_bucket, examine_queue
from app.wiring.snapshot import Bucket, Queue

ARN = "arn:aws:sqs:eu-west-1:111122223333:events"
STATEMENT = policies.s3_may_send(ARN, bucket="photos", account="111122223333", partition="aws")
SOUND = {
    "QueueArn": ARN,
    "MaximumMessageSize": "262144",
    "MessageRetentionPeriod": "604800",
    "SqsManagedSseEnabled": "true",
    "Policy": json.dumps({"Statement": [STATEMENT]}),
    "RedrivePolicy": json.dumps({"deadLetterTargetArn": f"{ARN}-dead", "maxReceiveCount": "10"}),
}
RULE = our_rule(ARN, kind=QUEUES, events=["s3:ObjectCreated:*"])


def queue(attributes: dict[str, str], *, name: str = "events") -> Queue:
    """Make a queue."""
    return Queue(name=name, url=f"https://sqs/{name}", arn=attributes.get("QueueArn", ARN), attributes=attributes)


def found(changes: dict[str, str | None], dead: dict[str, str] | None = None) -> list[Finding]:
    """Examine a sound queue with changes; None takes an attribute away."""
    attributes = {name: value for name, value in {**SOUND, **changes}.items() if value is not None}
    dead_letter_queue = queue({"MessageRetentionPeriod": "1209600", **(dead or {})}, name="events-dead")
    return list(examine_queue(QueueSeen(url="u", queue=queue(attributes), dead_letter_queue=dead_letter_queue)))


def test_a_sound_queue_has_nothing() -> None:
    """No finding at all."""
    assert found({}) == []


@pytest.mark.parametrize(
    ("changes", "dead", "severity", "said"),
    [
        ({"MaximumMessageSize": "1024"}, None, "error", "1024 bytes"),
        ({"KmsMasterKeyId": "alias/aws/sqs"}, None, "error", "the key AWS manages"),
        ({"KmsMasterKeyId": "arn:aws:kms:eu-west-1:1:key/2"}, None, "warning", "kms:Decrypt"),
        ({"SqsManagedSseEnabled": "false"}, None, "warning", "not encrypted"),
        ({"Policy": None}, None, "error", "no policy"),
        ({"RedrivePolicy": None}, None, "warning", "no dead-letter queue"),
        ({"RedrivePolicy": '{"deadLetterTargetArn": "x", "maxReceiveCount": 2}'}, None, "warning", "after 2 receives"),
        ({}, {"MessageRetentionPeriod": "345600"}, "warning", "keeps messages 345600 s"),
        ({}, {"ApproximateNumberOfMessages": "3"}, "warning", "3 messages wait"),
        ({"QueueArn": f"{ARN}.fifo"}, None, "error", "FIFO"),
    ],
)
def test_each_ailment_of_a_queue(
    changes: dict[str, str | None], dead: dict[str, str] | None, severity: str, said: str
) -> None:
    """One finding, with what mends it."""
    (finding,) = found(changes, dead)

    assert finding.severity == severity
    assert said in finding.reason
    assert finding.mend


def test_what_aws_refuses_is_told_in_its_words() -> None:
    """With the action that is missing."""
    refusal = Refusal(action="sqs:GetQueueAttributes", code="AccessDenied", message="Not you.")

    (finding,) = examine_queue(QueueSeen(url="u", queue=None, refusals=(refusal,)))

    assert finding.reason == "sqs:GetQueueAttributes is refused: AccessDenied: Not you."


def seen(configuration: Any, *, versioning: str | None = "Enabled", region: str = "eu-west-1") -> BucketSeen:
    """Make a bucket as it is seen."""
    bucket = Bucket(name="photos", region=region, versioning=versioning, configuration=configuration)
    return BucketSeen(name="photos", bucket=bucket)


def severities(bucket: BucketSeen, queues: dict[str, Queue | None]) -> list[str]:
    """Examine a bucket."""
    return [each.severity for each in examine_bucket(bucket, queues)]


def test_a_sound_bucket_is_ok() -> None:
    """It says so."""
    assert severities(seen(merged({}, RULE)), {ARN: queue(SOUND)}) == ["ok"]


@pytest.mark.parametrize(
    ("bucket", "queues", "expected"),
    [
        (seen({}), {}, ["error"]),
        (seen(merged({}, RULE), versioning=None), {ARN: queue(SOUND)}, ["ok", "warning"]),
        (seen(merged({"EventBridgeConfiguration": {}}, RULE)), {ARN: queue(SOUND)}, ["ok", "info"]),
        (seen(merged({}, RULE)), {ARN: None}, ["error"]),
        (seen(merged({}, RULE)), {ARN: queue({**SOUND, "Policy": ""})}, ["error"]),
        (seen(merged({}, RULE), region="us-east-1"), {ARN: queue(SOUND)}, ["error", "ok"]),
        (
            seen({"QueueConfigurations": [{"Id": "x", "QueueArn": ARN, "Events": ["s3:ObjectCreated:*"]}]}),
            {ARN: queue(SOUND)},
            ["warning", "ok"],
        ),
    ],
)
def test_each_ailment_of_a_bucket(bucket: BucketSeen, queues: dict[str, Queue | None], expected: list[str]) -> None:
    """No rule, no versions, EventBridge, a queue that is gone, a policy that is gone, another region, drift."""
    assert severities(bucket, queues) == expected
