"""What has to change so that a bucket's events reach a queue: a list of changes, empty when all stands. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from app.domain.errors import SettingsError
from app.wiring import policies
from app.wiring.bucket_rules import QUEUES, TOPICS, Configuration, Rule, clashing, difference, has, merged, our_rule
from app.wiring.snapshot import Queue, Snapshot
from app.wiring.wanted import Wanted

DAY_SECONDS: Final = 86_400
# S3's own limit of a notification: a queue that takes less loses events.
LEAST_MESSAGE_BYTES: Final = 65_536
_MESSAGE_BYTES: Final = 262_144
_RECEIVES: Final = 10

QUEUE_ATTRIBUTES: Final[Mapping[str, str]] = {
    "MessageRetentionPeriod": str(7 * DAY_SECONDS),
    "ReceiveMessageWaitTimeSeconds": "20",
    "VisibilityTimeout": "60",
    "MaximumMessageSize": str(_MESSAGE_BYTES),
    "SqsManagedSseEnabled": "true",
}
# Longer than the queue's: a message's age counts from when it was first sent.
DEAD_LETTER_ATTRIBUTES: Final[Mapping[str, str]] = {
    "MessageRetentionPeriod": str(14 * DAY_SECONDS),
    "MaximumMessageSize": str(_MESSAGE_BYTES),
    "SqsManagedSseEnabled": "true",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done, in this order; an empty one does nothing.

    `make_*` are attributes of what is not there yet, `set_*` those to be changed of what is.
    """

    rule: Rule
    make_dead_letter_queue: Mapping[str, str] | None = None
    make_queue: Mapping[str, str] | None = None
    set_queue: Mapping[str, str] = field(default_factory=dict)
    make_topic: bool = False
    set_topic_policy: str | None = None
    subscribe: bool = False
    configuration: Configuration | None = None
    lines: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Tell whether everything stands already."""
        return not self.lines


def plan(snapshot: Snapshot, wanted: Wanted) -> Plan:
    """Find out what has to change. Raises SettingsError for what cannot work, with what to do about it."""
    queue_arn = snapshot.queue.arn if snapshot.queue else snapshot.arn("sqs", wanted.queue)
    rule = rule_of(snapshot, wanted)
    _refuse_clash(rule, snapshot)
    _refuse_what_s3_cannot_use(snapshot, wanted)
    dead_arn = snapshot.arn("sqs", wanted.dead_letter_queue)
    lines: list[str] = []
    is_redriven = snapshot.queue is not None and "RedrivePolicy" in snapshot.queue.attributes
    make_dead = None if snapshot.dead_letter_queue or is_redriven else DEAD_LETTER_ATTRIBUTES
    if make_dead is not None:
        lines.append(
            f"+ queue {wanted.dead_letter_queue} for what is received {_RECEIVES} times: kept 14 days, encrypted"
        )
    needed = _queue_needs(snapshot, wanted, queue_arn)
    redrive = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": str(_RECEIVES)})}
    make_queue: Mapping[str, str] | None = None
    changes: dict[str, str] = {}
    if snapshot.queue is None:
        policy = policies.with_statement(None, needed)
        make_queue = {**QUEUE_ATTRIBUTES, **redrive, **({"Policy": policy} if policy else {})}
        lines.append(f"+ queue {wanted.queue}: kept 7 days, encrypted, long polls; {_policy_line(needed)}")
    else:
        changes = _queue_changes(snapshot.queue, needed, {} if is_redriven else redrive)
        lines += [f"~ queue {wanted.queue}: {_change_line(name, needed)}" for name in changes]
    topic_changes = _topic_changes(snapshot, wanted, queue_arn)
    lines += topic_changes.lines
    configuration = None
    if not has(snapshot.bucket.configuration, rule):
        configuration = merged(snapshot.bucket.configuration, rule)
        lines += [
            f"  bucket {wanted.bucket}: {each}" for each in difference(snapshot.bucket.configuration, configuration)
        ]
    return Plan(
        rule=rule,
        make_dead_letter_queue=make_dead,
        make_queue=make_queue,
        set_queue=changes,
        make_topic=topic_changes.is_made,
        set_topic_policy=topic_changes.policy,
        subscribe=topic_changes.is_subscribed,
        configuration=configuration,
        lines=tuple(lines),
    )


def rule_of(snapshot: Snapshot, wanted: Wanted) -> Rule:
    """Give the rule that this wiring puts into the bucket's configuration."""
    if wanted.topic is None:
        arn = snapshot.queue.arn if snapshot.queue else snapshot.arn("sqs", wanted.queue)
        return our_rule(arn, kind=QUEUES, events=wanted.events, prefix=wanted.prefix, suffix=wanted.suffix)
    arn = snapshot.arn("sns", wanted.topic)
    return our_rule(arn, kind=TOPICS, events=wanted.events, prefix=wanted.prefix, suffix=wanted.suffix)


def statement_of(snapshot: Snapshot, wanted: Wanted, queue_arn: str) -> policies.Statement:
    """Give the statement that the queue's policy needs."""
    return _queue_needs(snapshot, wanted, queue_arn)


@dataclass(frozen=True, slots=True, kw_only=True)
class _TopicChanges:
    is_made: bool = False
    policy: str | None = None
    is_subscribed: bool = False
    lines: tuple[str, ...] = ()


def _topic_changes(snapshot: Snapshot, wanted: Wanted, queue_arn: str) -> _TopicChanges:
    if wanted.topic is None:
        return _TopicChanges()
    topic_arn = snapshot.arn("sns", wanted.topic)
    needed = policies.s3_may_publish(
        topic_arn, bucket=wanted.bucket, account=snapshot.account, partition=snapshot.partition
    )
    topic = snapshot.topic
    lines = [] if topic else [f"+ topic {wanted.topic}"]
    policy = None
    if topic is None or not policies.allows(topic.policy, needed):
        policy = policies.with_statement(topic.policy if topic else None, needed)
        lines.append(f"~ topic {wanted.topic}: {_policy_line(needed)}")
    is_subscribed = topic is None or queue_arn not in topic.queue_arns
    if is_subscribed:
        lines.append(f"+ subscription of {wanted.queue} to {wanted.topic}, raw")
    return _TopicChanges(is_made=topic is None, policy=policy, is_subscribed=is_subscribed, lines=tuple(lines))


def _queue_needs(snapshot: Snapshot, wanted: Wanted, queue_arn: str) -> policies.Statement:
    if wanted.topic is not None:
        return policies.topic_may_send(queue_arn, topic_arn=snapshot.arn("sns", wanted.topic))
    return policies.s3_may_send(queue_arn, bucket=wanted.bucket, account=snapshot.account, partition=snapshot.partition)


def _queue_changes(queue: Queue, needed: policies.Statement, redrive: Mapping[str, str]) -> dict[str, str]:
    changes = dict(redrive)
    if int(queue.attributes.get("MaximumMessageSize", _MESSAGE_BYTES)) < LEAST_MESSAGE_BYTES:
        changes["MaximumMessageSize"] = str(_MESSAGE_BYTES)
    policy = queue.attributes.get("Policy")
    if not policies.allows(policy, needed):
        try:
            changed = policies.with_statement(policy, needed)
        except ValueError:
            raise SettingsError(
                f"The policy of the queue {queue.name} cannot be read: mend it, then connect."
            ) from None
        if changed is not None:
            changes["Policy"] = changed
    return changes


def _refuse_clash(rule: Rule, snapshot: Snapshot) -> None:
    clashes = clashing(rule, snapshot.bucket.configuration)
    if clashes:
        listed = "\n".join(f"    {each.text()}" for each in clashes)
        raise SettingsError(
            f"S3 takes one rule for an event of a key, and this one would overlap with:\n{listed}\n"
            "Choose a --prefix or --suffix that does not overlap, or --events that the other has not; or let the other "
            "rule's destination fan out: with --topic on both sides, or by subscribing our queue to its topic."
        )


def _refuse_what_s3_cannot_use(snapshot: Snapshot, wanted: Wanted) -> None:
    queue = snapshot.queue
    if queue is None:
        return
    region = queue.arn.split(":")[3]
    if region != snapshot.bucket.region:
        raise SettingsError(
            f"The bucket is in {snapshot.bucket.region} and the queue in {region}: S3 sends within a region only. "
            f"Use --region {snapshot.bucket.region}."
        )
    if queue.attributes.get("KmsMasterKeyId", "").endswith("alias/aws/sqs"):
        raise SettingsError(
            f"The queue {wanted.queue} is encrypted with the key AWS manages (alias/aws/sqs), which S3 may not use and "
            "nobody can change. Switch it to SSE-SQS, or to a key of your own whose policy lets S3 use it."
        )


def _policy_line(statement: policies.Statement) -> str:
    service = statement["Principal"]["Service"].split(".")[0].upper()
    return f"policy: {service} may {statement['Action']} from {_source_of(statement)}"


def _source_of(statement: policies.Statement) -> str:
    arns = [
        value for each in statement["Condition"].values() for name, value in each.items() if name == "aws:SourceArn"
    ]
    return str(arns[0])


def _change_line(name: str, needed: policies.Statement) -> str:
    return {
        "Policy": _policy_line(needed),
        "RedrivePolicy": f"dead letters after {_RECEIVES} receives",
        "MaximumMessageSize": f"takes {_MESSAGE_BYTES} bytes (S3 sends up to {LEAST_MESSAGE_BYTES})",
    }[name]
