"""F27: the schema upgraded and taken back under load, with replicas of both versions at work on it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Final

import asyncpg

from app.store.schema import REVISION
from tests.bed.faults.cluster import Cluster
from tests.bed.faults.figures import Figures, Scale
from tests.bed.faults.oracle import judge
from tests.bed.faults.producer import Producer
from tests.bed.faults.witness import Witness
from tests.bed.next_version import NEXT_REVISION, make_next_version
from tests.bed.process import until

ENDPOINTS: Final = 8
KEYS_EACH: Final = 5
EVENTS_A_SECOND: Final = 60
REPLICAS: Final = 2
# Somebody goes on to read the outbox for so long when the migration stands behind: a dump, or a curious person.
READ_SECONDS: Final = 3.0
MIGRATION_WAITS: Final = """
SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND (mode = 'AccessExclusiveLock' OR locktype = 'virtualxid'))
"""
# Replicas only: whoever waits for the strongest lock or for another's snapshot is the migration itself.
WAITS: Final = """
SELECT extract(epoch FROM clock_timestamp() - waitstart)::float8, pid FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE NOT granted AND waitstart IS NOT NULL AND datname = current_database()
AND mode <> 'AccessExclusiveLock' AND locktype <> 'virtualxid'
"""


async def test_an_upgrade_and_the_way_back_lose_nothing(  # noqa: PLR0913, PLR0917 -- the parts of the bed
    postgres_url: str,
    make_cluster: Callable[..., Cluster],
    witness: Witness,
    figures: Figures,
    scale: Scale,
    tmp_path: Path,
) -> None:
    """Lost 0, and no statement of a replica waits for more than 2 s, though the outbox is read for longer than that."""
    cluster = make_cluster(postgres_url, replicas=REPLICAS)
    await cluster.start()
    new = make_next_version(tmp_path / "next")
    paths = [f"/{number}" for number in range(ENDPOINTS)]
    await cluster.add_receivers(witness, paths, ordering="key")
    keys = [f"{number}/{key}.jpg" for number in range(ENDPOINTS) for key in range(KEYS_EACH)]
    producer = Producer(cluster.urls, cluster.token, keys, rate=EVENTS_A_SECOND)
    stop = asyncio.Event()
    rest = scale.of(short=1, long=10)
    revisions = []

    async with asyncio.TaskGroup() as group, _waits(postgres_url) as waits:
        sending = group.create_task(producer.run(stop))
        await asyncio.sleep(rest)
        newcomer = cluster.make(name="newcomer", env=new)
        async with _reading(postgres_url):
            await newcomer.run("migrate", within=60)
        revisions.append(await _revision(postgres_url))
        await asyncio.sleep(rest)
        await _replace(cluster, new)
        await asyncio.sleep(rest)
        async with _reading(postgres_url):
            await newcomer.run("migrate", "--to", REVISION, within=60)
        revisions.append(await _revision(postgres_url))
        await asyncio.sleep(rest)
        await _replace(cluster, {})
        await asyncio.sleep(rest)
        stop.set()
        await sending
    await cluster.drained(within=60)

    verdict = judge(producer.changes, witness.sightings(), lambda key: ["/" + key.partition("/")[0]])
    figures.report(
        "F27",
        {
            **verdict.figures(),
            "longest wait of a statement, seconds": max(waits, default=0.0),
            "answers": dict(sorted(producer.tally.statuses.items())),
            "unanswered": producer.tally.unanswered,
        },
        {
            "nothing lost, nothing out of order, nothing made up": verdict.is_right,
            "there and back": revisions == [NEXT_REVISION, REVISION],
            "no statement waits for more than 2 s": max(waits, default=0.0) <= 2,
            "the migrations met a table in use": max(waits, default=0.0) > 0,
            "nothing repeated": verdict.duplicates == 0,
            "200 or 503, nothing else": set(producer.tally.statuses) <= {200, 503},
        },
    )


async def _replace(cluster: Cluster, env: Mapping[str, str]) -> None:
    """Put another version in the place of each replica, one after the other; the newcomer first."""
    leaving = list(cluster.replicas)
    for number, old in enumerate(leaving):
        await cluster.add(f"{'new' if env else 'old'}-{number}", env=env)
        await cluster.retire(old)


@contextlib.asynccontextmanager
async def _reading(url: str) -> AsyncIterator[None]:
    """Read the outbox in a transaction, until a while after a migration inside the block has to wait for that."""
    reader = await asyncpg.connect(url, timeout=10)
    try:
        await reader.execute("BEGIN; SELECT count(*) FROM delivery; SELECT count(*) FROM lane")
        ending = asyncio.create_task(_read_on(reader))
        yield
        await ending
    finally:
        await reader.close(timeout=10)


async def _read_on(reader: asyncpg.Connection) -> None:
    await until(lambda: _migration_waits(reader), within=60, what="the migration waits for the reader")
    await asyncio.sleep(READ_SECONDS)
    await reader.execute("COMMIT")


async def _migration_waits(reader: asyncpg.Connection) -> bool:
    return bool(await reader.fetchval(MIGRATION_WAITS))


@contextlib.asynccontextmanager
async def _waits(url: str) -> AsyncIterator[list[float]]:
    """Look all the time at how long statements of replicas have waited for a lock."""
    seen: list[float] = []
    connection = await asyncpg.connect(url, timeout=10)

    async def look() -> None:
        while True:
            seen.extend(row[0] for row in await connection.fetch(WAITS))
            await asyncio.sleep(0.05)

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
        await asyncio.wait((looking,))
        await connection.close(timeout=10)


async def _revision(url: str) -> str:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return str(await connection.fetchval("SELECT version_num FROM alembic_version"))
    finally:
        await connection.close(timeout=10)
