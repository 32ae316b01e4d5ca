"""The receiver as a program of its own: `python -m tests.bed.receiver_process --port 0 --journal FILE ...`.

It prints its port, then each request as a line of JSON; the journal file holds the same lines.
`ReceiverProcess` starts it from a test and hears of each request as it comes.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from tests.bed.journal import Journal
from tests.bed.ports import HOST
from tests.bed.process import REPOSITORY, BedError, clean_environment
from tests.bed.receiver import Received, Receiver

LONGEST_LINE = 512 * 1024 * 1024


class ReceiverProcess:
    """A receiver outside this process, so that it takes no time from the test's event loop.

    `secrets` and `answers` are by path: `{"/hook": "whsec_..."}`, `{"/hook": [503, 503, 204]}`; the
    last status of a path is for ever.
    """

    def __init__(
        self,
        journal: Path,
        *,
        secrets: Mapping[str, str] | None = None,
        answers: Mapping[str, Sequence[int]] | None = None,
        port: int = 0,
    ) -> None:
        self.journal_file = journal
        self._arguments = ["--port", str(port), "--journal", str(journal)]
        for path, secret in (secrets or {}).items():
            self._arguments += ["--secret", f"{path}={secret}"]
        for path, statuses in (answers or {}).items():
            self._arguments += ["--answer", f"{path}={','.join(map(str, statuses))}"]
        self._heard: Journal[Received] = Journal()
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self.port = port

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __name__,
            *self._arguments,
            cwd=REPOSITORY,
            env=clean_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=LONGEST_LINE,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            first = await self._process.stdout.readline()
        if not first:
            raise BedError(f"the receiver ended with status {await self._process.wait()}")
        self.port = int(first)
        self._listening = asyncio.create_task(self._listen(self._process.stdout))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._listening is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        async with asyncio.timeout(10):
            await self._listening
            await self._process.wait()

    def url(self, path: str = "/") -> str:
        """Give the URL of a path; any path is answered."""
        return f"http://{HOST}:{self.port}{path}"

    def received(self) -> Sequence[Received]:
        """Give what came so far."""
        return tuple(self._heard.entries)

    async def wait_for(
        self, wanted: int | Callable[[Sequence[Received]], bool], *, within: float = 10
    ) -> Sequence[Received]:
        """Wait for that many requests, or for a condition on all of them, and give them back."""
        return await self._heard.wait_for(wanted, within=within)

    async def _listen(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            self._heard.append(_from_json(line))


def read_journal(file: Path) -> list[Received]:
    """Read a journal file; every request is in it before it is answered."""
    return [_from_json(line) for line in file.read_bytes().splitlines()]


def _to_json(received: Received) -> str:
    return json.dumps({**asdict(received), "body": base64.b64encode(received.body).decode()})


def _from_json(line: bytes) -> Received:
    fields: dict[str, Any] = json.loads(line)
    headers = tuple((name, value) for name, value in fields.pop("headers"))
    return Received(headers=headers, body=base64.b64decode(fields.pop("body")), **fields)


def _pairs(arguments: Iterable[str]) -> list[tuple[str, str]]:
    return [(path, value) for path, _, value in (argument.partition("=") for argument in arguments)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A webhook receiver that writes down what it is sent.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--secret", action="append", default=[], metavar="PATH=SECRET")
    parser.add_argument("--answer", action="append", default=[], metavar="PATH=STATUS,STATUS,...")
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace, journal: TextIO) -> None:
    def write(received: Received) -> None:
        line = _to_json(received) + "\n"
        journal.write(line)
        journal.flush()
        sys.stdout.write(line)
        sys.stdout.flush()

    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    receiver = Receiver(port=arguments.port, on_request=write)
    for path, secret in _pairs(arguments.secret):
        receiver.verify(path, secret)
    for path, statuses in _pairs(arguments.answer):
        *first, last = [int(status) for status in statuses.split(",")]
        receiver.answer(path, *first, then=last)
    async with receiver:
        sys.stdout.write(f"{receiver.port}\n")
        sys.stdout.flush()
        await stopped.wait()


def _run() -> None:
    arguments = _arguments()
    with arguments.journal.open("a") as journal:
        asyncio.run(_serve(arguments, journal))


if __name__ == "__main__":
    _run()
