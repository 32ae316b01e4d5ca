"""One SQS queue as a source: the calls to AWS. When to call is the poller's business, its set-up in sqs_config.py."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self, TypeVar

import structlog

from app.aws.clients import client, new_session
from app.aws.deadlines import answered
from app.aws.errors import translated
from app.domain.configuration import Source
from app.domain.errors import SourceError
from app.domain.message import Message, QueueMeasure
from app.sources.sqs_config import SqsConfig

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient
    from types_aiobotocore_sqs.literals import QueueAttributeNameType
    from types_aiobotocore_sqs.type_defs import MessageTypeDef

BATCH: Final = 10  # what SQS gives and takes at most in one call
# Two tries of connecting and answering, and the pause between them.
CALL_SECONDS: Final = 15.0
# What a long poll may take beyond its own wait.
POLL_MARGIN_SECONDS: Final = 15.0
CLOSE_SECONDS: Final = 2.0
CLOSED: Final = "The source is closed."
COUNTS: Final[tuple["QueueAttributeNameType", ...]] = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


class SqsSource:
    """PullSource over one queue."""

    def __init__(
        self,
        config: SqsConfig,
        *,
        call_seconds: float = CALL_SECONDS,
        poll_margin_seconds: float = POLL_MARGIN_SECONDS,
    ) -> None:
        """Take the config and how long a call may take; nothing is connected before the first one."""
        self._config = config
        self._call_seconds = call_seconds
        self._poll_margin_seconds = poll_margin_seconds
        self._oldest_lately: float | None = None
        self._clients: tuple[SQSClient, SQSClient] | None = None
        self._connections = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._is_closed = False

    @classmethod
    def open(cls, source: Source) -> Self:
        """Make one from a source's row. Raises pydantic's ValidationError, which the API keeps from happening."""
        return cls(SqsConfig.model_validate(dict(source.config)))

    @property
    def visibility_seconds(self) -> float:
        """Say how long a received message is hidden."""
        return self._config.visibility_seconds

    @property
    def full_poll(self) -> int:
        """Say how many messages SQS gives at most."""
        return BATCH

    @property
    def max_polls(self) -> int:
        """Say how many polls the operator allows at once."""
        return self._config.pollers

    async def receive(self) -> Sequence[Message]:
        """Poll once. When a message was sent is asked for and nothing else: who an event is depends on no attribute."""
        wait_seconds = self._config.wait_seconds
        polling, _ = await self._connected()
        answer = await self._call(
            lambda: polling.receive_message(
                QueueUrl=self._config.queue_url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=wait_seconds,
                VisibilityTimeout=self._config.visibility_seconds,
                MessageSystemAttributeNames=["SentTimestamp"],
            ),
            within=wait_seconds + self._poll_margin_seconds,
        )
        if "html" in answer["ResponseMetadata"]["HTTPHeaders"].get("content-type", ""):
            # To the library a web page is an answer without messages.
            raise SourceError(
                f"{self._config.called_url or self._config.queue_url} answers with a web page, not as SQS."
            )
        # By id: one reply may hold a message several times (aio-libs/aiobotocore#1380); the last receipt counts.
        messages = {each["MessageId"]: _message(each) for each in answer.get("Messages", ())}
        self._note_ages(messages.values())
        return list(messages.values())

    async def ack(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Delete in tens and give back what SQS says it did not delete."""
        _, control = await self._connected()

        async def delete(ten: Sequence[Message]) -> list[Message]:
            answer = await self._call(
                lambda: control.delete_message_batch(
                    QueueUrl=self._config.queue_url,
                    Entries=[{"Id": str(place), "ReceiptHandle": each.receipt} for place, each in enumerate(ten)],
                ),
                within=self._call_seconds,
            )
            failed = answer.get("Failed", ())
            if failed:
                _log.debug("message.kept", codes=sorted({each["Code"] for each in failed}), messages=len(failed))
            return [ten[int(each["Id"])] for each in failed]

        return [each for failed in await _in_tens(messages, delete) for each in failed]

    async def extend(self, messages: Sequence[Message]) -> None:
        """Hide messages for another span from now. One that is hidden no more is left: it comes as a duplicate."""
        _, control = await self._connected()

        async def hide(ten: Sequence[Message]) -> None:
            await self._call(
                lambda: control.change_message_visibility_batch(
                    QueueUrl=self._config.queue_url,
                    Entries=[
                        {
                            "Id": str(place),
                            "ReceiptHandle": each.receipt,
                            "VisibilityTimeout": self._config.visibility_seconds,
                        }
                        for place, each in enumerate(ten)
                    ],
                ),
                within=self._call_seconds,
            )

        await _in_tens(messages, hide)

    async def measure(self) -> QueueMeasure:
        """Ask SQS for its counts, which are approximate, and give the age of the oldest message received since.

        SQS does not tell the age of a message that was not received: with none since the last measure it is unknown,
        unless nothing waits at all.
        """
        _, control = await self._connected()
        answer = await self._call(
            lambda: control.get_queue_attributes(QueueUrl=self._config.queue_url, AttributeNames=COUNTS),
            within=self._call_seconds,
        )
        depth, in_flight, delayed = (int(answer.get("Attributes", {}).get(name, 0)) for name in COUNTS)
        oldest, self._oldest_lately = self._oldest_lately, None
        if oldest is None and depth + in_flight + delayed == 0:
            oldest = 0.0
        return QueueMeasure(depth=depth, in_flight=in_flight, delayed=delayed, oldest_seconds=oldest)

    async def aclose(self) -> None:
        """Close both clients; a poll under way ends with SourceError."""
        self._is_closed = True
        self._clients = None
        try:
            with translated():
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._connections.aclose()
        except (SourceError, TimeoutError) as error:
            _log.debug("source.unclosed", queue_url=self._config.queue_url, error=str(error))

    async def _connected(self) -> "tuple[SQSClient, SQSClient]":
        """Give the client for long polls and the one for everything else.

        They are two because a client's calls share its connections: a delete would wait for the end of a long poll.
        """
        if self._clients is None:
            # The limit is also one on the wait for another call that connects.
            self._clients = await self._call(self._connect, within=self._call_seconds)
        return self._clients

    async def _connect(self) -> "tuple[SQSClient, SQSClient]":
        access = self._config.access
        async with self._opening, AsyncExitStack() as stack:
            if self._clients is not None:
                return self._clients
            session = await new_session("sqs", access)
            polling, control = [
                await stack.enter_async_context(
                    client("sqs", access, session=session, connections=connections, read_seconds=read_seconds)
                )
                for connections, read_seconds in (
                    (self._config.pollers + 1, self._config.wait_seconds + self._poll_margin_seconds),
                    (10, self._call_seconds),
                )
            ]
            if self._is_closed:
                raise SourceError(CLOSED)
            self._connections = stack.pop_all()
            self._clients = polling, control
        return polling, control

    async def _call(self, call: Callable[[], Awaitable[_T]], *, within: float) -> _T:
        if self._is_closed:
            raise SourceError(CLOSED)
        return await answered(call, within=within, where=self._config.called_url or self._config.queue_url)

    def _note_ages(self, messages: Iterable[Message]) -> None:
        now = datetime.now(UTC)
        ages = [max(0.0, (now - each.sent_at).total_seconds()) for each in messages if each.sent_at is not None]
        if ages:
            self._oldest_lately = max(*ages, self._oldest_lately or 0.0)


def _message(given: "MessageTypeDef") -> Message:
    return Message(
        body=given.get("Body", "").encode("utf-8", "surrogatepass"),
        receipt=given["ReceiptHandle"],
        message_id=given["MessageId"],
        sent_at=_sent_at(given.get("Attributes", {}).get("SentTimestamp")),
    )


def _sent_at(milliseconds: str | None) -> datetime | None:
    try:
        return None if milliseconds is None else datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        # It is only shown to people: what speaks like SQS may write what it likes.
        return None


async def _in_tens(messages: Sequence[Message], call: Callable[[Sequence[Message]], Awaitable[_T]]) -> list[_T]:
    """Call for each ten, all at once; the first error is raised when all have ended."""
    tens = [messages[start : start + BATCH] for start in range(0, len(messages), BATCH)]
    answers = await asyncio.gather(*(call(ten) for ten in tens), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]
