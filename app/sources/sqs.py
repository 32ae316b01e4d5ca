"""One SQS queue as a source: the calls to AWS. When to call is the poller's business, what is set up sqs_config.py's.

The AWS library is imported at the first call and in a thread: importing it and reading its models takes seconds.
"""

import asyncio
import functools
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, Self, TypeVar

import structlog

from app.domain.configuration import Source
from app.domain.errors import SourceError
from app.domain.message import Message
from app.sources.sqs_config import SqsConfig, leads_to_metadata

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiobotocore.session import AioSession
    from types_aiobotocore_sqs import SQSClient

BATCH: Final = 10  # what SQS gives and takes at most in one call
CONNECT_SECONDS: Final = 5
# Two tries of connecting and answering, and the pause between them.
CALL_SECONDS: Final = 15.0
# What a long poll may take beyond its own wait.
POLL_MARGIN_SECONDS: Final = 15.0
CLOSE_SECONDS: Final = 2.0
CLOSED: Final = "The source is closed."

_LONGEST_ERROR: Final = 1000

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
            with _translated():
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
        session = await asyncio.to_thread(_new_session)
        async with AsyncExitStack() as stack:
            read_seconds = self._config.wait_seconds + POLL_MARGIN_SECONDS
            polling = await stack.enter_async_context(self._client(session, connections=1, read_seconds=read_seconds))
            control = await stack.enter_async_context(self._client(session, connections=10, read_seconds=CALL_SECONDS))
            if self._is_closed:
                raise SourceError(CLOSED)
            self._connections = stack.pop_all()
        return polling, control

    @asynccontextmanager
    async def _client(
        self, session: "AioSession", *, connections: int, read_seconds: float
    ) -> "AsyncIterator[SQSClient]":
        from aiobotocore.config import AioConfig  # noqa: PLC0415 -- imported when needed, see the top

        settings = AioConfig(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=read_seconds,
            max_pool_connections=connections,
            retries={"mode": "standard", "total_max_attempts": 2},
            connector_args={"socket_factory": _guarded_socket},
        )
        async with session.create_client(
            "sqs",
            region_name=self._config.signing_region,
            endpoint_url=self._config.called_url,
            config=settings,
        ) as client:
            yield client

    async def _call(self, call: Callable[[], Awaitable[_T]], *, within: float) -> _T:
        if self._is_closed:
            raise SourceError(CLOSED)
        try:
            with _translated():
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


def _guarded_socket(
    address: tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]],
) -> socket.socket:
    """Make a socket, unless a name led to a metadata address."""
    family, kind, protocol, _, (host, *_) = address
    if leads_to_metadata(host):
        raise OSError(f"{host} is a metadata address")
    return socket.socket(family, kind, protocol)


_loading: Final = threading.Lock()


def _new_session() -> "AioSession":
    """Make a session that looks for credentials afresh; the models are read once for the whole process."""
    from aiobotocore.session import get_session  # noqa: PLC0415 -- imported when needed, see the top

    session = get_session()
    with _loading:
        session.register_component("data_loader", _loader())
        session.warm_up_loader_caches("sqs")  # type: ignore[attr-defined]  # the stubs lag behind
    return session


@functools.cache
def _loader() -> object:
    from aiobotocore.session import get_session  # noqa: PLC0415 -- imported when needed, see the top

    return get_session().get_component("data_loader")


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what the AWS library raises into SourceError with AWS's own code and message."""
    try:
        yield
    except TimeoutError:
        raise
    except _library_errors() as error:
        # Only ClientError has an answer of AWS; botocore's network errors have a `response` that is None.
        told = (getattr(error, "response", None) or {}).get("Error", {})
        code, message = told.get("Code", type(error).__name__), told.get("Message", str(error))
        raise SourceError(_sentence(code, message)) from error


@functools.cache
def _library_errors() -> tuple[type[Exception], ...]:
    # Asked for only when something was raised, so that nothing is imported on the event loop.
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 -- imported when needed, see the top
    from botocore.parsers import ResponseParserError  # noqa: PLC0415 -- likewise

    # ValueError: an endpoint that is no URL. RuntimeError: aiohttp's session was closed under the call.
    return ClientError, BotoCoreError, ResponseParserError, OSError, ValueError, RuntimeError


def _sentence(code: str, message: str) -> str:
    return " ".join(f"{code}: {message}".replace("\0", " ").split())[:_LONGEST_ERROR]
