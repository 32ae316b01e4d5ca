"""What 1 % of poison costs: messages recorded a second with it and without, from pollers that hand in ten at a time.

The path is the recorder's: decode, identify, write down with one delivery an event, commit; PostgreSQL with fsync on,
and SQLite. Poison is a message that cannot be decoded, or one whose record the database refuses. Rounds alternate and
each is compared with its own clean neighbour; medians of these ratios are printed. Carry them, not the absolutes.
"""

import argparse
import asyncio
import logging
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from app.decode import decode
from app.domain.configuration import Filter, Profile, Source
from app.domain.ids import DEFAULT_TENANT, TenantId
from app.domain.message import Decoded, Message
from app.ingest.recorder import Recorder
from app.store.database import Database
from app.store.migrate import migrate
from app.store.partitions import make_days
from tests.bed import s3_messages
from tests.bed.postgres import EmbeddedPostgres
from tests.bed.stored import SOURCE, Stored

POLLERS = 16
HANDED_IN = 10
EVERY = 100
ENDPOINTS = 10
REFUSED_KEY = "refused"
# Every message is another one, so that each poison is a row of its own in the quarantine.
MIXES: Mapping[str, Callable[[int], str]] = {
    "clean": lambda number: s3_messages.message_for("photos", f"{number % ENDPOINTS}/{number}.jpg"),
    "undecodable": lambda number: f"{{poison {number}",
    "refused": lambda number: s3_messages.message_for("photos", f"{number % ENDPOINTS}/{REFUSED_KEY}"),
}


async def main(*, count: int, rounds: int) -> None:
    """Measure on both databases."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as directory:
        await _compare("SQLite", f"sqlite:///{Path(directory) / 'bench.db'}", count=count, rounds=rounds)
    server = EmbeddedPostgres(settings={})
    await server.start()
    try:
        await _compare("PostgreSQL", await server.databases.create(), count=count, rounds=rounds)
    finally:
        await server.close()


async def _compare(name: str, url: str, *, count: int, rounds: int) -> None:
    ratios: dict[str, list[float]] = {mix: [] for mix in MIXES if mix != "clean"}
    clean: list[float] = []
    async with _stored(url) as stored:
        await _rate(stored, _bodies("clean", count))  # connections, plans and caches are warm from here on
        for number in range(rounds):
            rates = {}
            for mix in sorted(MIXES, reverse=number % 2 == 0):
                rates[mix] = await _rate(stored, _bodies(mix, count))
            clean.append(rates["clean"])
            for mix, each in ratios.items():
                each.append(rates[mix] / rates["clean"])
    told = ", ".join(f"1 % {mix} {statistics.median(each):.2f}" for mix, each in ratios.items())
    print(f"{name}: clean {statistics.median(clean):,.0f} messages/s; median of {rounds} ratios: {told}")


@asynccontextmanager
async def _stored(url: str) -> AsyncIterator[Stored]:
    database = Database(url)
    try:
        await migrate(database)
        await database.write_again(make_days)
        stored = Stored(database)
        for number in range(ENDPOINTS):
            await stored.add_subscription(await stored.add_endpoint(), wanted=Filter(key_prefix=f"{number}/"))
        yield stored
    finally:
        await database.aclose()


def _bodies(mix: str, count: int) -> list[str]:
    first = time.time_ns()
    return [MIXES[mix if number % EVERY == 0 else "clean"](first + number) for number in range(count)]


async def _rate(stored: Stored, bodies: Sequence[str]) -> float:
    """Give the messages a second that pollers get recorded."""
    recorder = Recorder(store=stored.store, decode=_decode, wake=lambda _: None)
    stop = asyncio.Event()
    running = asyncio.create_task(recorder.run(stop))
    batches = iter([bodies[start : start + HANDED_IN] for start in range(0, len(bodies), HANDED_IN)])
    started = time.perf_counter()
    await asyncio.gather(*(_poll(recorder, batches) for _ in range(POLLERS)))
    spent = time.perf_counter() - started
    stop.set()
    await running
    return len(bodies) / spent


async def _poll(recorder: Recorder, batches: Iterator[Sequence[str]]) -> None:
    for batch in batches:
        messages = [Message(body=body.encode(), receipt="r", message_id="m") for body in batch]
        await recorder.record(_SOURCE, messages)


def _decode(body: bytes, *, tenant_id: TenantId, profile: Profile = "auto") -> Decoded:
    """Decode, and let slip through what the decoder holds back: a text that no database takes."""
    decoded = decode(body, tenant_id=tenant_id, profile=profile)
    if decoded.events and decoded.events[0].key.endswith(REFUSED_KEY.encode()):
        return replace(decoded, events=(replace(decoded.events[0], actor="\ud800"),))
    return decoded


_SOURCE = Source(
    id=SOURCE,
    tenant_id=DEFAULT_TENANT,
    name="bench",
    kind="sqs",
    config={},
    created_at=datetime.now(UTC),
    updated_at=datetime.now(UTC),
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=5000, help="messages a run")
    parser.add_argument("--rounds", type=int, default=7, help="rounds counted, after one that is not")
    chosen = parser.parse_args()
    asyncio.run(main(count=chosen.count, rounds=chosen.rounds))
