"""Carries plans out: the only calls here that change anything. Each can be made twice."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, assert_never

from app.domain.errors import SettingsError, SourceError
from app.domain.ports import Sleep
from app.wiring.calls import CallRefused, Calls
from app.wiring.look import look, owner_of, read_configuration, see_queue
from app.wiring.plan import (
    MakeQueue,
    MakeTopic,
    Plan,
    PutRule,
    SetQueue,
    SetTopicPolicy,
    Step,
    Subscribe,
    overlap_text,
    plan_connect,
)
from app.wiring.plan_back import BackStep, DeleteQueue, TakeRule, Unsubscribe
from app.wiring.rules import Configuration, is_same, overlapping, rules_of, with_rule, without_rule
from app.wiring.wish import Wish

# A new policy takes up to a minute to be known everywhere (SQS's documentation); S3 checks it at once.
PUT_PAUSES_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0)
# What was put is not always what is read at once.
VERIFY_PAUSES_SECONDS: Final = (0.0, 0.5, 1.0, 2.0, 4.0)
_UNVALIDATED: Final = "Unable to validate the following destination"

Told = Callable[[Step | BackStep], None]


async def carry_out(calls: Calls, wish: Wish, plan: Plan, *, done: Told, sleep: Sleep = asyncio.sleep) -> Plan:
    """Do what a plan says; gives the plan as it was in the end.

    After each thing made the world is looked at and planned anew: what was planned before it was there rests on how
    its ARN was thought to be. Broken off, it can be run again.
    """
    while made := next((each for each in plan.steps if isinstance(each, MakeQueue | MakeTopic)), None):
        await _make(calls, made)
        done(made)
        plan = plan_connect(await look(calls, wish), wish)
    for step in plan.steps:
        await _do(calls, step, sleep=sleep)
        done(step)
    return plan


async def carry_back(calls: Calls, steps: Sequence[BackStep], *, done: Told, sleep: Sleep = asyncio.sleep) -> None:
    """Do the steps of a plan back."""
    for step in steps:
        await _undo(calls, step, sleep=sleep)
        done(step)


async def _make(calls: Calls, step: MakeQueue | MakeTopic) -> None:
    if isinstance(step, MakeTopic):
        await calls("sns:CreateTopic", lambda: calls.sns.create_topic(Name=step.name))
        return
    attributes: Any = dict(step.attributes)
    await calls("sqs:CreateQueue", lambda: calls.sqs.create_queue(QueueName=step.name, Attributes=attributes))


async def _do(calls: Calls, step: Step, *, sleep: Sleep) -> None:
    match step:
        case MakeQueue() | MakeTopic():
            await _make(calls, step)
        case SetQueue():
            await _set_queue(calls, step)
        case SetTopicPolicy():
            await _set_topic_policy(calls, step)
        case Subscribe():
            await calls(
                "sns:Subscribe",
                lambda: calls.sns.subscribe(
                    TopicArn=step.topic_arn,
                    Protocol="sqs",
                    Endpoint=step.queue_arn,
                    Attributes={"RawMessageDelivery": "true"},
                    ReturnSubscriptionArn=True,
                ),
            )
        case PutRule():
            await _put_rule(calls, step, sleep=sleep)
        case _:
            assert_never(step)


async def _undo(calls: Calls, step: BackStep, *, sleep: Sleep) -> None:
    match step:
        case TakeRule():
            await _replace(calls, step.bucket, partial(without_rule, id_=step.rule.id), sleep=sleep, validates=False)
        case SetTopicPolicy():
            await _set_topic_policy(calls, step)
        case Unsubscribe():
            await calls("sns:Unsubscribe", lambda: calls.sns.unsubscribe(SubscriptionArn=step.arn))
        case SetQueue():
            await _set_queue(calls, step)
        case DeleteQueue():
            await calls("sqs:DeleteQueue", lambda: calls.sqs.delete_queue(QueueUrl=step.url))
        case _:
            assert_never(step)


async def _set_queue(calls: Calls, step: SetQueue) -> None:
    url, attributes = str(step.url), dict(step.attributes)
    if "Policy" not in attributes and (policy := (await see_queue(calls, url)).policy):
        # What is not named stays as it is at AWS; moto forgets the policy.
        attributes["Policy"] = policy
    given: Any = attributes
    await calls("sqs:SetQueueAttributes", lambda: calls.sqs.set_queue_attributes(QueueUrl=url, Attributes=given))


async def _set_topic_policy(calls: Calls, step: SetTopicPolicy) -> None:
    await calls(
        "sns:SetTopicAttributes",
        lambda: calls.sns.set_topic_attributes(TopicArn=step.arn, AttributeName="Policy", AttributeValue=step.policy),
    )


async def _put_rule(calls: Calls, step: PutRule, *, sleep: Sleep) -> None:
    def change(newest: Configuration) -> Configuration:
        # Between the plan and now somebody may have put in another one.
        if foreign := overlapping(rules_of(newest), step.rule):
            raise SettingsError(overlap_text(step.bucket, foreign[0]))
        return with_rule(newest, step.rule)

    await _replace(calls, step.bucket, change, sleep=sleep)


async def _replace(
    calls: Calls,
    bucket: str,
    change: Callable[[Configuration], Configuration],
    *,
    sleep: Sleep,
    validates: bool = True,
) -> None:
    """Read, change and put a configuration, and see that it holds. There is no compare-and-swap, so all at once."""
    pauses = iter(PUT_PAUSES_SECONDS)
    while True:
        wanted = change(await read_configuration(calls, bucket))
        try:
            await _put(calls, bucket, wanted, validates=validates)
        except CallRefused as error:
            pause = next(pauses, None)
            if pause is None or _UNVALIDATED not in error.message:
                raise
            await sleep(pause)
        else:
            break
    for pause in VERIFY_PAUSES_SECONDS:
        await sleep(pause)
        if is_same(await read_configuration(calls, bucket), wanted):
            return
    raise SourceError(
        f"The notification configuration of {bucket} was written, and then read as something else: another tool writes "
        f"it at the same time. Look at it (aws s3api get-bucket-notification-configuration --bucket {bucket}), and run "
        f"this again."
    )


async def _put(calls: Calls, bucket: str, wanted: Configuration, *, validates: bool) -> None:
    given: Any = dict(wanted)
    # S3 checks the targets of all rules: one of somebody else that is gone must not keep ours from being taken out.
    extra: Any = owner_of(calls) if validates else {**owner_of(calls), "SkipDestinationValidation": True}
    await calls(
        "s3:PutBucketNotification",
        lambda: calls.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=given, **extra),
    )
