"""What stands at AWS around one bucket, as a value, and how it is read. Reading changes nothing."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from app.aws.clients import Access, client, new_session
from app.aws.deadlines import answered
from app.aws.errors import AwsError
from app.wiring.bucket_rules import Configuration
from app.wiring.wanted import Wanted, partition_of

CALL_SECONDS: Final = 15.0
_NO_QUEUE: Final = ("NonExistentQueue", "QueueDoesNotExist")
_SERVICES: Final = ("s3", "sqs", "sns", "sts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket: `versioning` is `Enabled`, `Suspended` or None for never."""

    name: str
    region: str
    versioning: str | None
    configuration: Configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue and all its attributes, as SQS gives them."""

    name: str
    url: str
    arn: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic, its policy, and the queues that are subscribed."""

    name: str
    arn: str
    policy: str | None
    queue_arns: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What stands now. None is not there yet."""

    account: str
    bucket: Bucket
    queue: Queue | None
    dead_letter_queue: Queue | None
    topic: Topic | None

    @property
    def partition(self) -> str:
        """Give the partition that ARNs of here begin with."""
        return partition_of(self.bucket.region)

    def arn(self, service: str, name: str) -> str:
        """Give the ARN that a queue or topic of this name has, or will have."""
        return f"arn:{self.partition}:{service}:{self.bucket.region}:{self.account}:{name}"


class Aws:
    """Clients of the services a wiring touches. Every call raises AwsError in AWS's own words, or SourceError."""

    s3: Any
    sqs: Any
    sns: Any
    sts: Any

    def __init__(self, access: Access) -> None:
        """Take where and as whom AWS is called; nothing is called yet."""
        self.access = access
        self._clients = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async def open_all() -> None:
            for service in _SERVICES:
                session = await new_session(service, self.access)
                opened = await self._clients.enter_async_context(client(service, self.access, session=session))
                setattr(self, service, opened)

        await answered(open_all, within=CALL_SECONDS, where="AWS")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._clients.aclose()

    async def call(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Make one call, bounded in time."""
        return await answered(call, within=CALL_SECONDS, where=self.access.endpoint_url or "AWS")


async def take_snapshot(aws: Aws, wanted: Wanted) -> Snapshot:
    """Read everything around a bucket that a wiring may touch."""
    bucket = await read_bucket(aws, wanted.bucket)
    account = wanted.account or (await aws.call(aws.sts.get_caller_identity))["Account"]
    queue = await read_queue(aws, wanted.queue)
    dead = await read_queue(aws, wanted.dead_letter_queue)
    topic_arn = f"arn:{partition_of(bucket.region)}:sns:{bucket.region}:{account}:{wanted.topic}"
    topic = None if wanted.topic is None else await read_topic(aws, topic_arn)
    return Snapshot(account=account, bucket=bucket, queue=queue, dead_letter_queue=dead, topic=topic)


async def read_bucket(aws: Aws, name: str) -> Bucket:
    """Read where a bucket is, whether it keeps versions, and its rules."""
    located = await aws.call(lambda: aws.s3.get_bucket_location(Bucket=name))
    # S3 gives nothing for its oldest region, and an older name for Ireland.
    region = {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}.get(
        located.get("LocationConstraint"), located.get("LocationConstraint")
    )
    versioning = await aws.call(lambda: aws.s3.get_bucket_versioning(Bucket=name))
    return Bucket(
        name=name,
        region=str(region),
        versioning=versioning.get("Status"),
        configuration=await read_configuration(aws, name),
    )


async def read_configuration(aws: Aws, bucket: str) -> Configuration:
    """Read a bucket's notification configuration."""
    answer = await aws.call(lambda: aws.s3.get_bucket_notification_configuration(Bucket=bucket))
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


async def read_queue(aws: Aws, name: str) -> Queue | None:
    """Read a queue of the caller's account; None when there is none."""
    try:
        url = (await aws.call(lambda: aws.sqs.get_queue_url(QueueName=name)))["QueueUrl"]
        return await read_queue_at(aws, url)
    except AwsError as error:
        if any(each in error.code for each in _NO_QUEUE):
            return None
        raise


async def read_queue_at(aws: Aws, url: str) -> Queue:
    """Read a queue by its URL."""
    answer = await aws.call(lambda: aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]))
    attributes = answer.get("Attributes", {})
    arn = attributes["QueueArn"]
    return Queue(name=arn.rsplit(":", 1)[-1], url=url, arn=arn, attributes=attributes)


async def read_topic(aws: Aws, arn: str) -> Topic | None:
    """Read a topic and the queues subscribed to it; None when there is none."""
    try:
        answer = await aws.call(lambda: aws.sns.get_topic_attributes(TopicArn=arn))
    except AwsError as error:
        if "NotFound" in error.code:
            return None
        raise
    subscribed = await _subscriptions(aws, arn)
    return Topic(
        name=arn.rsplit(":", 1)[-1],
        arn=arn,
        policy=answer.get("Attributes", {}).get("Policy"),
        queue_arns=frozenset(each["Endpoint"] for each in subscribed if each["Protocol"] == "sqs"),
    )


async def _subscriptions(aws: Aws, topic_arn: str) -> list[Mapping[str, str]]:
    found: list[Mapping[str, str]] = []
    more: dict[str, str] = {}
    while True:
        asked = {"TopicArn": topic_arn, **more}
        page = await aws.call(partial(aws.sns.list_subscriptions_by_topic, **asked))
        found += page.get("Subscriptions", ())
        if not page.get("NextToken"):
            return found
        more = {"NextToken": page["NextToken"]}
