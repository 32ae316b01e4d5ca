"""Whether the database takes more processor time for the last 100,000 of a million deliveries than for the first.

Recorded, leased, fetched and settled through the real store, without a network, on PostgreSQL with fsync on. Everything
the server spends is counted, autovacuum and checkpoints too. The last are compared with the first of a second server,
slice by slice in turn: on a machine that others make slower by the minute, what stands minutes apart says nothing.
"""

import argparse
import asyncio
import os
import secrets
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from app.domain.configuration import Filter
from app.domain.event import Event
from app.domain.ids import EventId, ReplicaId
from app.store.database import Database
from app.store.migrate import migrate
from app.store.outbox import SqlOutbox
from app.store.partitions import make_days
from bench.cpu import tree_seconds
from bench.filled import SETTINGS, SHARED_BUFFERS
from tests.bed.postgres import EmbeddedPostgres
from tests.bed.stored import STARTED_AT, Stored, delivered, heard, make_event

ENDPOINTS = 10
A_SECOND = 1_000
BATCH = 500
FETCHED = 400
PARTS = 10
SLICES = 10
MOST_DRIFT = 1.2


def _event(number: int) -> Event:
    """Make an event; ids begin with the second, as those of real events do, a thousand or so each."""
    second = int(STARTED_AT.timestamp()) + number // A_SECOND
    made = make_event(number, key=b"%d/%d" % (number % ENDPOINTS, number))
    return replace(made, id=EventId(second.to_bytes(4, "big") + made.id[4:]))


async def _deliver(stored: Stored, outbox: SqlOutbox, first: int, count: int) -> None:
    """Record so many events and deliver what they owe, batch by batch."""
    for start in range(first, first + count, BATCH):
        numbers = range(start, start + BATCH)
        await stored.store.record([heard(*map(_event, numbers))])
        for lease in await outbox.lease(ENDPOINTS):
            while owed := await outbox.fetch(lease, limit=FETCHED, leave_out=()):
                await outbox.settle([delivered(lease, each) for each in owed])
            await outbox.rest(lease)
            await outbox.release([lease])


@dataclass(slots=True, kw_only=True)
class _Server:
    """A server that nothing but these deliveries goes through."""

    stored: Stored
    outbox: SqlOutbox
    process_id: int
    counted_seconds: float

    async def cost(self, first: int, count: int) -> float:
        """Deliver so many; gives the microseconds of processor time for each that the server took since the last."""
        await _deliver(self.stored, self.outbox, first, count)
        before, self.counted_seconds = self.counted_seconds, tree_seconds(self.process_id)
        return (self.counted_seconds - before) / count * 1e6


@asynccontextmanager
async def _server(count: int) -> AsyncIterator[_Server]:
    """Start one, with connections, plans and caches warm from deliveries after these."""
    postgres = EmbeddedPostgres(settings=SETTINGS)
    await postgres.start()
    try:
        database = Database(await postgres.databases.create(), command_seconds=None)
        await migrate(database)
        await database.write_again(make_days)
        stored = Stored(database)
        for number in range(ENDPOINTS):
            await stored.add_subscription(await stored.add_endpoint(), wanted=Filter(key_prefix=f"{number}/"))
        outbox = SqlOutbox(database, ReplicaId(secrets.token_bytes(16)), lease_seconds=60)
        await _deliver(stored, outbox, count, 10 * BATCH)
        server = postgres.process.pid
        yield _Server(stored=stored, outbox=outbox, process_id=server, counted_seconds=tree_seconds(server))
        await database.aclose()
    finally:
        await postgres.close()


async def _measure(count: int) -> float:
    part = count // PARTS
    step, ratios, first, last = part // SLICES, list[float](), list[float](), list[float]()
    print(f"{count:,} deliveries to {ENDPOINTS} endpoints, {SHARED_BUFFERS} buffers; of the database for each:")
    async with _server(count) as old:
        for start in range(0, count - part, part):
            print(f"deliveries {start:,} to {start + part:,}: {await old.cost(start, part):.0f} us")
        async with _server(count) as new:
            for start in range(0, part, step):
                first.append(await new.cost(start, step))
                last.append(await old.cost(count - part + start, step))
                ratios.append(last[-1] / first[-1])
                print(
                    f"deliveries {count - part + start:,} to {count - part + start + step:,}: {last[-1]:.0f} us, "
                    f"of the other server {start:,} to {start + step:,}: {first[-1]:.0f} us"
                )
        drift = sum(last) / sum(first)
        print(
            f"last over first: {drift:.2f} (<= {MOST_DRIFT}), of the slices {min(ratios):.2f} to "
            f"{max(ratios):.2f}, in the middle {statistics.median(ratios):.2f}"
        )
        print(f"{await old.stored.count('delivery')} still owed")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return drift


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=1_000_000)
    chosen = parser.parse_args()
    sys.exit(asyncio.run(_measure(chosen.count)) > MOST_DRIFT)
