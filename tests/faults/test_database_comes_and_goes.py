"""F4: PostgreSQL restarted again and again under load, fast and immediate, and by a backend that is killed with -9."""

import asyncio
import functools
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import asyncpg

from tests.bed.faults.cluster import Cluster
from tests.bed.faults.figures import Figures, Scale
from tests.bed.faults.oracle import judge
from tests.bed.faults.producer import Change, Producer
from tests.bed.faults.witness import Sighting, Witness
from tests.bed.postgres import EmbeddedPostgres, StopMode
from tests.bed.process import until

ENDPOINTS: Final = 10
KEYS_EACH: Final = 5
EVENTS_A_SECOND: Final = 100
IN_FLIGHT: Final = 8
REPLICAS: Final = 2
# Pushes wait 10 s for their commit: only a longer outage is answered with 503.
LONG_OUTAGE_SECONDS: Final = 11.0


async def _restart(server: EmbeddedPostgres, mode: StopMode, *, down_seconds: float = 1.0) -> None:
    await server.stop(mode)
    await asyncio.sleep(down_seconds)
    await server.start()


async def _kill_a_backend(server: EmbeddedPostgres) -> None:
    """Kill the session of a replica; the server then ends all others, replays its WAL and goes on."""
    connection = await asyncpg.connect(server.url, timeout=10)
    try:
        backend: int = await connection.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'bucketpost' ORDER BY random() LIMIT 1"
        )
        os.kill(backend, signal.SIGKILL)
        await until(lambda: _is_closed(connection), within=10, what="the server ends every session")
    finally:
        connection.terminate()
    await until(lambda: _accepts(server), within=30, what="PostgreSQL accepts connections again")


async def test_a_database_that_comes_and_goes_loses_nothing(
    own_postgres: EmbeddedPostgres,
    make_cluster: Callable[..., Cluster],
    witness: Witness,
    figures: Figures,
    scale: Scale,
) -> None:
    """Lost 0, the same processes, 503 and never 500 meanwhile, and new events are delivered within 2 s of its return.

    An event counts as new here when it was acknowledged after the database accepted connections again. In short form
    5 s are given, for machines that others use.
    """
    cluster = make_cluster(own_postgres.url, replicas=REPLICAS)
    await cluster.start()
    pids = [each.process.pid for each in cluster.replicas]
    paths = [f"/{number}" for number in range(ENDPOINTS)]
    await cluster.add_receivers(witness, paths, ordering="key", max_in_flight=IN_FLIGHT)
    keys = [f"{number}/{key}.jpg" for number in range(ENDPOINTS) for key in range(KEYS_EACH)]
    producer = Producer(cluster.urls, cluster.token, keys, rate=EVENTS_A_SECOND)
    stop = asyncio.Event()
    returned_at: list[float] = []

    async with asyncio.TaskGroup() as group:
        group.create_task(producer.run(stop))
        for disturb in _disturbances(own_postgres, scale):
            await asyncio.sleep(scale.of(short=2, long=18))
            await disturb()
            returned_at.append(time.monotonic())
        await asyncio.sleep(2)
        stop.set()
    await cluster.drained(within=60)

    sightings = witness.sightings()
    verdict = judge(producer.changes, sightings, lambda key: ["/" + key.partition("/")[0]])
    firsts = [_first_delivery(each, producer.changes, sightings) for each in returned_at]
    statuses, bound = producer.tally.statuses, len(returned_at) * ENDPOINTS * IN_FLIGHT
    figures.report(
        "F4",
        {
            "outages": len(returned_at),
            **verdict.figures(),
            "bound of duplicates": bound,
            "seconds from its return to the first delivery, worst": max(firsts),
            "answers": dict(sorted(statuses.items())),
            "unanswered": producer.tally.unanswered,
        },
        {
            "nothing lost, nothing out of order, nothing made up": verdict.is_right,
            "repeated at most what was under way": verdict.duplicates <= bound,
            "first delivery within 2 s, in short form 5": max(firsts) <= scale.of(short=5, long=2),
            "200 or 503, nothing else": set(statuses) == {200, 503},
            "every outage was felt": len(cluster.logged("store.lost")) >= len(returned_at),
            "no replica ended": [each.process.pid for each in cluster.replicas] == pids
            and all(each.process.is_running for each in cluster.replicas),
        },
    )


def _disturbances(server: EmbeddedPostgres, scale: Scale) -> Sequence[Callable[[], Awaitable[None]]]:
    immediate = functools.partial(_restart, server, "immediate")
    others = [functools.partial(_restart, server, "fast"), functools.partial(_kill_a_backend, server)]
    return [
        *[immediate] * scale.of(short=2, long=10),
        *others * scale.of(short=1, long=3),
        functools.partial(_restart, server, "immediate", down_seconds=LONG_OUTAGE_SECONDS),
    ]


def _first_delivery(returned_at: float, changes: Sequence[Change], sightings: Sequence[Sighting]) -> float:
    """Give the seconds from the database's return to the first success of a change acknowledged after it."""
    new = {
        (each.key, each.number)
        for each in changes
        if each.acknowledged_at is not None and each.acknowledged_at > returned_at
    }
    moments = [each.at for each in sightings if (each.key, each.number) in new and 200 <= each.status < 300]
    return min(moments) - returned_at


async def _is_closed(connection: "asyncpg.Connection") -> bool:
    return bool(connection.is_closed())


async def _accepts(server: EmbeddedPostgres) -> bool:
    try:
        connection = await asyncpg.connect(server.url, timeout=2)
    except (OSError, asyncpg.PostgresError):
        return False
    await connection.close(timeout=2)
    return True
