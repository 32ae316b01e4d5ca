"""What disconnect would change: exactly what connect made for this bucket, and nothing that others use. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.errors import SettingsError
from app.wiring import policy as policies
from app.wiring.plan import SetQueue, SetTopicPolicy, subscriptions_of
from app.wiring.rules import Configuration, Rule, rule_id, rules_of, without_rule
from app.wiring.snapshot import Queue, Snapshot, Topic
from app.wiring.wish import Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeRule:
    """Our rule, to be taken out from among the bucket's."""

    bucket: str
    rule: Rule
    before: Configuration
    after: Configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribe:
    """The queue's subscription to a topic that S3 publishes to no more."""

    arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteQueue:
    """A queue, with all that is in it."""

    name: str
    url: str
    messages: int


BackStep = TakeRule | SetTopicPolicy | Unsubscribe | SetQueue | DeleteQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class BackPlan:
    """The steps back. `still_fed_by` are who may send to the queue afterwards; `keeps_source` says why, if it does."""

    steps: tuple[BackStep, ...]
    notes: tuple[str, ...] = ()
    keeps_source: str | None = None


def plan_disconnect(seen: Snapshot, wish: Wish, *, deletes_queue: bool = False) -> BackPlan:
    """Plan what connect made for a wish away again. Raises SettingsError where that would harm others."""
    before = seen.bucket.configuration
    id_ = rule_id(queue=wish.queue, prefix=wish.prefix, suffix=wish.suffix)
    rule = next((each for each in rules_of(before) if each.id == id_), None)
    steps: list[BackStep] = []
    if rule is not None:
        steps.append(TakeRule(bucket=wish.bucket, rule=rule, before=before, after=without_rule(before, id_)))
    left = [each for each in rules_of(before) if each.id != id_]
    policy = seen.queue.policy if seen.queue else ""
    if seen.topic is not None:
        more, policy = _topic_steps(seen, wish, seen.topic, left=left, queue_policy=policy)
        steps += more
    if seen.queue is not None and seen.queue.arn not in {each.arn for each in left}:
        policy = policies.without_statement(policy, _s3_sid(wish, seen.queue.arn, seen.owner))
    fed_by = [*policies.senders(policy, policies.S3), *policies.senders(policy, policies.SNS)]
    if deletes_queue:
        steps += _deletions(seen, fed_by)
    elif seen.queue is not None and policy != seen.queue.policy:
        steps.append(
            SetQueue(
                name=seen.queue.name,
                url=seen.queue.url,
                attributes={"Policy": policy},
                reason=f"nothing of {wish.bucket} is sent here any more",
            )
        )
    return BackPlan(
        steps=tuple(steps),
        notes=tuple(_notes(seen, wish, rule, left)),
        keeps_source=None if deletes_queue else _why_keep(seen.queue, fed_by),
    )


def _topic_steps(
    seen: Snapshot, wish: Wish, topic: Topic, *, left: Sequence[Rule], queue_policy: str
) -> tuple[list[BackStep], str]:
    """Plan the topic's part; gives the steps, and what the queue's policy becomes by them."""
    steps: list[BackStep] = []
    policy = topic.policy
    if topic.arn not in {each.arn for each in left}:
        statement = policies.publishes_to_topic(wish.bucket, topic_arn=topic.arn, account=seen.owner)
        policy = policies.without_statement(policy, statement["Sid"])
    # A topic has no empty policy; what is left of one then lets nobody in whom its bucket does not send.
    if policy and policy != topic.policy:
        steps.append(
            SetTopicPolicy(arn=topic.arn, policy=policy, reason=f"nothing of {wish.bucket} is published here any more")
        )
    if policies.senders(policy, policies.S3) or topic.arn in {each.arn for each in left} or seen.queue is None:
        return steps, queue_policy
    steps += [Unsubscribe(arn=arn) for arn in subscriptions_of(topic, seen.queue.arn) if arn.startswith("arn:")]
    sid = policies.topic_sends_to_queue(topic.arn, queue_arn=seen.queue.arn)["Sid"]
    return steps, policies.without_statement(queue_policy, sid)


def _deletions(seen: Snapshot, fed_by: Sequence[str]) -> list[BackStep]:
    if seen.queue is None:
        return []
    if fed_by:
        raise SettingsError(
            f"The queue {seen.queue.name} is not deleted, and nothing was changed: {', '.join(fed_by)} may send to it "
            f"too. Disconnect that first, or leave --delete-queue out."
        )
    doomed = [seen.queue]
    dead = seen.dead_letter_queue
    if dead is not None and dead.arn == seen.queue.dead_letter_arn and not dead.waiting:
        doomed.append(dead)
    return [DeleteQueue(name=each.name, url=each.url, messages=each.waiting) for each in doomed]


def _why_keep(queue: Queue | None, fed_by: Sequence[str]) -> str | None:
    if queue is None:
        return None
    if fed_by:
        return f"{', '.join(fed_by)} may still send to its queue"
    if queue.waiting:
        return f"about {queue.waiting} messages wait in its queue; run this again when they are read"
    return None


def _notes(seen: Snapshot, wish: Wish, rule: Rule | None, left: Sequence[Rule]) -> list[str]:
    notes: list[str] = []
    if rule is None:
        arns = {seen.account.arn("sqs", wish.queue), seen.queue.arn if seen.queue else ""}
        others = [each for each in left if each.arn in arns or each.id.startswith(f"bucketpost-{wish.queue}-")]
        notes.append("The bucket has no rule of Bucketpost's for this queue, prefix and suffix.")
        notes += [f"It has the {each}; that one stays." for each in others]
    dead = seen.dead_letter_queue
    if dead is not None and dead.waiting:
        notes.append(f"The dead-letter queue {dead.name} stays: about {dead.waiting} messages are in it.")
    if seen.topic is not None:
        notes.append(f"The topic {seen.topic.name} stays: others may use it.")
    return notes


def _s3_sid(wish: Wish, queue_arn: str, account: str) -> str:
    return str(policies.sends_to_queue(wish.bucket, queue_arn=queue_arn, account=account)["Sid"])
