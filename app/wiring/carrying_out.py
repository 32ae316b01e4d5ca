"""Carries a plan out, and takes a wiring back: the calls that change something at AWS."""

from functools import partial

from app.domain.errors import SettingsError
from app.wiring import policies
from app.wiring.bucket_rules import Configuration, clashing, has, merged, without
from app.wiring.plan import Plan, rule_of, statement_of
from app.wiring.snapshot import Aws, Snapshot, read_configuration
from app.wiring.wanted import Wanted


async def carry_out(aws: Aws, snapshot: Snapshot, wanted: Wanted, plan: Plan) -> str:
    """Do what a plan says, in an order in which each step finds what it needs; gives the queue's URL.

    Can be done again after it broke off: a new plan then holds what is left.
    """
    if plan.make_dead_letter_queue is not None:
        attributes = dict(plan.make_dead_letter_queue)
        await aws.call(lambda: aws.sqs.create_queue(QueueName=wanted.dead_letter_queue, Attributes=attributes))
    if plan.make_queue is not None:
        made = dict(plan.make_queue)
        answer = await aws.call(lambda: aws.sqs.create_queue(QueueName=wanted.queue, Attributes=made))
        url = str(answer["QueueUrl"])
    else:
        url = snapshot.queue.url if snapshot.queue else ""
    if plan.set_queue:
        changed = dict(plan.set_queue)
        await aws.call(lambda: aws.sqs.set_queue_attributes(QueueUrl=url, Attributes=changed))
    if wanted.topic is not None:
        await _carry_out_topic(aws, snapshot, wanted, plan)
    if plan.configuration is not None:
        await _put_rule(aws, wanted, plan)
    return url


async def _carry_out_topic(aws: Aws, snapshot: Snapshot, wanted: Wanted, plan: Plan) -> None:
    topic_arn = snapshot.arn("sns", str(wanted.topic))
    queue_arn = snapshot.queue.arn if snapshot.queue else snapshot.arn("sqs", wanted.queue)
    if plan.make_topic:
        await aws.call(lambda: aws.sns.create_topic(Name=wanted.topic))
    if plan.set_topic_policy:
        policy = plan.set_topic_policy
        await aws.call(
            lambda: aws.sns.set_topic_attributes(TopicArn=topic_arn, AttributeName="Policy", AttributeValue=policy)
        )
    if plan.subscribe:
        await aws.call(
            lambda: aws.sns.subscribe(
                TopicArn=topic_arn, Protocol="sqs", Endpoint=queue_arn, Attributes={"RawMessageDelivery": "true"}
            )
        )


async def _put_rule(aws: Aws, wanted: Wanted, plan: Plan) -> None:
    """Put our rule in beside everybody's. There is no compare-and-swap: read right before, and look right after."""
    newest = await read_configuration(aws, wanted.bucket)
    if clashing(plan.rule, newest):
        raise SettingsError("Somebody has just put in a rule that overlaps with this one. Nothing was put; look again.")
    await _put(aws, wanted.bucket, merged(newest, plan.rule))
    if not has(await read_configuration(aws, wanted.bucket), plan.rule):
        raise SettingsError(
            "The rule was put and is not there: another tool writes this bucket's configuration at the same time. "
            "Stop it, or put the rule into its template; then connect again."
        )


async def take_back(aws: Aws, snapshot: Snapshot, wanted: Wanted, *, deletes_queue: bool) -> list[str]:
    """Take out what connect put in, and nothing of others; gives what was done. Twice is as good as once."""
    done: list[str] = []
    rule = rule_of(snapshot, wanted)
    newest = await read_configuration(aws, wanted.bucket)
    left = without(newest, rule.id)
    if left != newest:
        await _put(aws, wanted.bucket, left)
        done.append(f"- bucket {wanted.bucket}: {rule.text()}")
    if wanted.topic is not None and snapshot.topic is not None:
        done += await _unsubscribe(aws, snapshot, wanted)
    if snapshot.queue is None:
        return done
    url = snapshot.queue.url
    if deletes_queue:
        await aws.call(lambda: aws.sqs.delete_queue(QueueUrl=url))
        return [*done, f"- queue {wanted.queue}, with what was in it; its dead-letter queue stays"]
    sid = str(statement_of(snapshot, wanted, snapshot.queue.arn)["Sid"])
    if not _is_still_used(left, snapshot, wanted):
        policy = policies.without_statement(snapshot.queue.attributes.get("Policy"), sid)
        if policy is not None:
            await aws.call(lambda: aws.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy}))
            done.append(f"- queue {wanted.queue}: the statement {sid} of its policy")
    return done


def _is_still_used(configuration: Configuration, snapshot: Snapshot, wanted: Wanted) -> bool:
    """Tell whether another rule of the bucket sends to the same place, and needs the statement."""
    destination = rule_of(snapshot, wanted).destination_arn
    return any(
        destination in each.values()
        for name, rules in configuration.items()
        if name != "EventBridgeConfiguration"
        for each in rules
    )


async def _unsubscribe(aws: Aws, snapshot: Snapshot, wanted: Wanted) -> list[str]:
    topic_arn = snapshot.arn("sns", str(wanted.topic))
    if snapshot.queue is None:
        return []
    page = await aws.call(lambda: aws.sns.list_subscriptions_by_topic(TopicArn=topic_arn))
    ours = [each["SubscriptionArn"] for each in page.get("Subscriptions", ()) if each["Endpoint"] == snapshot.queue.arn]
    for arn in ours:
        await aws.call(partial(aws.sns.unsubscribe, SubscriptionArn=arn))
    return [f"- subscription of {wanted.queue} to {wanted.topic}"] if ours else []


async def _put(aws: Aws, bucket: str, configuration: Configuration) -> None:
    await aws.call(
        lambda: aws.s3.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration=dict(configuration)
        )
    )
