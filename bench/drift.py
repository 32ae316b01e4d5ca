"""Whether the database takes more processor time for the last 100,000 of a million deliveries than for the first.

Recorded, leased, fetched and settled through the real store, without a network, on PostgreSQL with fsync on. Everything
the server spends is counted, autovacuum and checkpoints too. Now and then it does a fixed sum, and costs are compared
in such sums: a machine that others make slower does not look like a drift then.
"""

import argparse
import asyncio
import os
import secrets
from dataclasses import dataclass, replace

from sqlalchemy import func, select

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
SUMS = 10


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the database took: microseconds a delivery, milliseconds a sum."""

    delivery: float
    sum: float


async def _cost(stored: Stored, outbox: SqlOutbox, first: int, count: int, *, server: int) -> Cost:
    """Deliver so many, with a sum after every tenth of them."""
    of_deliveries, of_sums, step = 0.0, 0.0, count // SUMS
    for start in range(first, first + count, step):
        began = tree_seconds(server)
        await _deliver(stored, outbox, start, step)
        between = tree_seconds(server)
        await stored.scalar(select(func.sum(func.generate_series(1, 1_000_000).column_valued())))
        of_deliveries += between - began
        of_sums += tree_seconds(server) - between
    return Cost(delivery=of_deliveries / count * 1e6, sum=of_sums / SUMS * 1e3)


async def _measure(count: int) -> None:
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
        print(f"{count:,} deliveries to {ENDPOINTS} endpoints, {SHARED_BUFFERS} buffers")
        part, costs = count // PARTS, list[Cost]()
        await _deliver(stored, outbox, count, 10 * BATCH)  # connections, plans and caches are warm from here on
        for place in range(PARTS):
            cost = await _cost(stored, outbox, place * part, part, server=postgres.process.pid)
            costs.append(cost)
            print(
                f"deliveries {place * part:,} to {(place + 1) * part:,}: {cost.delivery:.0f} us of the database each, "
                f"a sum {cost.sum:.0f} ms"
            )
        plain = costs[-1].delivery / costs[0].delivery
        in_sums = plain * costs[0].sum / costs[-1].sum
        print(
            f"last over first: {in_sums:.2f} in sums (<= 1.2), {plain:.2f} in microseconds; "
            f"{await stored.count('delivery')} still owed"
        )
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        await database.aclose()
    finally:
        await postgres.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=1_000_000)
    chosen = parser.parse_args()
    asyncio.run(_measure(chosen.count))
