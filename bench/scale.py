"""Lease, fetch and settle over ten million owed deliveries on a thousand lanes: times, and pages touched by a fetch.

All through the real outbox on PostgreSQL with fsync on, in the event loop that the gateway runs in; then again while
somebody holds a snapshot open over 100,000 deliveries that are over, with the rate of deliveries with and without it in
alternate rounds. Times are the middle of several runs, one after the other: on a machine that others use, one bad
second is a run's p99.
"""

import argparse
import os
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
import uvloop
from sqlalchemy import select, update

from app.domain.delivery import Lease, Owed
from app.domain.ids import ReplicaId
from app.store.columns import now
from app.store.database import Database
from app.store.outbox import SqlOutbox
from app.store.outbox_schema import lane
from app.store.owed import fetch_statement
from bench.cpu import tree_seconds
from bench.filled import SHARED_BUFFERS, filled
from tests.bed.plans import explain
from tests.bed.stored import Stored, delivered

FETCHED = 64
SETTLED = 16
LANES_AT_ONCE = 8
DEAD = 100_000
PACED = 10_000
ROUNDS = 3
RUNS = 5
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The worst p99 of lease, fetch and settle (of the runs the middle one), without and with a snapshot held.

    `pages`: the most that a fetch touched.
    `throughput`: deliveries a second of the database's processor with the snapshot, as a part of those without.
    """

    plain_milliseconds: float
    held_milliseconds: float
    pages: int
    throughput: float


class Times:
    """How long the calls of one run took, in milliseconds, by name."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = {}

    async def of(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call and note how long it took."""
        began = time.perf_counter()
        answer = await call()
        self.taken.setdefault(name, []).append((time.perf_counter() - began) * 1000)
        return answer


async def _worst_p99(outbox: SqlOutbox, when: str, *, leases_in_all: int) -> float:
    """Measure in several runs and print them; gives the largest of their middle p99, in milliseconds."""
    runs = [Times() for _ in range(RUNS)]
    for times in runs:
        await _work(outbox, times, leases_in_all=max(2, leases_in_all // RUNS))
    worst = 0.0
    for name in runs[0].taken:
        p50 = [statistics.median(times.taken[name]) for times in runs]
        p99 = [statistics.quantiles(times.taken[name], n=100)[98] for times in runs]
        worst = max(worst, statistics.median(p99))
        print(
            f"{when}: {name} p50 {statistics.median(p50):.2f} ms, p99 {statistics.median(p99):.2f} ms, of {RUNS} runs "
            f"of {len(runs[0].taken[name])} calls {min(p99):.2f} to {max(p99):.2f}"
        )
    return worst


async def _work(outbox: SqlOutbox, times: Times, *, leases_in_all: int) -> None:
    """Lease lanes, read what each owes, settle some of it, give them back; so many times."""
    for _ in range(leases_in_all):
        leases = await times.of(f"lease of {LANES_AT_ONCE} lanes", lambda: outbox.lease(LANES_AT_ONCE))
        for lease in leases:
            owed = await times.of(f"fetch of {FETCHED}", _fetch(outbox, lease))
            await times.of(f"settle of {SETTLED}", _settle(outbox, lease, owed[:SETTLED]))
        await outbox.release(leases)


def _fetch(outbox: SqlOutbox, lease: Lease) -> Callable[[], Awaitable[Sequence[Owed]]]:
    return lambda: outbox.fetch(lease, limit=FETCHED, leave_out=())


def _settle(outbox: SqlOutbox, lease: Lease, owed: Sequence[Owed]) -> Callable[[], Awaitable[Any]]:
    return lambda: outbox.settle([delivered(lease, each) for each in owed])


async def _pages(stored: Stored, lease: Lease) -> int:
    """Count the pages of the outbox and its index that a fetch touches; the events it reads are not in it."""
    async with stored.database.read() as connection:
        statement = fetch_statement(connection, lease, limit=FETCHED, leave_out=[])
    plan, _ = await explain(stored, statement, mode="force_generic_plan")
    looks = [node for node in plan if node.get("Relation Name") == "delivery"]
    return sum(node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in looks)


async def _rate(outbox: SqlOutbox, lease: Lease, count: int, *, server: int) -> tuple[float, float]:
    """Deliver so many of one lane, and give how many a second, and how many a second of the database's processor."""
    began, spent = time.perf_counter(), tree_seconds(server)
    left = count
    while left > 0:
        owed = await outbox.fetch(lease, limit=400, leave_out=())
        await outbox.settle([delivered(lease, each) for each in owed])
        left -= len(owed)
    return count / (time.perf_counter() - began), count / (tree_seconds(server) - spent)


async def _only(stored: Stored, outbox: SqlOutbox, lane_id: int) -> Lease:
    """Lease one lane of many."""
    await stored.execute(update(lane).values(wake_at=now(), last_served=now()))
    await stored.execute(update(lane).where(lane.c.id == lane_id).values(last_served=now(-60.0)))
    (lease,) = await outbox.lease(1)
    return lease


@asynccontextmanager
async def _snapshot(url: str) -> AsyncIterator[None]:
    """Let somebody look at the outbox as it is now, all through the block: the gateway itself never does for long."""
    holder = await asyncpg.connect(url)
    async with holder.transaction(isolation="repeatable_read"):
        await holder.fetch("SELECT id FROM delivery LIMIT 1")
        yield
    await holder.close()


async def measure(*, rows: int, lanes: int, calls: int, dead: int) -> Found:
    """Measure over so many rows and lanes, by so many leases of a few lanes; then under a snapshot over dead rows."""
    began = time.perf_counter()
    async with filled(rows=rows, lanes=lanes, deep=(ROUNDS + 1) * dead + (2 * ROUNDS + 1) * PACED) as (url, server):
        database = Database(url, command_seconds=None)
        stored, outbox = Stored(database), SqlOutbox(database, ReplicaId(secrets.token_bytes(16)), lease_seconds=600)
        print(f"{rows:,} owed over {lanes:,} lanes in {time.perf_counter() - began:.0f} s; {SHARED_BUFFERS} buffers")
        await _work(outbox, Times(), leases_in_all=10)
        plain = await _worst_p99(outbox, "plain", leases_in_all=calls)
        deep = await _only(stored, outbox, lanes + 1)
        alone, burst = await _lease_of(stored, lanes), await _lease_of(stored, 1)
        print(
            f"pages of a fetch of {FETCHED}: in bursts {await _pages(stored, burst)}, alone "
            f"{await _pages(stored, alone)}, in a row {await _pages(stored, deep)}"
        )
        pages = [await _pages(stored, deep)]
        free, held = [], []
        for _ in range(ROUNDS):
            free.append(await _rate(outbox, deep, PACED, server=server))
            async with _snapshot(url):
                await _rate(outbox, deep, dead, server=server)
                pages.append(await _pages(stored, deep))
                print(f"snapshot held over {dead:,}: pages of a fetch {pages[-1]}")
                held.append(await _rate(outbox, deep, PACED, server=server))
        async with _snapshot(url):
            await _rate(outbox, deep, dead, server=server)
            under_snapshot = await _worst_p99(outbox, "held", leases_in_all=calls)
        for place, name in enumerate(("deliveries/s", "deliveries/s of the database's processor")):
            without, with_ = (statistics.median(each[place] for each in rates) for rates in (free, held))
            print(f"{name}: free {without:,.0f}, held {with_:,.0f}, ratio {with_ / without:.2f} (>= 0.9)")
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        await database.aclose()
    return Found(
        plain_milliseconds=plain,
        held_milliseconds=under_snapshot,
        pages=max(pages),
        throughput=statistics.median(rate for _, rate in held) / statistics.median(rate for _, rate in free),
    )


async def _lease_of(stored: Stored, lane_id: int) -> Lease:
    async with stored.database.read() as connection:
        row = (await connection.execute(select(lane).where(lane.c.id == lane_id))).one()
    return Lease(lane_id=row.id, endpoint_id=row.endpoint_id, fence=row.fence)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--lanes", type=int, default=1_000)
    parser.add_argument(
        "--calls", type=int, default=1_000, help="leases of 8 lanes; each lane is read and settled once"
    )
    chosen = parser.parse_args()
    uvloop.run(measure(rows=chosen.rows, lanes=chosen.lanes, calls=chosen.calls, dead=DEAD))
