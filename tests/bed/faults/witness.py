"""Receivers of an experiment, as one program: every request is written down before it is answered, none is merged.

`python -m tests.bed.faults.witness JOURNAL` prints its port. Each path is a receiver of its own; how it behaves and
with which secret it verifies is told to it over HTTP, by `Witness` in the test.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import random
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import aiohttp
import httptools

from tests.bed.ports import HOST, free_port
from tests.bed.process import ChildProcess, clean_environment, until

CONTROL = "/-/"
TIMEOUT = aiohttp.ClientTimeout(total=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How a receiver answers: after `delay_seconds` (up to `delay_up_to_seconds`), with `status`.

    A `failing_share` of the requests, and all for `failing_keys`, get 503 instead; a silent one never answers.
    """

    status: int = 204
    delay_seconds: float = 0.0
    delay_up_to_seconds: float = 0.0
    failing_share: float = 0.0
    failing_keys: tuple[str, ...] = ()
    is_silent: bool = False


GOOD = Behaviour()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One request that a receiver saw: when (CLOCK_MONOTONIC, the same in every process), and what it answers.

    `answered_at` is when it answers, `signed_seconds_ago` how old its `webhook-timestamp` was by this machine's clock.
    """

    at: float
    path: str
    webhook_id: str
    key: str
    number: int
    status: int
    is_verified: bool
    signed_seconds_ago: float
    answered_at: float


class Witness:
    """The receivers, in a process of their own so that they take no time from the gateway's or the test's."""

    def __init__(self, directory: Path, *, name: str = "witness") -> None:
        self.journal_file = directory / f"{name}.jsonl"
        self.port = free_port()
        self.process = ChildProcess(
            [sys.executable, "-m", __name__, str(self.journal_file), str(self.port)],
            output=directory / name,
            env=clean_environment(),
        )
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(f"http://{HOST}:{self.port}", timeout=TIMEOUT)
        self.process.start()
        await until(self._is_up, within=20, what="the witness", process=self.process)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
        await self.process.stop(signal.SIGTERM)

    def url(self, path: str, *, host: str | None = None) -> str:
        """Give the URL of a receiver, by its address or by a name."""
        return f"http://{host or HOST}:{self.port}{path}"

    async def behave(self, path: str, behaviour: Behaviour) -> None:
        """Let a receiver behave so from now on; `*` is for all that were told nothing."""
        await self._tell("behave", {"path": path, **asdict(behaviour)})

    async def verify(self, path: str, secret: str) -> None:
        """Let a receiver verify with a secret."""
        await self._tell("verify", {"path": path, "secret": secret})

    def sightings(self) -> list[Sighting]:
        """Read all that was seen until now, in the order it came."""
        lines = self.journal_file.read_bytes().splitlines(keepends=True)
        return [_read(line) for line in lines if line.endswith(b"\n")]

    async def _tell(self, what: str, body: dict[str, Any]) -> None:
        assert self._session is not None
        async with self._session.post(CONTROL + what, json=body) as answer:
            assert answer.status == 204, f"the witness says {answer.status}"

    async def _is_up(self) -> bool:
        try:
            await self.verify("/", "whsec_")
        except (aiohttp.ClientError, TimeoutError):
            return False
        return True


def _read(line: bytes) -> Sighting:
    at, path, webhook_id, key, number, status, is_verified, signed_seconds_ago, answered_at = json.loads(line)
    return Sighting(
        at=at,
        path=path,
        webhook_id=webhook_id,
        key=key,
        number=number,
        status=status,
        is_verified=is_verified,
        signed_seconds_ago=signed_seconds_ago,
        answered_at=answered_at,
    )


class _Receivers:
    def __init__(self, journal: IO[str]) -> None:
        self._journal = journal
        self._behaviours: dict[str, Behaviour] = {"*": GOOD}
        self._secrets: dict[str, bytes] = {}

    def control(self, what: str, body: dict[str, Any]) -> None:
        path = body.pop("path")
        if what == "behave":
            self._behaviours[path] = Behaviour(**{**body, "failing_keys": tuple(body["failing_keys"])})
        else:
            self._secrets[path] = base64.b64decode(body["secret"].removeprefix("whsec_"))

    def see(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, float, bool]:
        """Write a request down; gives its status, the delay of the answer and whether it is answered at all."""
        now = time.monotonic()
        behaviour = self._behaviours.get(path) or self._behaviours["*"]
        data = json.loads(body)["data"]
        key = data["key"]
        fails = key in behaviour.failing_keys or random.random() < behaviour.failing_share  # noqa: S311
        status = 503 if fails else behaviour.status
        is_verified = self._is_verified(path, headers, body)
        signed_ago = time.time() - int(headers.get("webhook-timestamp", "0"))
        span = max(0.0, behaviour.delay_up_to_seconds - behaviour.delay_seconds)
        delay = behaviour.delay_seconds + random.random() * span  # noqa: S311
        named = headers.get("webhook-id")
        line = [now, path, named, key, data["size"], status, is_verified, signed_ago, now + delay]
        self._journal.write(json.dumps(line) + "\n")
        self._journal.flush()
        return status, delay, behaviour.is_silent

    def _is_verified(self, path: str, headers: dict[str, str], body: bytes) -> bool:
        signed = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.".encode() + body
        wanted = base64.b64encode(hmac.digest(self._secrets.get(path, b""), signed, hashlib.sha256)).decode()
        return headers.get("webhook-signature") == f"v1,{wanted}"


class _Connection(asyncio.Protocol):
    def __init__(self, receivers: _Receivers) -> None:
        self._receivers = receivers
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._path = b""
        self._body = b""
        self._headers: dict[str, str] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._path = self._body = b""
        self._headers = {}

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        path = self._path.decode("latin-1")
        if path.startswith(CONTROL):
            self._receivers.control(path.removeprefix(CONTROL), json.loads(self._body))
            self._answer(204)
            return
        status, delay, is_silent = self._receivers.see(path, self._headers, self._body)
        if is_silent:
            return
        if delay:
            self._loop.call_later(delay, self._answer, status)
        else:
            self._answer(status)

    def _answer(self, status: int) -> None:
        if not self._transport.is_closing():
            length = b"" if status == 204 else b"Content-Length: 0\r\n"
            self._transport.write(b"HTTP/1.1 %d x\r\n%s\r\n" % (status, length))


async def _serve(journal: IO[str], port: int) -> None:
    receivers = _Receivers(journal)
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = await loop.create_server(lambda: _Connection(receivers), HOST, port, family=socket.AF_INET, backlog=4096)
    await stopped.wait()
    server.close()


def _run(arguments: Sequence[str]) -> None:
    journal_file, port = arguments
    with Path(journal_file).open("a") as journal:
        asyncio.run(_serve(journal, int(port)))


if __name__ == "__main__":
    _run(sys.argv[1:])
