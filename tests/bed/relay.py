"""Bytes relayed to a server, for tests that must see what was really sent."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from tests.bed.ports import HOST


@asynccontextmanager
async def relayed(url: str, *, seen: Callable[[bytes], object]) -> AsyncIterator[str]:
    """Relay bytes to a server, and show those of the requests; gives the relay's URL."""
    behind = urlsplit(url)

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, look: Callable[[bytes], object]) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                look(data)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(behind.hostname, behind.port)
        await asyncio.gather(pipe(reader, requests, seen), pipe(answers, writer, lambda _: None))

    server = await asyncio.start_server(relay, HOST, 0)
    yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
    server.close()
