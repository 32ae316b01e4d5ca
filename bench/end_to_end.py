"""Deliveries a second end to end, beside a bare aiohttp client's POSTs a second to the same receiver, in the same run.

The path is the real one: SQS over HTTP, `bucketpost serve` as a process, PostgreSQL with fsync on, signed webhooks to
ten endpoints, one delivery an event. Rounds alternate; medians are compared. Carry the ratio, not the absolutes.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from bench.event_queue import ENDPOINTS
from bench.peer import peer
from tests.bed.gateway import Gateway
from tests.bed.postgres import EmbeddedPostgres

IN_FLIGHT = 64


@asynccontextmanager
async def _gateway(directory: Path, database_url: str, receiver: str, queue: str) -> AsyncIterator[Gateway]:
    gateway = Gateway(directory, database_url=database_url, env={"BUCKETPOST_LOG__DELIVERED": "false"})
    gateway.start()
    try:
        await gateway.ready()
        for number in range(ENDPOINTS):
            config = {"url": f"{receiver}/{number}"}
            endpoint = await gateway.api.post("/endpoints", {"name": "bench", "kind": "webhook", "config": config})
            wanted = {"key_prefix": f"{number}/"}
            subscription = {"name": "bench", "endpoint_id": endpoint["id"], "filter": wanted}
            await gateway.api.post("/subscriptions", subscription)
        where = {"queue_url": f"{queue}/123456789012/bench", "region": "us-east-1", "endpoint_url": queue}
        await gateway.api.post("/sources", {"name": "bench", "kind": "sqs", "config": {**where, "wait_seconds": 0}})
        yield gateway
    finally:
        await gateway.close()


async def _figures(session: aiohttp.ClientSession, receiver: str) -> dict[str, Any]:
    async with session.post(receiver, data=b"?") as answer:
        return dict(json.loads(await answer.read()))


async def _wait_for(session: aiohttp.ClientSession, receiver: str, count: int) -> float:
    """Give deliveries a second, from the first request of the round to its last."""
    seen, first, last = 0, 0.0, 0.0
    async with asyncio.timeout(300):
        while seen < count:
            await asyncio.sleep(0.2)
            figures = await _figures(session, receiver)
            seen += figures["count"]
            first = first or figures["first"]
            last = figures["last"] or last
    return seen / (last - first)


async def _baseline(session: aiohttp.ClientSession, receiver: str, count: int) -> float:
    """Give POSTs a second of aiohttp alone: a kilobyte each, 64 in flight, nothing signed, nothing stored."""
    body = b"x" * 1000
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            async with session.post(f"{receiver}/bare", data=body) as answer:
                await answer.read()

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    figures = await _figures(session, receiver)
    return float(figures["count"] / (figures["last"] - figures["first"]))


async def _measure(count: int, rounds: int) -> None:
    postgres = EmbeddedPostgres(settings={})
    await postgres.start()
    try:
        with tempfile.TemporaryDirectory() as directory:
            async with (
                peer("bench.receiver") as receiver,
                peer("bench.event_queue") as queue,
                _gateway(Path(directory), await postgres.databases.create(), receiver, queue),
                aiohttp.ClientSession() as session,
            ):
                await _compare(session, receiver, queue, count=count, rounds=rounds)
    finally:
        await postgres.close()


async def _compare(session: aiohttp.ClientSession, receiver: str, queue: str, *, count: int, rounds: int) -> None:
    delivered, bare = [], []
    for number in range(rounds + 1):
        await session.post(queue, data=f"+{count}")
        end_to_end = await _wait_for(session, receiver, count)
        baseline = await _baseline(session, receiver, count)
        if number == 0:
            continue  # connections, plans and caches are warm from here on
        delivered.append(end_to_end)
        bare.append(baseline)
        print(f"round {number}: end to end {end_to_end:,.0f} deliveries/s, bare aiohttp {baseline:,.0f} POST/s")
    ratio = statistics.median(delivered) / statistics.median(bare)
    print(
        f"median of {rounds}: end to end {statistics.median(delivered):,.0f} deliveries/s on PostgreSQL, "
        f"bare aiohttp {statistics.median(bare):,.0f} POST/s, ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=5000, help="events a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds counted, after one that is not")
    chosen = parser.parse_args()
    asyncio.run(_measure(chosen.count, chosen.rounds))
