"""A receiver that speaks in bytes: whatever a hostile or broken one may say, on each connection."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
Talk = Callable[["Connection"], Awaitable[None]]


class Connection:
    """One accepted connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self._reader = reader
        self._writer = writer
        self.number = number

    async def request(self) -> bytes:
        """Read one request with a Content-Length, head and body."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return head + await self._reader.readexactly(int(length.split(b":")[1]))

    async def say(self, data: bytes) -> None:
        """Write, as fast as the other side reads."""
        self._writer.write(data)
        await self._writer.drain()

    async def say_for_ever(self, data: bytes, *, every: float = 0) -> None:
        """Write the same again and again until the other side hangs up."""
        while True:
            await self.say(data)
            await asyncio.sleep(every)

    async def wait_for_hang_up(self) -> None:
        """Say nothing until the other side goes away."""
        await self._reader.read()

    def reset(self) -> None:
        """End the connection with a RST."""
        self._writer.transport.abort()

    def close(self) -> None:
        """End it in order."""
        self._writer.close()


class RawReceiver:
    """Listens while the `async with` block lasts; `requests` holds what each connection was sent."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}/"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = Connection(reader, writer, self.connections)
        task = asyncio.create_task(self._run(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, connection: Connection) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._talk(connection)
        finally:
            connection.close()
