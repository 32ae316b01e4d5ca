"""Looks at a bucket, a queue and a topic. Changes nothing; what is not there is None."""

from typing import TYPE_CHECKING, Any, Final, cast

from app.domain.errors import SettingsError
from app.wiring.calls import CallRefused, Calls
from app.wiring.rules import Configuration, rule_id, rules_of
from app.wiring.snapshot import Bucket, Queue, Snapshot, Subscription, Topic, Versioning
from app.wiring.wish import Wish

if TYPE_CHECKING:
    from types_aiobotocore_sns.type_defs import SubscriptionTypeDef

_NO_QUEUE: Final = frozenset(
    {"AWS.SimpleQueueService.NonExistentQueue", "NonExistentQueue", "QueueDoesNotExist", "QueueDoesNotExistException"}
)
_NO_TOPIC: Final = frozenset({"NotFound", "NotFoundException"})
_NO_BUCKET: Final = "NoSuchBucket"
_VERSIONING: Final[dict[str | None, Versioning]] = {"Enabled": "enabled", "Suspended": "suspended", None: "never"}


async def look(calls: Calls, wish: Wish) -> Snapshot:
    """Look at all that a wish is about; a topic also where our rule sends to one that the wish does not name."""
    bucket = await see_bucket(calls, wish.bucket)
    return Snapshot(
        account=calls.account,
        bucket=bucket,
        queue=await find_queue(calls, wish.queue),
        dead_letter_queue=await find_queue(calls, wish.dead_letter_queue),
        topic=await find_topic(calls, _topic_arn(calls, wish, bucket)),
    )


async def see_bucket(calls: Calls, name: str) -> Bucket:
    """Look at a bucket. Raises SettingsError when there is none, CallRefused when its rules may not be read."""
    return Bucket(
        name=name,
        region=calls.account.region,
        versioning=await _versioning(calls, name),
        configuration=await read_configuration(calls, name),
    )


async def read_configuration(calls: Calls, bucket: str) -> Configuration:
    """Read a bucket's notification configuration as it is now."""
    try:
        found = await calls(
            "s3:GetBucketNotification",
            lambda: calls.s3.get_bucket_notification_configuration(Bucket=bucket, **owner_of(calls)),
        )
    except CallRefused as error:
        if error.code == _NO_BUCKET:
            raise SettingsError(f"There is no bucket {bucket}.") from error
        raise
    return {name: value for name, value in found.items() if name != "ResponseMetadata"}


def owner_of(calls: Calls) -> Any:
    """Give the argument with which AWS refuses a bucket of another account, whose events the policies do not let in."""
    return {"ExpectedBucketOwner": calls.account.id} if calls.account.is_known else {}


async def find_queue(calls: Calls, name: str) -> Queue | None:
    """Look at a queue of the caller's account by its name; None when there is none."""
    try:
        found = await calls("sqs:GetQueueUrl", lambda: calls.sqs.get_queue_url(QueueName=name))
        return await see_queue(calls, found["QueueUrl"])
    except CallRefused as error:
        if error.code in _NO_QUEUE:
            return None
        raise


async def see_queue(calls: Calls, url: str) -> Queue:
    """Look at a queue by its URL."""
    found = await calls(
        "sqs:GetQueueAttributes",
        lambda: calls.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]),
    )
    return Queue(url=url, attributes=cast("dict[str, str]", found.get("Attributes", {})))


async def find_topic(calls: Calls, arn: str | None) -> Topic | None:
    """Look at a topic and the queues subscribed to it; None when there is none."""
    if arn is None:
        return None
    try:
        found = await calls("sns:GetTopicAttributes", lambda: calls.sns.get_topic_attributes(TopicArn=arn))
    except CallRefused as error:
        if error.code in _NO_TOPIC:
            return None
        raise
    given = await calls("sns:ListSubscriptionsByTopic", lambda: _subscriptions(calls, arn))
    queues = [each for each in given if each.get("Protocol") == "sqs"]
    return Topic(
        arn=arn,
        attributes=found["Attributes"],
        subscriptions=tuple([await _subscription(calls, each) for each in queues]),
    )


def _topic_arn(calls: Calls, wish: Wish, bucket: Bucket) -> str | None:
    if wish.topic is not None:
        return calls.account.arn("sns", wish.topic)
    ours = rule_id(queue=wish.queue, prefix=wish.prefix, suffix=wish.suffix)
    return next(
        (each.arn for each in rules_of(bucket.configuration) if each.id == ours and each.target == "topic"), None
    )


async def _versioning(calls: Calls, bucket: str) -> Versioning | None:
    try:
        found = await calls(
            "s3:GetBucketVersioning", lambda: calls.s3.get_bucket_versioning(Bucket=bucket, **owner_of(calls))
        )
    except CallRefused as error:
        if error.is_denied:
            # Good to know, and nothing depends on it.
            return None
        if error.code == _NO_BUCKET:
            raise SettingsError(f"There is no bucket {bucket}.") from error
        raise
    return _VERSIONING.get(found.get("Status") or None)


async def _subscriptions(calls: Calls, arn: str) -> "list[SubscriptionTypeDef]":
    pages = calls.sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=arn)
    return [each async for page in pages for each in page["Subscriptions"]]


async def _subscription(calls: Calls, given: "SubscriptionTypeDef") -> Subscription:
    arn = given.get("SubscriptionArn", "")
    attributes: dict[str, str] = {}
    # One that waits for its confirmation has no ARN yet.
    if arn.startswith("arn:"):
        found = await calls(
            "sns:GetSubscriptionAttributes", lambda: calls.sns.get_subscription_attributes(SubscriptionArn=arn)
        )
        attributes = found["Attributes"]
    return Subscription(arn=arn, endpoint=given.get("Endpoint", ""), attributes=attributes)
