"""The least HTTP/1.1 server that can be written on asyncio and httptools: a peer that costs little in a measurement."""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from typing import cast

import httptools
import uvloop

Handler = Callable[[bytes, bytes], bytes]
"""From a request's X-Amz-Target header (empty where it has none) and body to the whole answer, head included."""

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


class _Connection(asyncio.Protocol):
    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._target = self._body = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-amz-target":
            self._target = value

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._transport.write(self._handle(self._target, self._body))


def json_answer(body: bytes) -> bytes:
    """Put a head before a JSON body."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body


def run(handle: Handler) -> None:
    """Serve on a free port, printed first, until SIGTERM."""
    uvloop.run(_run(handle))


async def _run(handle: Handler) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(lambda: _Connection(handle), "127.0.0.1", 0, family=socket.AF_INET)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await stop.wait()
