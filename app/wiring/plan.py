"""What connect would change, from what was seen and what is asked: pure. Who does it is in carry_out.py."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from app.domain.errors import SettingsError
from app.wiring import policy as policies
from app.wiring.rules import Configuration, Rule, fulfils, overlapping, rules_of, wanted_rule, with_rule
from app.wiring.snapshot import Queue, Snapshot, Topic
from app.wiring.wish import Wish

DAY_SECONDS: Final = 86_400
# S3's events are up to 64 KiB; a queue that takes less refuses some.
LEAST_MESSAGE_BYTES: Final = 65_536
# A message's age counts from when it was first sent, in the dead-letter queue too: that one must keep for longer.
QUEUE_ATTRIBUTES: Final[Mapping[str, str]] = {
    "MaximumMessageSize": "262144",
    "MessageRetentionPeriod": str(10 * DAY_SECONDS),
    "ReceiveMessageWaitTimeSeconds": "20",
    "SqsManagedSseEnabled": "true",
    "VisibilityTimeout": "60",
}
DEAD_LETTER_ATTRIBUTES: Final[Mapping[str, str]] = {
    "MaximumMessageSize": "262144",
    "MessageRetentionPeriod": str(14 * DAY_SECONDS),
    "SqsManagedSseEnabled": "true",
}
MAX_RECEIVE_COUNT: Final = 10
# AWS's own keys, whose policies nobody can change to let S3 in.
AWS_KEYS: Final = frozenset({"alias/aws/sqs", "alias/aws/sns"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeQueue:
    """A queue that is not there yet."""

    name: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetQueue:
    """Attributes of a queue that do not do. `url` is None until the queue is made."""

    name: str
    url: str | None
    attributes: Mapping[str, str]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeTopic:
    """A topic that is not there yet."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTopicPolicy:
    """A topic's policy that lets the bucket publish, or no more."""

    arn: str
    policy: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """The queue's subscription to the topic, in raw form."""

    topic_arn: str
    queue_arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRule:
    """Our rule among the bucket's; what was seen before and what it becomes."""

    bucket: str
    rule: Rule
    before: Configuration
    after: Configuration


Step = MakeQueue | SetQueue | MakeTopic | SetTopicPolicy | Subscribe | PutRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps, in the order in which each finds what it needs; none when all is as asked."""

    rule: Rule
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()

    @property
    def puts_rule(self) -> bool:
        """Tell whether the notification configuration is written, upon which S3 sends a test event."""
        return any(isinstance(each, PutRule) for each in self.steps)


def plan_connect(seen: Snapshot, wish: Wish) -> Plan:
    """Plan what is missing for a wish. Raises SettingsError where S3 would refuse it, or never send anything."""
    queue_arn = seen.queue.arn if seen.queue else seen.account.arn("sqs", wish.queue)
    topic_arn = _topic_arn(seen, wish)
    rule = wanted_rule(wish, target="topic" if topic_arn else "queue", arn=topic_arn or queue_arn)
    _refuse_regions(seen, rule)
    _refuse_keys(seen, wish)
    _refuse_overlap(seen, wish, rule)
    steps: list[Step] = [*_queues(seen, wish), *_queue_policy(seen, wish, queue_arn=queue_arn, topic_arn=topic_arn)]
    if topic_arn:
        steps += _topic_steps(seen, wish, topic_arn=topic_arn, queue_arn=queue_arn)
    before = seen.bucket.configuration
    if not any(fulfils(each, rule) and (each.id != rule.id or each == rule) for each in rules_of(before)):
        steps.append(PutRule(bucket=wish.bucket, rule=rule, before=before, after=with_rule(before, rule)))
    return Plan(rule=rule, steps=tuple(steps), notes=tuple(_notes(seen, wish, rule)))


def _topic_arn(seen: Snapshot, wish: Wish) -> str | None:
    if wish.topic is None:
        return None
    return seen.topic.arn if seen.topic else seen.account.arn("sns", wish.topic)


def _queues(seen: Snapshot, wish: Wish) -> list[Step]:
    if seen.queue is not None:
        too_small = seen.queue.number("MaximumMessageSize", default=LEAST_MESSAGE_BYTES) < LEAST_MESSAGE_BYTES
        if not too_small:
            return []
        return [
            SetQueue(
                name=wish.queue,
                url=seen.queue.url,
                attributes={"MaximumMessageSize": QUEUE_ATTRIBUTES["MaximumMessageSize"]},
                reason="an event of S3 may have 64 KiB, and this queue refuses it",
            )
        ]
    dead = seen.dead_letter_queue
    dead_arn = dead.arn if dead else seen.account.arn("sqs", wish.dead_letter_queue)
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": MAX_RECEIVE_COUNT})
    return [
        *_dead_letters(dead, wish),
        MakeQueue(name=wish.queue, attributes={**QUEUE_ATTRIBUTES, "RedrivePolicy": redrive}),
    ]


def _dead_letters(dead: Queue | None, wish: Wish) -> list[Step]:
    if dead is None:
        return [MakeQueue(name=wish.dead_letter_queue, attributes=DEAD_LETTER_ATTRIBUTES)]
    wanted = DEAD_LETTER_ATTRIBUTES["MessageRetentionPeriod"]
    if dead.number("MessageRetentionPeriod", default=0) > int(QUEUE_ATTRIBUTES["MessageRetentionPeriod"]):
        return []
    return [
        SetQueue(
            name=wish.dead_letter_queue,
            url=dead.url,
            attributes={"MessageRetentionPeriod": wanted},
            reason="it must keep messages for longer than the queue they come from",
        )
    ]


def _queue_policy(seen: Snapshot, wish: Wish, *, queue_arn: str, topic_arn: str | None) -> list[Step]:
    if topic_arn is None:
        statement = policies.sends_to_queue(wish.bucket, queue_arn=queue_arn, account=seen.owner)
        ask = policies.ask_of(statement, partition=seen.account.partition, bucket=wish.bucket, account=seen.owner)
        reason = f"S3 may send what happens in {wish.bucket}"
    else:
        statement = policies.topic_sends_to_queue(topic_arn, queue_arn=queue_arn)
        ask, reason = policies.ask_of(statement), f"the topic {topic_arn.rpartition(':')[2]} may send"
    now = seen.queue.policy if seen.queue else ""
    if policies.judge(now, ask).is_allowed:
        return []
    return [
        SetQueue(
            name=wish.queue,
            url=seen.queue.url if seen.queue else None,
            attributes={"Policy": policies.with_statement(now, statement)},
            reason=reason,
        )
    ]


def _topic_steps(seen: Snapshot, wish: Wish, *, topic_arn: str, queue_arn: str) -> list[Step]:
    topic = seen.topic
    steps: list[Step] = [] if topic else [MakeTopic(name=str(wish.topic))]
    statement = policies.publishes_to_topic(wish.bucket, topic_arn=topic_arn, account=seen.owner)
    ask = policies.ask_of(statement, partition=seen.account.partition, bucket=wish.bucket, account=seen.owner)
    now = topic.policy if topic else ""
    if not policies.judge(now, ask).is_allowed:
        steps.append(
            SetTopicPolicy(
                arn=topic_arn,
                policy=policies.with_statement(now, statement),
                reason=f"S3 may publish what happens in {wish.bucket}",
            )
        )
    if not subscriptions_of(topic, queue_arn):
        steps.append(Subscribe(topic_arn=topic_arn, queue_arn=queue_arn))
    return steps


def subscriptions_of(topic: Topic | None, queue_arn: str) -> list[str]:
    """Give the ARNs of a queue's subscriptions to a topic."""
    return [each.arn for each in topic.subscriptions if each.endpoint == queue_arn] if topic else []


def _refuse_regions(seen: Snapshot, rule: Rule) -> None:
    region = rule.arn.split(":")[3]
    if region != seen.bucket.region:
        raise SettingsError(
            f"{rule.arn} is in {region} and the bucket in {seen.bucket.region}: S3 sends to queues and topics of the "
            f"bucket's region only. Leave --region out, or name the bucket's."
        )


def _refuse_keys(seen: Snapshot, wish: Wish) -> None:
    if seen.queue is not None and seen.queue.key in AWS_KEYS:
        raise SettingsError(
            f"The queue {wish.queue} is encrypted with {seen.queue.key}, a key of AWS's own that neither S3 nor SNS "
            f"may use. Change that: aws sqs set-queue-attributes --queue-url {seen.queue.url} "
            f"--attributes KmsMasterKeyId=,SqsManagedSseEnabled=true"
        )
    if wish.topic is not None and seen.topic is not None and seen.topic.key in AWS_KEYS:
        raise SettingsError(
            f"The topic {wish.topic} is encrypted with {seen.topic.key}, a key of AWS's own that S3 may not use. "
            f"Change that: aws sns set-topic-attributes --topic-arn {seen.topic.arn} "
            f"--attribute-name KmsMasterKeyId --attribute-value ''"
        )


def _refuse_overlap(seen: Snapshot, wish: Wish, rule: Rule) -> None:
    foreign = [each for each in overlapping(rules_of(seen.bucket.configuration), rule) if not fulfils(each, rule)]
    if foreign:
        raise SettingsError(overlap_text(wish.bucket, foreign[0]))


def overlap_text(bucket: str, foreign: Rule) -> str:
    """Explain an overlap, and the ways out of it."""
    if foreign.is_ours:
        ways = "It is of Bucketpost's own making: disconnect it first, or choose a --prefix or --suffix beside it."
    elif foreign.target == "topic":
        name = foreign.arn.rpartition(":")[2]
        ways = (
            f"Ways out: subscribe the queue to that topic, which already has these events (aws sns subscribe "
            f"--topic-arn {foreign.arn} --protocol sqs …; the topic is {name}); or choose a --prefix, --suffix or "
            f"--events beside it."
        )
    else:
        ways = (
            "Ways out: let one queue have these events and fan out from there (Bucketpost's subscriptions may overlap "
            "as they like); connect with --topic once that rule is gone, and subscribe its target to the topic; or "
            "choose a --prefix, --suffix or --events beside it."
        )
    return (
        f"The bucket {bucket} has the {foreign}, and S3 refuses a second one for the same events where both prefix and "
        f"suffix overlap. Nothing was changed. {ways}"
    )


def _notes(seen: Snapshot, wish: Wish, rule: Rule) -> list[str]:
    notes = []
    twins = [each for each in rules_of(seen.bucket.configuration) if each.id != rule.id and fulfils(each, rule)]
    if twins:
        notes.append(f"The {twins[0]} does this already; it stays as it is, and disconnect will leave it alone.")
    if seen.bucket.versioning in ("never", "suspended"):
        notes.append(
            "The bucket does not keep versions: of two quick writes of one key S3 may tell of one only. "
            "Versioning ends that."
        )
    if seen.queue is not None and seen.queue.key:
        statement = json.dumps(policies.key_statement(policies.SNS if wish.topic else policies.S3))
        notes.append(f"The queue is encrypted with {seen.queue.key}. The key's policy needs: {statement}")
    return notes
