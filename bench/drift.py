"""Whether the database takes more processor time for the last 100,000 of a million deliveries than for the first.

Recorded, leased, fetched and settled through the real store, without a network, on PostgreSQL with fsync on. Everything
the server spends is counted, autovacuum and checkpoints too.
"""

import argparse
import asyncio
import os
import secrets
from dataclasses import replace

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
        part, costs = count // PARTS, []
        await _deliver(stored, outbox, count, 10 * BATCH)  # connections, plans and caches are warm from here on
        for place in range(PARTS):
            began = tree_seconds(postgres.process.pid)
            await _deliver(stored, outbox, place * part, part)
            costs.append((tree_seconds(postgres.process.pid) - began) / part * 1e6)
            print(f"deliveries {place * part:,} to {(place + 1) * part:,}: {costs[-1]:.0f} us of the database each")
        owed = await stored.count("delivery")
        print(
            f"last over first: {costs[-1] / costs[0]:.2f} (<= 1.2); {owed} still owed; "
            f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        )
        await database.aclose()
    finally:
        await postgres.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=1_000_000)
    chosen = parser.parse_args()
    asyncio.run(_measure(chosen.count))
