"""The doctor's findings, each from what was seen, each with what mends it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from app.wiring import policy as policies
from app.wiring.bucket_findings import bucket_findings, findings
from app.wiring.examined import Examination, Refused, SeenBucket, SeenSource
from app.wiring.findings import Finding, source_findings
from app.wiring.snapshot import Queue, Subscription, Topic
from tests.unit.wiring import worlds
from tests.unit.wiring.worlds import ACCOUNT, FOREIGN_ARN, QUEUE_ARN, TOPIC_ARN, WISH, bucket, connected, rule, snapshot

WORLD = connected(snapshot())
TOPIC_WORLD = connected(snapshot(), replace(WISH, topic="told"))


def _queue(**attributes: str) -> Queue:
    assert WORLD.queue is not None
    return replace(WORLD.queue, attributes={**WORLD.queue.attributes, **attributes})


def _source(**fields: Any) -> SeenSource:
    return SeenSource(
        **{
            "name": "s",
            "queue_url": _queue().url,
            "account": ACCOUNT,
            "queue": _queue(),
            "dead_letter_queue": WORLD.dead_letter_queue,
            **fields,
        }
    )


def _dead(**attributes: str) -> Queue:
    assert WORLD.dead_letter_queue is not None
    return replace(WORLD.dead_letter_queue, attributes={**WORLD.dead_letter_queue.attributes, **attributes})


def _redrive(count: int) -> str:
    return json.dumps({"deadLetterTargetArn": worlds.DEAD_ARN, "maxReceiveCount": count})


def _topic(**fields: Any) -> Topic:
    assert TOPIC_WORLD.topic is not None
    return replace(TOPIC_WORLD.topic, **fields)


DENY = policies.with_statement(_queue().policy, {"Sid": "no", "Effect": "Deny", "Principal": "*", "Action": "sqs:*"})
OPEN = json.dumps({"Statement": {"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "sqs:*"}})
KEY = json.dumps({"Statement": [policies.key_statement("s3.amazonaws.com")]})


@pytest.mark.parametrize(
    ("seen", "expected", "mend"),
    [
        (_source(), [("queue_ok", "ok")], ""),
        (_source(is_paused=True), [("paused", "warning"), ("queue_ok", "ok")], "paused"),
        (_source(state="failing", last_error="No."), [("failing", "error"), ("queue_ok", "ok")], ""),
        (_source(state="starting"), [("not_read_yet", "info"), ("queue_ok", "ok")], ""),
        (_source(has_test_event=False), [("no_test_event", "info"), ("queue_ok", "ok")], ""),
        (
            _source(queue=None, refused=(Refused(action="sqs:GetQueueAttributes", reason="", is_denied=True),)),
            [("not_allowed", "warning")],
            "sqs:GetQueueAttributes",
        ),
        (
            _source(refused=(Refused(action="sqs:DeleteMessage", reason="", is_denied=True),)),
            [("not_allowed", "error")],
            QUEUE_ARN,
        ),
        (_source(queue=None, refused=(Refused(action="", reason="No answer."),)), [("unreachable", "error")], ""),
        (_source(queue=_queue(QueueArn=f"{QUEUE_ARN}.fifo")), [("fifo", "error")], "--queue"),
        (_source(queue=_queue(MaximumMessageSize="1024")), [("message_size", "error")], "MaximumMessageSize=262144"),
        (_source(queue=_queue(MessageRetentionPeriod="3600")), [("retention", "warning")], "=864000"),
        (_source(queue=_queue(KmsMasterKeyId="alias/aws/sqs")), [("aws_key", "error")], "SqsManagedSseEnabled=true"),
        (
            _source(queue=_queue(KmsMasterKeyId="alias/mine")),
            [("key_policy_unknown", "info"), ("queue_ok", "ok")],
            "kms:GenerateDataKey",
        ),
        (
            _source(queue=_queue(KmsMasterKeyId="alias/mine"), key_policy='{"Statement": []}'),
            [("key_policy", "error")],
            "kms:GenerateDataKey",
        ),
        (_source(queue=_queue(KmsMasterKeyId="alias/mine"), key_policy=KEY), [("queue_ok", "ok")], ""),
        (_source(queue=_queue(Policy="")), [("no_sender", "warning")], "bucketpost connect"),
        (_source(queue=_queue(Policy=OPEN)), [("any_bucket", "warning")], "aws:SourceAccount"),
        (_source(queue=_queue(Policy=DENY)), [("deny", "info"), ("queue_ok", "ok")], ""),
        (_source(queue=_queue(RedrivePolicy="")), [("no_dead_letter_queue", "warning")], "RedrivePolicy"),
        (_source(queue=_queue(RedrivePolicy=_redrive(1))), [("receive_count", "warning")], "maxReceiveCount"),
        (
            _source(dead_letter_queue=_dead(MessageRetentionPeriod="864000")),
            [("dead_letter_retention", "warning")],
            "MessageRetentionPeriod=1209600",
        ),
        (
            _source(dead_letter_queue=_dead(ApproximateNumberOfMessages="1")),
            [("dead_letters", "warning")],
            "redrive",
        ),
        (_source(topics={TOPIC_ARN: _topic()}), [("queue_ok", "ok")], ""),
        (_source(topics={TOPIC_ARN: _topic(subscriptions=())}), [("not_subscribed", "warning")], "sns subscribe"),
        (
            _source(topics={TOPIC_ARN: _topic(attributes={"KmsMasterKeyId": "alias/aws/sns"})}),
            [("aws_key", "error")],
            "set-topic-attributes",
        ),
        (
            _source(
                topics={
                    TOPIC_ARN: _topic(
                        subscriptions=(Subscription(arn="a", endpoint=QUEUE_ARN, attributes={"FilterPolicy": "{}"}),)
                    )
                }
            ),
            [("filter_policy", "info"), ("queue_ok", "ok")],
            "",
        ),
    ],
)
def test_what_is_found_about_a_source(seen: SeenSource, expected: list[tuple[str, str]], mend: str) -> None:
    """One thing wrong gives one finding, and what mends it."""
    found = list(source_findings(seen))

    assert expected == [(each.code, each.severity) for each in found]
    assert any(mend in each.mend for each in found)


def _seen(configuration: dict[str, Any] | None = None, **fields: Any) -> SeenBucket:
    queues = fields.pop("queues", {QUEUE_ARN: _queue()})
    given = WORLD.bucket.configuration if configuration is None else configuration
    return SeenBucket(
        name="photos", owner=ACCOUNT.id, bucket=bucket(dict(given), **fields.pop("bucket", {})), queues=queues, **fields
    )


THEIRS = {"QueueConfigurations": [*WORLD.bucket.configuration["QueueConfigurations"], rule("theirs", prefix="x")]}
CHANGED = {
    "QueueConfigurations": [
        {**WORLD.bucket.configuration["QueueConfigurations"][0], **rule("", arn=QUEUE_ARN, prefix="x")}
    ]
}
CHANGED["QueueConfigurations"][0]["Id"] = WORLD.bucket.configuration["QueueConfigurations"][0]["Id"]
CLOSED = {FOREIGN_ARN: worlds.queue("theirs"), QUEUE_ARN: _queue()}


@pytest.mark.parametrize(
    ("seen", "sources", "expected", "mend"),
    [
        (_seen(), [_source()], [("rules_ok", "ok")], ""),
        (_seen(bucket={"versioning": "never"}), [_source()], [("rules_ok", "ok"), ("unversioned", "info")], "Enabled"),
        (
            _seen({**WORLD.bucket.configuration, "EventBridgeConfiguration": {}}),
            [_source()],
            [("rules_ok", "ok"), ("event_bridge", "info")],
            "",
        ),
        (_seen({}), [_source()], [("rule_gone", "error"), ("not_connected", "warning")], "connect s3://photos"),
        (_seen({}), [], [("not_connected", "warning")], "connect s3://photos"),
        (_seen(CHANGED), [_source()], [("rule_changed", "warning")], "--prefix 'x'"),
        (_seen(queues={QUEUE_ARN: None}), [_source()], [("no_target", "error")], "disconnect"),
        (_seen(), [], [("not_read", "error")], "connect s3://photos --queue uploads"),
        (_seen(queues={QUEUE_ARN: _queue(Policy="")}), [_source()], [("policy", "error")], "aws:SourceArn"),
        (_seen(queues={QUEUE_ARN: _queue(Policy=DENY)}), [_source()], [("policy_denies", "error")], ""),
        # Of what is nobody's here only a warning: it is in the way of changes.
        (_seen(THEIRS, queues=CLOSED), [_source()], [("policy", "warning")], "aws:SourceArn"),
        (_seen(THEIRS), [_source()], [("rules_ok", "ok")], ""),
        (_seen(bucket={"region": "us-east-2"}), [_source()], [("region", "error")], ""),
    ],
)
def test_what_is_found_about_a_bucket(
    seen: SeenBucket, sources: list[SeenSource], expected: list[tuple[str, str]], mend: str
) -> None:
    """Drift, targets, policies and versions, each once."""
    found = list(bucket_findings(seen, sources=sources))

    assert expected == [(each.code, each.severity) for each in found]
    assert any(mend in each.mend for each in found)


def test_a_rule_over_a_topic_is_no_drift() -> None:
    """The bucket reaches the queue over the topic that may send to it."""
    seen = SeenBucket(
        name="photos",
        owner=ACCOUNT.id,
        bucket=TOPIC_WORLD.bucket,
        topics={TOPIC_ARN: TOPIC_WORLD.topic},
    )
    source = _source(queue=TOPIC_WORLD.queue, topics={TOPIC_ARN: TOPIC_WORLD.topic})

    found = list(bucket_findings(seen, sources=[source]))

    assert [each.code for each in found] == ["rules_ok"]
    gone = list(bucket_findings(replace(seen, bucket=bucket()), sources=[source]))
    assert [each.code for each in gone] == ["rule_gone", "not_connected"]


def test_a_bucket_that_cannot_be_seen_is_told() -> None:
    """Denied is a warning with the permissions that lack; no bucket is an error."""
    denied = SeenBucket(name="b", unseen=(Refused(action="s3:GetBucketLocation", reason="Denied.", is_denied=True),))
    missing = SeenBucket(name="b", unseen=(Refused(action="", reason="There is no bucket b."),))

    [first], [second] = [list(bucket_findings(each, sources=[])) for each in (denied, missing)]

    assert first.severity == "warning"
    assert "s3:GetBucketNotification" in first.mend
    assert second == Finding(code="unseen", severity="error", about="bucket b", reason="There is no bucket b.")


def test_without_sources_the_way_to_begin_is_shown() -> None:
    """Nothing set up is no error."""
    [found] = findings(Examination(sources=(), buckets=()))

    assert (found.code, found.severity) == ("no_sources", "info")
    assert "connect" in found.mend
