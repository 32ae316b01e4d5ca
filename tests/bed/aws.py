"""S3, SQS and SNS for the tests: moto's server in a process of its own, and the few calls the tests need.

Where moto is not AWS: a long poll outlives the client that was killed and swallows the next message until
its visibility ends, so tests poll and hide for short times; each put is told again as a tagging event, so
buckets here notify of `s3:ObjectCreated:*`; records have no sequencer and no request id (s3_messages.py has);
a receive costs more the longer the queue is, so queues stay under a few hundred messages.
"""

import json
import re
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from types_aiobotocore_s3 import S3Client
from types_aiobotocore_s3.literals import EventType
from types_aiobotocore_s3.type_defs import NotificationConfigurationTypeDef
from types_aiobotocore_sns import SNSClient
from types_aiobotocore_sqs import SQSClient

from tests.bed.ports import HOST
from tests.bed.process import ChildProcess, clean_environment, until

REGION = "us-east-1"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
CREATED: tuple[EventType, ...] = ("s3:ObjectCreated:*",)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """How many messages of a queue wait, and how many were received and neither deleted nor shown again."""

    visible: int
    in_flight: int


class Aws:
    """moto's server and clients to it; `sqs`, `sns` and `s3` are there between `start` and `close`."""

    sqs: SQSClient
    sns: SNSClient
    s3: S3Client

    def __init__(self) -> None:
        self.region = REGION
        self.endpoint_url = ""
        self.env: Mapping[str, str] = ENVIRONMENT
        self._directory = Path(tempfile.mkdtemp(prefix="bucketpost-moto-"))
        self._clients = AsyncExitStack()
        self._process = ChildProcess(
            [sys.executable, "-m", "moto.server", "-H", HOST, "-p", "0"],
            output=self._directory / "moto",
            env=clean_environment(**ENVIRONMENT),
        )

    async def start(self) -> None:
        """Start the server, on a port the system chooses, and connect the clients."""
        self._process.start()
        await until(self._says_where, within=60, what="moto's server listens", process=self._process)
        settings = AioConfig(s3={"addressing_style": "path"}, max_pool_connections=50)
        session = get_session()
        session.set_credentials("testing", "testing")
        self.sqs, self.sns, self.s3 = [
            await self._clients.enter_async_context(
                session.create_client(name, region_name=REGION, endpoint_url=self.endpoint_url, config=settings)
            )
            for name in ("sqs", "sns", "s3")
        ]

    async def close(self) -> None:
        """Close the clients and end the server with everything in it."""
        await self._clients.aclose()
        await self._process.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def create_queue(self, *, visibility_seconds: int = 5, **attributes: str) -> str:
        """Make a queue and give its URL; further attributes by SQS's own names."""
        wanted = {"VisibilityTimeout": str(visibility_seconds), **attributes}
        made = await self.sqs.create_queue(QueueName=_unique("queue"), Attributes=wanted)  # type: ignore[arg-type]  # the names are SQS's, checked by the server
        return made["QueueUrl"]

    async def create_topic(self) -> str:
        """Make an SNS topic and give its ARN."""
        return (await self.sns.create_topic(Name=_unique("topic")))["TopicArn"]

    async def subscribe(self, topic_arn: str, queue_url: str, *, raw: bool = False) -> str:
        """Let a topic send to a queue, wrapped in SNS's envelope or raw; gives the subscription's ARN."""
        made = await self.sns.subscribe(
            TopicArn=topic_arn,
            Protocol="sqs",
            Endpoint=await self.queue_arn(queue_url),
            Attributes={"RawMessageDelivery": "true" if raw else "false"},
        )
        return made["SubscriptionArn"]

    async def create_bucket(
        self,
        *,
        queue_url: str | None = None,
        topic_arn: str | None = None,
        events: Sequence[EventType] = CREATED,
    ) -> str:
        """Make a bucket that notifies the queue, the topic, or both, and give its name.

        As with S3, each target first gets an `s3:TestEvent`.
        """
        name = _unique("bucket")
        await self.s3.create_bucket(Bucket=name)
        wanted: NotificationConfigurationTypeDef = {}
        if queue_url is not None:
            queue_arn = await self.queue_arn(queue_url)
            wanted["QueueConfigurations"] = [{"QueueArn": queue_arn, "Events": events}]
        if topic_arn is not None:
            wanted["TopicConfigurations"] = [{"TopicArn": topic_arn, "Events": events}]
        if wanted:
            await self.s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=wanted)
        return name

    async def put_object(self, bucket: str, key: str, body: bytes = b"hello") -> None:
        """Upload an object."""
        await self.s3.put_object(Bucket=bucket, Key=key, Body=body)

    async def send(self, queue_url: str, body: str) -> str:
        """Send one message to a queue and give its id; once this returns SQS has accepted it."""
        return (await self.sqs.send_message(QueueUrl=queue_url, MessageBody=body))["MessageId"]

    async def take(self, queue_url: str, count: int, *, within: float = 10) -> list[str]:
        """Receive and delete messages until there are that many, and give their bodies."""
        deadline = time.monotonic() + within
        bodies: list[str] = []
        while len(bodies) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(bodies)} of {count} messages in {within} s: {json.dumps(bodies)[:2000]}")
            answer = await self.sqs.receive_message(
                QueueUrl=queue_url, MaxNumberOfMessages=min(10, count - len(bodies)), WaitTimeSeconds=1
            )
            for message in answer.get("Messages", []):
                await self.sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
                bodies.append(message["Body"])
        return bodies

    async def depth(self, queue_url: str) -> QueueDepth:
        """Count what is in a queue."""
        answer = await self.sqs.get_queue_attributes(
            QueueUrl=queue_url,
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )
        counts = answer["Attributes"]
        return QueueDepth(
            visible=int(counts["ApproximateNumberOfMessages"]),
            in_flight=int(counts["ApproximateNumberOfMessagesNotVisible"]),
        )

    async def queue_arn(self, queue_url: str) -> str:
        """Give the ARN of a queue."""
        answer = await self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
        return answer["Attributes"]["QueueArn"]

    async def _says_where(self) -> bool:
        found = re.search(r"Running on (http://[\d.]+:\d+)", self._process.stderr())
        self.endpoint_url = found[1] if found else ""
        return found is not None


def _unique(stem: str) -> str:
    return f"{stem}-{uuid.uuid4().hex[:12]}"
