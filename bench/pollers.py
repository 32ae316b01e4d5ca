"""Messages a second that one source receives and acknowledges, by how many polls may be under way at once.

Everything is real but SQS and the database: the queue answers at once behind a relay that holds each request as long
as a nearby region does, and recording is instant. Carry the ratios; two processes share what this machine has.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp

from app.domain.configuration import Source
from app.domain.ids import DEFAULT_TENANT, SourceId
from app.domain.message import Message
from app.ingest.poller import Poller, Surroundings
from app.ingest.room import Room
from app.sources.sqs import SqsSource
from bench.peer import peer

HOST = "127.0.0.1"


async def _delayed(url: str, seconds: float) -> asyncio.Server:
    """Relay bytes, those of requests so much later."""
    behind = urlsplit(url)

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(delay)
            writer.write(data)
            await writer.drain()
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(behind.hostname, behind.port)
        await asyncio.gather(pipe(reader, requests, seconds), pipe(answers, writer, 0))

    return await asyncio.start_server(relay, HOST, 0)


async def _rate(queue: str, endpoint: str, *, pollers: int, count: int) -> float:
    """Give messages a second from the first to the last of a full queue."""
    now = datetime.now(UTC)
    config: dict[str, str | int] = {"queue_url": f"{queue}/1/q", "region": "us-east-1", "endpoint_url": endpoint}
    source = Source(
        id=SourceId(bytes(16)),
        tenant_id=DEFAULT_TENANT,
        name="bench",
        kind="sqs",
        config={**config, "wait_seconds": 0, "pollers": pollers},
        created_at=now,
        updated_at=now,
    )
    seen, first, last = 0, 0.0, 0.0
    stop = asyncio.Event()

    async def record(_: Source, messages: Sequence[Message]) -> Sequence[Message]:
        nonlocal seen, first, last
        seen += len(messages)
        last = time.perf_counter()
        first = first or last
        if seen >= count:
            stop.set()
        return ()

    async def note(*_: object) -> None:
        """Keep no state."""

    room = Room(max_messages=2000, max_bytes=64 * 1024 * 1024)
    async with aiohttp.ClientSession() as session:
        await session.post(queue, data=f"+{count}")
    await Poller(source, Surroundings(open_source=SqsSource.open, record=record, note=note, room=room)).run(stop)
    return count / (last - first)


async def _compare(count: int, milliseconds: float) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ[name] = "bench"
    async with peer("bench.event_queue") as queue:
        server = await _delayed(queue, milliseconds / 1000)
        endpoint = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
        one = 0.0
        for pollers in (1, 2, 4, 8, 16):
            rate = await _rate(queue, endpoint, pollers=pollers, count=count)
            one = one or rate
            print(f"{pollers:2} pollers: {rate:7,.0f} messages/s, {rate / one:.1f} times one")
        server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=2000, help="messages a round")
    parser.add_argument("--milliseconds", type=float, default=15.0, help="how long a request is on its way")
    chosen = parser.parse_args()
    asyncio.run(_compare(chosen.count, chosen.milliseconds))
