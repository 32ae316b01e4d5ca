"""A webhook receiver that writes down everything it is sent and answers as the test says.

It verifies each signature with the `standardwebhooks` package, somebody else's reading of the specification,
and never merges duplicates. As a program of its own: receiver_process.py.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.bed.journal import Journal
from tests.bed.ports import HOST

LARGEST_BODY = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as it came. `verified` is None where the test gave no secret for the path."""

    number: int
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    verified: bool | None
    at: float
    """Wall clock."""
    monotonic: float

    def header(self, name: str) -> str:
        """Give the value of the one header of that name; a ValueError when there is none or another one."""
        [value] = [value for header, value in self.headers if header.lower() == name.lower()]
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to say to one request; with `hang_up` the connection is closed instead."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay_seconds: float = 0
    hang_up: bool = False


Script = Callable[[Received], Answer | Awaitable[Answer]]
NO_CONTENT = Answer()


class Receiver:
    """Listens while the `async with` block lasts; use from one event loop."""

    def __init__(self, *, port: int = 0, on_request: Callable[[Received], None] | None = None) -> None:
        self._port = port
        self._on_request = on_request
        self._scripts: dict[str, Script] = {}
        self._secrets: dict[str, str] = {}
        self._journal: Journal[Received] = Journal()
        self._runner = web.AppRunner(_application(self._handle), access_log=None, shutdown_timeout=0.1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self._port).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def url(self, path: str = "/") -> str:
        """Give the URL of a path; any path is answered."""
        return f"http://{HOST}:{self._port}{path}"

    def verify(self, path: str, secret: str) -> None:
        """Verify the signatures of what comes to the path with the secret (`whsec_...`)."""
        self._secrets[path] = secret

    def answer(self, path: str, *answers: Answer | int, then: Answer | int = NO_CONTENT) -> None:
        """Answer requests to the path with these in turn, then with `then` for ever; a number is a status."""
        turns = iter([_as_answer(answer) for answer in answers])
        self._scripts[path] = _in_turn(turns, _as_answer(then))

    def answer_with(self, path: str, script: Script) -> None:
        """Let a function decide, which sees the request and may be async."""
        self._scripts[path] = script

    def received(self, path: str | None = None) -> Sequence[Received]:
        """Give what came so far, to all paths or to one."""
        return [request for request in self._journal.entries if path in (None, request.path)]

    async def wait_for(
        self,
        wanted: int | Callable[[Sequence[Received]], bool],
        *,
        path: str | None = None,
        within: float = 10,
    ) -> Sequence[Received]:
        """Wait for that many requests, or for a condition on all of them, and give them back.

        A request is in the journal before it is answered.
        """
        await self._journal.wait_for(lambda _: _fulfils(wanted, self.received(path)), within=within)
        return self.received(path)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        received = await self._write_down(request)
        script = self._scripts.get(request.path, _say_no_content)
        decided = script(received)
        answer = await decided if inspect.isawaitable(decided) else decided
        if answer.delay_seconds:
            await asyncio.sleep(answer.delay_seconds)
        if answer.hang_up and request.transport is not None:
            request.transport.abort()
        return web.Response(status=answer.status, headers=dict(answer.headers), body=answer.body or None)

    async def _write_down(self, request: web.Request) -> Received:
        body = await request.read()
        received = Received(
            number=len(self._journal.entries) + 1,
            method=request.method,
            path=request.path,
            query=request.query_string,
            headers=tuple(request.headers.items()),
            body=body,
            verified=is_verified(self._secrets.get(request.path), request.headers, body),
            at=time.time(),
            monotonic=time.monotonic(),
        )
        self._journal.append(received)
        if self._on_request is not None:
            self._on_request(received)
        return received


def is_verified(secret: str | None, headers: Mapping[str, str], body: bytes) -> bool | None:
    """Say whether the signature is right by Standard Webhooks, or None without a secret."""
    if secret is None:
        return None
    try:
        Webhook(secret).verify(body, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError):  # ValueError: no base64, no comma, no UTF-8
        return False
    return True


def _application(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.Application:
    application = web.Application(client_max_size=LARGEST_BODY)
    application.router.add_route("*", "/{path:.*}", handler)
    return application


def _say_no_content(_: Received) -> Answer:
    return NO_CONTENT


def _as_answer(answer: Answer | int) -> Answer:
    return Answer(status=answer) if isinstance(answer, int) else answer


def _in_turn(turns: Iterator[Answer], then: Answer) -> Script:
    return lambda _: next(turns, then)


def _fulfils(wanted: int | Callable[[Sequence[Received]], bool], requests: Sequence[Received]) -> bool:
    return len(requests) >= wanted if isinstance(wanted, int) else wanted(requests)
