"""The dead-letter queue of an SQS queue: looked at, and redriven. Who asks for it is the API's business.

AWS moves the messages itself (StartMessageMoveTask). Where that is not known (emulators) they are moved here, a slice
a call: sent before they are deleted, so that a crash repeats one and loses none. The repeat has a message id of its
own; who an event is does not depend on it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from app.aws.access import is_aws
from app.aws.clients import client
from app.aws.deadlines import answered
from app.aws.errors import AwsError, translated
from app.domain.configuration import Source
from app.domain.errors import SourceError
from app.domain.ports import Sleep
from app.sources.dead_letters import DeadLetterQueue, Redrive, RedriveState
from app.sources.sqs_config import SqsConfig

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient
    from types_aiobotocore_sqs.literals import QueueAttributeNameType
    from types_aiobotocore_sqs.type_defs import MessageTypeDef

CALL_SECONDS: Final = 10.0
# All calls of one request together, and how much of it a slice takes before it leaves the rest to the next request.
REQUEST_SECONDS: Final = 25.0
SLICE_SECONDS: Final = 10.0
SLICE_MESSAGES: Final = 200
BATCH: Final = 10
# What is redriven must not drown what is new: ten messages this often, or AWS's own limit a second.
BATCH_PAUSE_SECONDS: Final = 0.05
TASK_MESSAGES_PER_SECOND: Final = 200
# A message that was received and could not be sent stays hidden so long.
HIDDEN_SECONDS: Final = 60

_STATES: Final[dict[str, RedriveState]] = {
    "RUNNING": "running",
    "COMPLETED": "completed",
    "CANCELLING": "cancelling",
    "CANCELLED": "cancelled",
    "FAILED": "failed",
}
# What those who speak like SQS say of a call they do not know. AWS itself means other things by some of them.
_UNKNOWN_CALL: Final = frozenset(
    {
        "AWS.SimpleQueueService.UnsupportedOperation",
        "InternalFailure",
        "InvalidAction",
        "NotImplemented",
        "UnknownOperation",
        "UnknownOperationException",
        "UnsupportedOperation",
    }
)

_T = TypeVar("_T")


class SqsDeadLetterQueues:
    """DeadLetterQueues over one queue; each request connects anew and closes what it opened."""

    def __init__(
        self, config: SqsConfig, *, slice_messages: int = SLICE_MESSAGES, sleep: Sleep = asyncio.sleep
    ) -> None:
        """Take the config; nothing is called yet."""
        self._config = config
        self._slice_messages = slice_messages
        self._sleep = sleep

    @classmethod
    def open(cls, source: Source) -> Self:
        """Make one from a source's row."""
        return cls(SqsConfig.model_validate(dict(source.config)))

    async def all(self) -> Sequence[DeadLetterQueue]:
        """Give the queue that the redrive policy names, if there is one."""

        async def look(sqs: "SQSClient") -> Sequence[DeadLetterQueue]:
            found = await self._find(sqs)
            return [found] if found else []

        return await self._connected(look)

    async def redrive(self) -> Sequence[DeadLetterQueue]:
        """Let AWS begin its task, unless one runs; or move a slice."""

        async def move(sqs: "SQSClient") -> Sequence[DeadLetterQueue]:
            found = await self._find(sqs)
            if found is None or (found.redrive is not None and found.redrive.state == "running"):
                return [found] if found else []
            if await self._starts_task(sqs, found):
                # SQS's own list may not have it yet.
                begun = Redrive(state="running", moved=0, failed=0, to_move=found.depth)
            else:
                begun = await self._move_slice(sqs, found)
            after = await self._find(sqs, redrive=begun)
            return [after] if after else []

        return await self._connected(move)

    async def _connected(self, work: Callable[["SQSClient"], Awaitable[_T]]) -> _T:
        async def connect() -> _T:
            async with client("sqs", self._config.access, read_seconds=CALL_SECONDS) as sqs:
                return await work(sqs)

        where = self._config.called_url or self._config.queue_url
        return await answered(connect, within=REQUEST_SECONDS, where=where)

    async def _find(self, sqs: "SQSClient", *, redrive: Redrive | None = None) -> DeadLetterQueue | None:
        own = await _attributes(sqs, self._config.queue_url, "RedrivePolicy")
        if not own.get("RedrivePolicy"):
            return None
        arn, max_receive_count = _policy(own["RedrivePolicy"])
        # SQS asks for both queues to be of one account and region: their URLs differ in the name alone.
        url = f"{self._config.queue_url.rstrip('/').rpartition('/')[0]}/{arn.rpartition(':')[2]}"
        told = await _attributes(sqs, url, "ApproximateNumberOfMessages", "MessageRetentionPeriod")
        return DeadLetterQueue(
            queue_url=url,
            queue_arn=arn,
            depth=int(told.get("ApproximateNumberOfMessages", 0)),
            max_receive_count=max_receive_count,
            retention_seconds=int(told.get("MessageRetentionPeriod", 0)),
            redrive=redrive or await _newest_redrive(sqs, arn),
        )

    async def _starts_task(self, sqs: "SQSClient", queue: DeadLetterQueue) -> bool:
        """Ask for the task that moves messages to where each came from; False where that is not known."""
        try:
            with translated():
                await sqs.start_message_move_task(
                    SourceArn=queue.queue_arn, MaxNumberOfMessagesPerSecond=TASK_MESSAGES_PER_SECOND
                )
        except AwsError as error:
            called = self._config.called_url
            if called is None or is_aws(called) or not _is_unknown_call(error):
                raise
            return False
        return True

    async def _move_slice(self, sqs: "SQSClient", queue: DeadLetterQueue) -> Redrive:
        moved = 0
        failures: list[BaseException] = []
        clock = asyncio.get_running_loop().time
        until = clock() + SLICE_SECONDS
        is_empty = False
        while not is_empty and moved + len(failures) < self._slice_messages and clock() < until:
            received = await _receive(sqs, queue.queue_url)
            is_empty = not received
            sent, failed = await self._send(sqs, received)
            failures += failed
            await _delete(sqs, queue.queue_url, sent)
            moved += len(sent)
            await self._sleep(BATCH_PAUSE_SECONDS)
        if failures and not moved:
            raise failures[0]
        state: RedriveState = "running" if not is_empty else "failed" if failures else "completed"
        tried = moved + len(failures)
        return Redrive(
            state=state, moved=moved, failed=len(failures), to_move=tried if is_empty else max(queue.depth, tried)
        )

    async def _send(
        self, sqs: "SQSClient", messages: Sequence["MessageTypeDef"]
    ) -> "tuple[list[MessageTypeDef], list[BaseException]]":
        """Send messages to the source's queue, each alone: ten together may be larger than one call may be."""

        async def send(message: "MessageTypeDef") -> None:
            await sqs.send_message(QueueUrl=self._config.queue_url, **_copy(message))

        ends = await asyncio.gather(*(send(each) for each in messages), return_exceptions=True)
        sent = [message for message, end in zip(messages, ends, strict=True) if end is None]
        return sent, [end for end in ends if end is not None]


async def _attributes(sqs: "SQSClient", queue_url: str, *names: "QueueAttributeNameType") -> dict[str, str]:
    answer = await sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)
    return {str(name): value for name, value in answer.get("Attributes", {}).items()}


def _policy(text: str) -> tuple[str, int]:
    try:
        policy = json.loads(text)
        return str(policy["deadLetterTargetArn"]), int(policy["maxReceiveCount"])
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"The queue's redrive policy cannot be read: {text[:200]}") from error


async def _newest_redrive(sqs: "SQSClient", arn: str) -> Redrive | None:
    """Ask for the newest task; None also where tasks are not known, or not for us to see."""
    try:
        with translated():
            answer = await sqs.list_message_move_tasks(SourceArn=arn, MaxResults=1)
    except AwsError as error:
        if error.status is None:
            raise
        return None
    for task in answer.get("Results", ()):
        state = _STATES.get(task.get("Status", ""), "running")
        moved = task.get("ApproximateNumberOfMessagesMoved", 0)
        to_move = task.get("ApproximateNumberOfMessagesToMove") or moved
        left = max(0, to_move - moved) if state == "failed" else 0
        return Redrive(state=state, moved=moved, failed=left, to_move=to_move)
    return None


def _is_unknown_call(error: AwsError) -> bool:
    # A number for a code is an answer that is not SQS's at all, such as the web page of moto's web server.
    return error.code in _UNKNOWN_CALL or error.code.isdigit()


async def _receive(sqs: "SQSClient", queue_url: str) -> "Sequence[MessageTypeDef]":
    answer = await sqs.receive_message(
        QueueUrl=queue_url,
        MaxNumberOfMessages=BATCH,
        WaitTimeSeconds=1,
        VisibilityTimeout=HIDDEN_SECONDS,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["MessageGroupId"],
    )
    return answer.get("Messages", [])


def _copy(message: "MessageTypeDef") -> dict[str, Any]:
    """Say what a copy of a message is sent with. A FIFO queue gets its group, and knows a second copy by the id."""
    copy: dict[str, Any] = {
        "MessageBody": message.get("Body", ""),
        "MessageAttributes": message.get("MessageAttributes", {}),
    }
    group = message.get("Attributes", {}).get("MessageGroupId")
    if group is not None:
        copy |= {"MessageGroupId": group, "MessageDeduplicationId": message["MessageId"]}
    return copy


async def _delete(sqs: "SQSClient", queue_url: str, messages: "Sequence[MessageTypeDef]") -> None:
    if messages:
        # One that is not deleted comes again, and is a duplicate then.
        await sqs.delete_message_batch(
            QueueUrl=queue_url,
            Entries=[{"Id": str(place), "ReceiptHandle": each["ReceiptHandle"]} for place, each in enumerate(messages)],
        )
