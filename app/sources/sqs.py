"""One SQS queue as a source: the calls to AWS. When to call is the poller's business, its set-up in sqs_config.py."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self, TypeVar

import structlog

from app.aws.clients import Access, client
from app.aws.errors import translated
from app.domain.configuration import Source
from app.domain.errors import SourceError
from app.domain.message import Message
from app.sources.sqs_config import SqsConfig

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

BATCH: Final = 10  # what SQS gives and takes at most in one call
# Two tries of connecting and answering, and the pause between them.
CALL_SECONDS: Final = 15.0
# What a long poll may take beyond its own wait.
POLL_MARGIN_SECONDS: Final = 15.0
CLOSE_SECONDS: Final = 2.0
CLOSED: Final = "The source is closed."

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


class SqsSource:
    """PullSource over one queue."""

    def __init__(self, config: SqsConfig) -> None:
        """Take the config; nothing is connected before the first call."""
        self._config = config
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

    async def receive(self) -> Sequence[Message]:
        """Poll once. No attributes are asked for: who an event is never depends on how it came."""
        wait_seconds = self._config.wait_seconds
        polling, _ = await self._connected()
        answer = await self._call(
            lambda: polling.receive_message(
                QueueUrl=self._config.queue_url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=wait_seconds,
                VisibilityTimeout=self._config.visibility_seconds,
            ),
            within=wait_seconds + POLL_MARGIN_SECONDS,
        )
        if "html" in answer["ResponseMetadata"]["HTTPHeaders"].get("content-type", ""):
            # To the library a web page is an answer without messages.
            raise SourceError(
                f"{self._config.called_url or self._config.queue_url} answers with a web page, not as SQS."
            )
        # By id: one reply may hold a message several times (aio-libs/aiobotocore#1380); the last receipt counts.
        messages = {
            each["MessageId"]: Message(
                body=each.get("Body", "").encode("utf-8", "surrogatepass"),
                receipt=each["ReceiptHandle"],
                message_id=each["MessageId"],
            )
            for each in answer.get("Messages", ())
        }
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
                within=CALL_SECONDS,
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
                within=CALL_SECONDS,
            )

        await _in_tens(messages, hide)

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
            async with self._opening:
                if self._clients is None:
                    self._clients = await self._call(self._connect, within=CALL_SECONDS)
        return self._clients

    async def _connect(self) -> "tuple[SQSClient, SQSClient]":
        access = Access(region=self._config.signing_region, endpoint_url=self._config.called_url)
        async with AsyncExitStack() as stack:
            read_seconds = self._config.wait_seconds + POLL_MARGIN_SECONDS
            polling = await stack.enter_async_context(client("sqs", access, connections=1, read_seconds=read_seconds))
            control = await stack.enter_async_context(client("sqs", access, read_seconds=CALL_SECONDS))
            if self._is_closed:
                raise SourceError(CLOSED)
            self._connections = stack.pop_all()
        return polling, control

    async def _call(self, call: Callable[[], Awaitable[_T]], *, within: float) -> _T:
        if self._is_closed:
            raise SourceError(CLOSED)
        try:
            with translated():
                async with asyncio.timeout(within):
                    return await call()
        except TimeoutError:
            where = self._config.called_url or self._config.queue_url
            raise SourceError(f"No answer from {where} within {within:g} s.") from None


async def _in_tens(messages: Sequence[Message], call: Callable[[Sequence[Message]], Awaitable[_T]]) -> list[_T]:
    """Call for each ten, all at once; the first error is raised when all have ended."""
    tens = [messages[start : start + BATCH] for start in range(0, len(messages), BATCH)]
    answers = await asyncio.gather(*(call(ten) for ten in tens), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]
