"""The doctor's looking: queues, topics, keys and buckets, with calls that harm nothing. What it means: findings.py."""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from app.aws.access import Access, is_aws
from app.aws.clients import client
from app.aws.errors import AwsError
from app.domain.errors import GatewayError, SourceError
from app.wiring import policy as policies
from app.wiring.calls import CallRefused, Calls, called, opened, opened_for
from app.wiring.examined import Examination, Refused, SeenBucket, SeenSource
from app.wiring.findings import LEAST_RECEIVES
from app.wiring.look import find_queue, find_topic, see_bucket, see_queue
from app.wiring.plan import AWS_KEYS
from app.wiring.rules import rules_of
from app.wiring.snapshot import Bucket, Queue, Topic

# A receipt that no queue gave. Who may not delete is told so before the receipt is looked at.
_NO_RECEIPT: Final = "bucketpost-doctor"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SqsPlace:
    """A source of kind `sqs` as it is set up, with how it fares."""

    name: str
    queue_url: str
    access: Access
    state: str = "ok"
    last_error: str | None = None
    is_paused: bool = False
    has_test_event: bool = True


async def examine(places: Sequence[SqsPlace], *, bucket: str | None, access: Access) -> Examination:
    """Look at every source and at the buckets their policies name, or at one bucket and the sources it sends to."""
    sources = [await _source(place) for place in places]
    names = [bucket] if bucket is not None else sorted({name for source in sources for name in _buckets(source)})
    # Each bucket is looked at as who runs this, at the place of the source it was found by.
    at = {name: _access(name, places, sources, access) for name in names}
    buckets = [await _bucket(name, at[name]) for name in names]
    if bucket is not None:
        arns = {each.arn for seen in buckets if seen.bucket for each in rules_of(seen.bucket.configuration)}
        sources = [each for each in sources if _concerns(each, bucket, arns)]
    return Examination(sources=tuple(sources), buckets=tuple(buckets), asked_for=bucket)


async def _source(place: SqsPlace) -> SeenSource:
    seen = SeenSource(
        name=place.name,
        queue_url=place.queue_url,
        state=place.state,
        last_error=place.last_error,
        is_paused=place.is_paused,
        has_test_event=place.has_test_event,
    )
    refused: list[Refused] = []
    unseen: list[Refused] = []
    async with contextlib.AsyncExitStack() as stack:
        calls = await _tried(lambda: _entered(stack, opened(place.access)), refused)
        if calls is None:
            return replace(seen, refused=tuple(refused))
        queue = await _tried(lambda: see_queue(calls, place.queue_url), refused)
        if queue is not None or all(each.is_denied for each in refused):
            await _try_reading(calls, place.queue_url, queue, refused)
        seen = replace(seen, account=calls.account, queue=queue)
        if queue is not None:
            seen = replace(
                seen,
                dead_letter_queue=await _dead_letter_queue(calls, queue, unseen),
                topics=await _topics(calls, queue, unseen),
                key_policy=await _key_policy(calls, queue),
            )
    return replace(seen, refused=tuple(refused), unseen=tuple(unseen))


async def _try_reading(calls: Calls, url: str, queue: Queue | None, refused: list[Refused]) -> None:
    """Try what the gateway does. A receive that hides nothing counts as one: not where few are allowed."""
    if queue is None or not 0 < queue.max_receive_count < LEAST_RECEIVES or not queue.waiting:
        await _tried(
            lambda: calls(
                "sqs:ReceiveMessage",
                lambda: calls.sqs.receive_message(
                    QueueUrl=url, MaxNumberOfMessages=1, WaitTimeSeconds=0, VisibilityTimeout=0
                ),
            ),
            refused,
        )
    for action, work in (
        ("sqs:DeleteMessage", lambda: calls.sqs.delete_message(QueueUrl=url, ReceiptHandle=_NO_RECEIPT)),
        (
            "sqs:ChangeMessageVisibility",
            lambda: calls.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=_NO_RECEIPT, VisibilityTimeout=0),
        ),
    ):
        await _only_if_denied(calls, action, work, refused)


async def _only_if_denied(
    calls: Calls, action: str, work: Callable[[], Awaitable[object]], refused: list[Refused]
) -> None:
    # That the receipt is none is the good answer.
    denied: list[Refused] = []
    await _tried(lambda: calls(action, work), denied)
    refused += [each for each in denied if each.is_denied]


async def _dead_letter_queue(calls: Calls, queue: Queue, unseen: list[Refused]) -> Queue | None:
    arn = queue.dead_letter_arn
    if not arn:
        return None
    url = f"{queue.url.rstrip('/').rpartition('/')[0]}/{arn.rpartition(':')[2]}"
    return await _tried(lambda: see_queue(calls, url), unseen)


async def _topics(calls: Calls, queue: Queue, unseen: list[Refused]) -> dict[str, Topic | None]:
    try:
        arns = [each for each in policies.senders(queue.policy, policies.SNS) if "*" not in each]
    except SourceError as error:
        unseen.append(Refused(action="", reason=str(error)))
        return {}
    found: dict[str, Topic | None] = {}
    for arn in arns:
        before = len(unseen)
        topic = await _tried(lambda arn=arn: find_topic(calls, arn), unseen)  # type: ignore[misc]  # a lambda's default
        if len(unseen) == before:
            found[arn] = topic
    return found


async def _key_policy(calls: Calls, queue: Queue) -> str | None:
    """Read the policy of a customer's key, where who runs this may."""
    if not queue.key or queue.key in AWS_KEYS:
        return None

    async def ask() -> str:
        async with client("kms", calls.access) as kms:
            told = await kms.describe_key(KeyId=queue.key)
            return str((await kms.get_key_policy(KeyId=told["KeyMetadata"]["KeyId"], PolicyName="default"))["Policy"])

    with contextlib.suppress(GatewayError):
        return await called("kms:GetKeyPolicy", ask, access=calls.access)
    return None


async def _bucket(name: str, access: Access) -> SeenBucket:
    unseen: list[Refused] = []
    async with contextlib.AsyncExitStack() as stack:
        calls = await _tried(lambda: _entered(stack, opened_for(name, access)), unseen)
        if calls is None:
            return SeenBucket(name=name, unseen=tuple(unseen))
        bucket = await _tried(lambda: see_bucket(calls, name), unseen)
        if bucket is None:
            return SeenBucket(name=name, unseen=tuple(unseen))
        owner = calls.account.id if calls.account.is_known else None
        queues, topics = await _targets(calls, bucket)
        return SeenBucket(name=name, owner=owner, bucket=bucket, queues=queues, topics=topics, unseen=tuple(unseen))


async def _targets(calls: Calls, bucket: Bucket) -> tuple[dict[str, Queue | None], dict[str, Topic | None]]:
    queues: dict[str, Queue | None] = {}
    topics: dict[str, Topic | None] = {}
    for rule in rules_of(bucket.configuration):
        _, _, _, region, account, *_ = [*rule.arn.split(":"), "", "", "", "", ""]
        if (region, account) != (calls.account.region, calls.account.id):
            # Another account's: whether it is there cannot be told from here.
            continue
        with contextlib.suppress(AwsError, SourceError):
            if rule.target == "queue":
                queues[rule.arn] = await find_queue(calls, rule.arn.rpartition(":")[2])
            elif rule.target == "topic":
                topics[rule.arn] = await find_topic(calls, rule.arn)
    return queues, topics


def _buckets(source: SeenSource) -> set[str]:
    """Give the buckets that may send to a source's queue, itself or over a topic."""
    if source.queue is None:
        return set()
    texts = [source.queue.policy, *(each.policy for each in source.topics.values() if each)]
    arns = [arn for text in texts for arn in policies.senders(text, policies.S3)]
    names = {arn.rpartition(":")[2] for arn in arns if ":s3:" in arn}
    return {each for each in names if each and "*" not in each and "?" not in each}


def _access(name: str, places: Sequence[SqsPlace], sources: Sequence[SeenSource], given: Access) -> Access:
    """Give where a bucket is looked at: as was asked, else at the endpoint of the source it sends to."""
    if given.endpoint_url is not None:
        return given
    found = [place for place, source in zip(places, sources, strict=True) if name in _buckets(source)]
    at = next((each.access.endpoint_url for each in found or places), None)
    # A source's endpoint at AWS is one of SQS alone.
    return replace(given, endpoint_url=at if at is not None and not is_aws(at) else None)


def _concerns(source: SeenSource, bucket: str, arns: set[str]) -> bool:
    if bucket in _buckets(source):
        return True
    return source.queue is not None and bool(arns & {source.queue.arn, *source.topics})


async def _entered(stack: contextlib.AsyncExitStack, opening: contextlib.AbstractAsyncContextManager[_T]) -> _T:
    return await stack.enter_async_context(opening)


async def _tried(work: Callable[[], Awaitable[_T]], refused: list[Refused]) -> _T | None:
    try:
        return await work()
    except CallRefused as error:
        refused.append(Refused(action=error.action, reason=str(error), is_denied=error.is_denied))
    except GatewayError as error:
        refused.append(Refused(action="", reason=str(error)))
    return None
