"""What the doctor finds about sources and their queues, and what mends it. Pure; on buckets: bucket_findings.py."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from app.wiring import policy as policies
from app.wiring.examined import Refused, SeenSource
from app.wiring.plan import AWS_KEYS, DAY_SECONDS, LEAST_MESSAGE_BYTES
from app.wiring.snapshot import Queue, Topic

Severity = Literal["ok", "info", "warning", "error"]

LEAST_RECEIVES: Final = 5
SHORT_RETENTION_SECONDS: Final = 4 * DAY_SECONDS
READING: Final = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found. `mend` is a command, or JSON, that mends it; empty where nothing is to be done."""

    code: str
    severity: Severity
    about: str
    reason: str
    mend: str = ""


def source_findings(seen: SeenSource) -> Iterator[Finding]:
    """Tell all about one source."""
    yield from _row(seen)
    for refused in seen.refused:
        yield _refused(seen, refused)
    for unseen in seen.unseen:
        yield Finding(
            code="unseen",
            severity="info",
            about=seen.name,
            reason=f"Not examined: {unseen.reason}",
        )
    if seen.queue is not None:
        found = [*_queue(seen, seen.queue), *_policy(seen, seen.queue), *_dead_letters(seen, seen.queue)]
        found += [each for topic in seen.topics.values() if topic for each in _topic(seen, seen.queue, topic)]
        yield from found
        if not seen.refused and not any(each.severity in ("warning", "error") for each in found):
            yield Finding(
                code="queue_ok", severity="ok", about=seen.name, reason=f"Queue {seen.queue.name} is as it should be."
            )


def _row(seen: SeenSource) -> Iterator[Finding]:
    if seen.is_paused:
        yield Finding(
            code="paused",
            severity="warning",
            about=seen.name,
            reason="The source is paused: nothing is received, and the queue's retention runs.",
            mend='PATCH /v1/sources/{id} {"paused": false}',
        )
    elif seen.state == "failing":
        yield Finding(
            code="failing",
            severity="error",
            about=seen.name,
            reason=f"The gateway cannot read it: {seen.last_error or 'it did not say why'}",
        )
    elif seen.state == "starting":
        yield Finding(
            code="not_read_yet",
            severity="info",
            about=seen.name,
            reason="No gateway has read it yet; is `bucketpost serve` running?",
        )
    if not seen.has_test_event:
        yield Finding(
            code="no_test_event",
            severity="info",
            about=seen.name,
            reason="S3's test event was never received here; S3 sends one when a rule is written.",
        )


def _refused(seen: SeenSource, refused: Refused) -> Finding:
    if not refused.is_denied:
        return Finding(code="unreachable", severity="error", about=seen.name, reason=refused.reason)
    statement = {"Effect": "Allow", "Action": list(READING), "Resource": seen.queue.arn if seen.queue else "*"}
    return Finding(
        code="not_allowed",
        # Without its attributes a queue is read all the same.
        severity="warning" if refused.action == "sqs:GetQueueAttributes" else "error",
        about=seen.name,
        reason=f"The gateway's identity may not {refused.action}. {refused.reason}",
        mend=f"`bucketpost aws policy`, or for this queue: {json.dumps(statement)}",
    )


def _queue(seen: SeenSource, queue: Queue) -> Iterator[Finding]:
    about = f"{seen.name}: queue {queue.name}"
    if queue.arn.endswith(".fifo"):
        yield Finding(
            code="fifo",
            severity="error",
            about=about,
            reason="S3 cannot send to a FIFO queue; events come only through EventBridge.",
            mend="bucketpost connect s3://BUCKET --queue ANOTHER",
        )
    if queue.number("MaximumMessageSize", default=LEAST_MESSAGE_BYTES) < LEAST_MESSAGE_BYTES:
        yield Finding(
            code="message_size",
            severity="error",
            about=about,
            reason=f"It takes {queue.attributes['MaximumMessageSize']} bytes a message; an event of S3 may have 65536.",
            mend=_set(queue, "MaximumMessageSize=262144"),
        )
    if queue.number("MessageRetentionPeriod", default=SHORT_RETENTION_SECONDS) < SHORT_RETENTION_SECONDS:
        yield Finding(
            code="retention",
            severity="warning",
            about=about,
            reason=f"It keeps messages for {_span(queue)}; a longer outage of the gateway loses events.",
            mend=_set(queue, f"MessageRetentionPeriod={10 * DAY_SECONDS}"),
        )
    yield from _key(seen, queue, about)


def _key(seen: SeenSource, queue: Queue, about: str) -> Iterator[Finding]:
    service = policies.SNS if seen.topics else policies.S3
    if queue.key in AWS_KEYS:
        yield Finding(
            code="aws_key",
            severity="error",
            about=about,
            reason=f"It is encrypted with {queue.key}, which neither S3 nor SNS may use; its policy cannot be changed.",
            mend=_set(queue, "KmsMasterKeyId=,SqsManagedSseEnabled=true"),
        )
    elif queue.key:
        ask = policies.Ask(service=service, action="kms:GenerateDataKey", resource="*", source_arn="", account="")
        statement = json.dumps(policies.key_statement(service))
        if seen.key_policy is None:
            yield Finding(
                code="key_policy_unknown",
                severity="info",
                about=about,
                reason=f"It is encrypted with {queue.key}, whose policy could not be read; the policy must let "
                f"{service} in.",
                mend=f"In the key's policy: {statement}",
            )
        elif not policies.judge(seen.key_policy, ask).is_allowed:
            yield Finding(
                code="key_policy",
                severity="error",
                about=about,
                reason=f"It is encrypted with {queue.key}, whose policy does not let {service} in without conditions.",
                mend=f"In the key's policy: {statement}",
            )


def _policy(seen: SeenSource, queue: Queue) -> Iterator[Finding]:
    about = f"{seen.name}: queue {queue.name}"
    from_s3, from_sns = policies.senders(queue.policy, policies.S3), policies.senders(queue.policy, policies.SNS)
    if not from_s3 and not from_sns:
        yield Finding(
            code="no_sender",
            severity="warning",
            about=about,
            reason="Its policy lets neither S3 nor SNS send to it.",
            mend=f"bucketpost connect s3://BUCKET --queue {queue.name}",
        )
    if "*" in from_s3:
        yield Finding(
            code="any_bucket",
            severity="warning",
            about=about,
            reason="Its policy lets any bucket of anybody send to it: no aws:SourceArn is asked for.",
            mend=_condition("BUCKET", account=seen.account.id if seen.account else "ACCOUNT"),
        )
    for place, statement in enumerate(policies.statements_of(queue.policy), 1):
        if statement.get("Effect") == "Deny":
            yield Finding(
                code="deny",
                severity="info",
                about=about,
                reason=f"Its policy denies something: statement {statement.get('Sid') or place}. It must not deny S3.",
            )


def _dead_letters(seen: SeenSource, queue: Queue) -> Iterator[Finding]:
    about = f"{seen.name}: queue {queue.name}"
    if not queue.dead_letter_arn:
        redrive = {"deadLetterTargetArn": f"{queue.arn}-dead", "maxReceiveCount": 10}
        yield Finding(
            code="no_dead_letter_queue",
            severity="warning",
            about=about,
            reason="It has no dead-letter queue: a message that can never be recorded comes again until it is too old.",
            mend=f"aws sqs create-queue --queue-name {queue.name}-dead --attributes MessageRetentionPeriod=1209600; "
            + _set(queue, json.dumps({"RedrivePolicy": json.dumps(redrive)})),
        )
        return
    if queue.max_receive_count < LEAST_RECEIVES:
        redrive = {"deadLetterTargetArn": queue.dead_letter_arn, "maxReceiveCount": 10}
        yield Finding(
            code="receive_count",
            severity="warning",
            about=about,
            reason=f"A message goes to the dead-letter queue after {queue.max_receive_count} receives; restarts alone "
            f"can use those up.",
            mend=_set(queue, json.dumps({"RedrivePolicy": json.dumps(redrive)})),
        )
    dead = seen.dead_letter_queue
    if dead is None:
        return
    if dead.number("MessageRetentionPeriod", default=0) <= queue.number("MessageRetentionPeriod", default=0):
        yield Finding(
            code="dead_letter_retention",
            severity="warning",
            about=f"{seen.name}: queue {dead.name}",
            reason=f"It keeps messages for {_span(dead)} and the queue for {_span(queue)}; a message's age counts from "
            f"when it was first sent, so it can vanish as soon as it arrives.",
            mend=_set(dead, f"MessageRetentionPeriod={14 * DAY_SECONDS}"),
        )
    if dead.waiting:
        yield Finding(
            code="dead_letters",
            severity="warning",
            about=f"{seen.name}: queue {dead.name}",
            reason=f"About {dead.waiting} messages are in it.",
            mend="POST /v1/sources/{id}/dead-letter-queues/redrive",
        )


def _topic(seen: SeenSource, queue: Queue, topic: Topic) -> Iterator[Finding]:
    about = f"{seen.name}: topic {topic.name}"
    ours = [each for each in topic.subscriptions if each.endpoint == queue.arn]
    if not ours:
        yield Finding(
            code="not_subscribed",
            severity="warning",
            about=about,
            reason="It may send to the queue, and the queue is not subscribed to it.",
            mend=f"aws sns subscribe --topic-arn {topic.arn} --protocol sqs --notification-endpoint {queue.arn} "
            f"--attributes RawMessageDelivery=true",
        )
    for subscription in ours:
        if subscription.attributes.get("FilterPolicy"):
            yield Finding(
                code="filter_policy",
                severity="info",
                about=about,
                reason=f"The subscription lets only a part through: {subscription.attributes['FilterPolicy']}",
            )
    if topic.key in AWS_KEYS:
        yield Finding(
            code="aws_key",
            severity="error",
            about=about,
            reason=f"It is encrypted with {topic.key}, which S3 may not use; its policy cannot be changed.",
            mend=f"aws sns set-topic-attributes --topic-arn {topic.arn} --attribute-name KmsMasterKeyId "
            f"--attribute-value ''",
        )


def _set(queue: Queue, attributes: str) -> str:
    quoted = "'" + attributes + "'" if attributes.startswith("{") else attributes
    return f"aws sqs set-queue-attributes --queue-url {queue.url} --attributes {quoted}"


def _condition(bucket: str, *, account: str) -> str:
    condition = {
        "ArnLike": {"aws:SourceArn": f"arn:aws:s3:*:*:{bucket}"},
        "StringEquals": {"aws:SourceAccount": account},
    }
    return f'In its statement: "Condition": {json.dumps(condition)}'


def _span(queue: Queue) -> str:
    seconds = queue.number("MessageRetentionPeriod", default=0)
    days, rest = divmod(seconds, DAY_SECONDS)
    return f"{days} days" if not rest else f"{seconds / 3600:.1f} hours"
