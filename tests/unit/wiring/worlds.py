"""A bucket, a queue and a topic as values, and what a plan would make of them."""

import json
from dataclasses import replace
from typing import Any

from app.wiring.plan import MakeQueue, MakeTopic, Plan, PutRule, SetQueue, SetTopicPolicy, Subscribe, plan_connect
from app.wiring.plan_back import BackPlan, DeleteQueue, TakeRule, Unsubscribe
from app.wiring.snapshot import Account, Bucket, Queue, Snapshot, Subscription, Topic
from app.wiring.wish import Wish

ACCOUNT = Account(id="123456789012", region="eu-west-1")
BUCKET = "photos"
WISH = Wish(bucket=BUCKET, queue="uploads")
QUEUE_ARN = ACCOUNT.arn("sqs", "uploads")
DEAD_ARN = ACCOUNT.arn("sqs", "uploads-dead")
TOPIC_ARN = ACCOUNT.arn("sns", "told")
FOREIGN_ARN = ACCOUNT.arn("sqs", "theirs")


def bucket(configuration: dict[str, Any] | None = None, **fields: Any) -> Bucket:
    """Make a versioned bucket with these rules."""
    return Bucket(
        **{
            "name": BUCKET,
            "region": ACCOUNT.region,
            "versioning": "enabled",
            "configuration": configuration or {},
            **fields,
        }
    )


def queue(name: str = "uploads", **attributes: str) -> Queue:
    """Make a queue with the attributes AWS gives one, and these."""
    given = {
        "QueueArn": ACCOUNT.arn("sqs", name),
        "MaximumMessageSize": "1048576",
        "MessageRetentionPeriod": "345600",
        **attributes,
    }
    return Queue(url=f"https://sqs.eu-west-1.amazonaws.com/123456789012/{name}", attributes=given)


def snapshot(**fields: Any) -> Snapshot:
    """Make a snapshot of a bucket alone, or of what else there is."""
    return Snapshot(
        **{"account": ACCOUNT, "bucket": bucket(), "queue": None, "dead_letter_queue": None, "topic": None, **fields}
    )


def rule(id_: str = "theirs", *, kind: str = "Queue", arn: str = FOREIGN_ARN, **fields: Any) -> dict[str, Any]:
    """Make a rule as AWS gives it."""
    events = fields.pop("events", ["s3:ObjectCreated:*"])
    filters = [{"Name": name.title(), "Value": value} for name, value in fields.items()]
    return {
        "Id": id_,
        f"{kind}Arn": arn,
        "Events": events,
        **({"Filter": {"Key": {"FilterRules": filters}}} if filters else {}),
    }


def connected(seen: Snapshot, wish: Wish = WISH) -> Snapshot:
    """Give the world after connect."""
    return after(seen, plan_connect(seen, wish))


def after(seen: Snapshot, plan: Plan | BackPlan) -> Snapshot:
    """Give the world after the steps of a plan, as AWS would make it."""
    for step in plan.steps:
        match step:
            case MakeQueue():
                made = Queue(
                    url=queue(step.name).url,
                    attributes={**step.attributes, "QueueArn": ACCOUNT.arn("sqs", step.name)},
                )
                is_dead = step.name.endswith("-dead")
                seen = replace(seen, dead_letter_queue=made) if is_dead else replace(seen, queue=made)
            case SetQueue():
                seen = _set_queue(seen, step)
            case MakeTopic():
                seen = replace(seen, topic=Topic(arn=ACCOUNT.arn("sns", step.name), attributes={"Policy": _OWNERS}))
            case SetTopicPolicy():
                assert seen.topic is not None
                seen = replace(seen, topic=replace(seen.topic, attributes={"Policy": step.policy}))
            case Subscribe():
                assert seen.topic is not None
                made_now = Subscription(arn=f"{step.topic_arn}:1", endpoint=step.queue_arn, attributes={})
                seen = replace(seen, topic=replace(seen.topic, subscriptions=(made_now,)))
            case Unsubscribe():
                assert seen.topic is not None
                left = tuple(each for each in seen.topic.subscriptions if each.arn != step.arn)
                seen = replace(seen, topic=replace(seen.topic, subscriptions=left))
            case PutRule() | TakeRule():
                seen = replace(seen, bucket=replace(seen.bucket, configuration=step.after))
            case DeleteQueue():
                is_dead = step.name.endswith("-dead")
                seen = replace(seen, dead_letter_queue=None) if is_dead else replace(seen, queue=None)
    return seen


def _set_queue(seen: Snapshot, step: SetQueue) -> Snapshot:
    is_dead = step.name.endswith("-dead")
    old = seen.dead_letter_queue if is_dead else seen.queue
    assert old is not None
    new = replace(old, attributes={**old.attributes, **step.attributes})
    return replace(seen, dead_letter_queue=new) if is_dead else replace(seen, queue=new)


_OWNERS = json.dumps(
    {
        "Version": "2008-10-17",
        "Statement": [
            {
                "Sid": "__default_statement_ID",
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": ["SNS:Publish", "SNS:Subscribe"],
                "Resource": TOPIC_ARN,
                "Condition": {"StringEquals": {"AWS:SourceOwner": "123456789012"}},
            }
        ],
    }
)
