"""Looks at what the doctor examines: queues of sources, buckets and the queues their rules name. Changes nothing."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from app.aws.errors import AwsError
from app.domain.errors import SourceError
from app.wiring.bucket_rules import QUEUES, rules_of
from app.wiring.findings import BucketSeen, QueueSeen, Refusal
from app.wiring.snapshot import Aws, Queue, read_bucket, read_queue, read_queue_at

_T = TypeVar("_T")


async def see_queue(aws: Aws, url: str) -> QueueSeen:
    """Look at a source's queue and its dead-letter queue, and try what the gateway will do, without harm."""
    refusals: list[Refusal] = []
    queue = await _tried("sqs:GetQueueAttributes", lambda: read_queue_at(aws, url), refusals)
    if queue is None:
        return QueueSeen(url=url, queue=None, refusals=tuple(refusals))
    # A receive hides nothing for no time; what it brings would count as one more receive, so none is asked for at all
    # where messages wait.
    if queue.attributes.get("ApproximateNumberOfMessages") == "0":
        await _tried("sqs:ReceiveMessage", lambda: _receive(aws, url), refusals)
    dead = await _tried("sqs:GetQueueAttributes", lambda: _dead_letter_queue(aws, queue), [])
    return QueueSeen(url=url, queue=queue, dead_letter_queue=dead, refusals=tuple(refusals))


async def see_bucket(aws: Aws, name: str) -> tuple[BucketSeen, dict[str, Queue | None]]:
    """Look at a bucket, its rules, and the queues of the caller's account that they name."""
    refusals: list[Refusal] = []
    bucket = await _tried("s3:GetBucketNotification", lambda: read_bucket(aws, name), refusals)
    queues: dict[str, Queue | None] = {}
    for rule in rules_of(bucket.configuration) if bucket else ():
        if rule.kind == QUEUES:
            queue_name = rule.destination_arn.rsplit(":", 1)[-1]
            queues[rule.destination_arn] = await _tried("sqs:GetQueueUrl", partial(read_queue, aws, queue_name), [])
    return BucketSeen(name=name, bucket=bucket, refusals=tuple(refusals)), queues


async def _dead_letter_queue(aws: Aws, queue: Queue) -> Queue | None:
    redrive = queue.attributes.get("RedrivePolicy")
    arn = json.loads(redrive)["deadLetterTargetArn"] if redrive else ""
    return await read_queue(aws, arn.rsplit(":", 1)[-1]) if arn else None


async def _receive(aws: Aws, url: str) -> Any:
    return await aws.call(
        lambda: aws.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=1, WaitTimeSeconds=0, VisibilityTimeout=0)
    )


async def _tried(action: str, work: Callable[[], Awaitable[_T]], refusals: list[Refusal]) -> _T | None:
    try:
        return await work()
    except AwsError as error:
        refusals.append(Refusal(action=action, code=error.code, message=error.message))
    except SourceError as error:
        refusals.append(Refusal(action=action, code="no answer", message=str(error)))
    return None
