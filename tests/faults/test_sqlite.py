"""F28: one process on SQLite: killed with -9 again and again, started twice, out of room on its disk."""

import asyncio
import random
import resource
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from tests.bed.faults.cluster import Cluster
from tests.bed.faults.figures import Figures, Scale
from tests.bed.faults.oracle import judge
from tests.bed.faults.producer import Producer
from tests.bed.faults.witness import Witness
from tests.bed.gateway import Gateway
from tests.bed.process import until

ENDPOINTS: Final = 5
KEYS_EACH: Final = 10
EVENTS_A_SECOND: Final = 50
IN_FLIGHT: Final = 8
# What is left on the disk when it is nearly full.
LEFT_BYTES: Final = 65_536


async def test_kills_and_a_full_disk_lose_nothing(
    sqlite_url: str, make_cluster: Callable[..., Cluster], witness: Witness, figures: Figures, scale: Scale
) -> None:
    """Lost 0; a second process is refused; without room pushes are answered 503, with room again it goes on.

    The disk is full for this process alone: no file may grow past a size (RLIMIT_FSIZE), which needs no root. SQLite
    meets it as it meets a full disk, in the middle of a write, to the log or to the database.
    """
    kills = scale.of(short=20, long=100)
    chance = random.Random(28)  # noqa: S311 -- a reproducible choice of moments
    cluster = make_cluster(sqlite_url, replicas=1, env={"BUCKETPOST_LOG__LEVEL": "warning"})
    await cluster.start()
    gateway = cluster.first
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    paths = [f"/{number}" for number in range(ENDPOINTS)]
    await cluster.add_receivers(witness, paths, ordering="key", max_in_flight=IN_FLIGHT)
    keys = [f"{number}/{key}.jpg" for number in range(ENDPOINTS) for key in range(KEYS_EACH)]
    producer = Producer(cluster.urls, cluster.token, keys, rate=EVENTS_A_SECOND)
    stop = asyncio.Event()

    async with asyncio.TaskGroup() as group:
        sending = group.create_task(producer.run(stop))
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(0.05, 0.8))
            await gateway.kill()
            gateway.start()
            if chance.random() < 0.8:  # else the next kill may hit it before it is ready
                await gateway.ready(within=60)
        await gateway.ready(within=60)
        is_sound_after_kills = _is_sound(file)
        refusal = await _start_another(cluster)
        refused_before = producer.tally.statuses[503]
        await _fill_the_disk(gateway, producer, file)
        refused = producer.tally.statuses[503] - refused_before
        await until(_answered_more(producer, 200), within=30, what="pushes are taken again")
        stop.set()
        await sending
    await cluster.drained(within=60)
    await gateway.terminate()

    verdict = judge(producer.changes, witness.sightings(), lambda key: ["/" + key.partition("/")[0]])
    statuses, bound = producer.tally.statuses, kills * ENDPOINTS * IN_FLIGHT
    figures.report(
        "F28",
        {
            "kills": kills,
            **verdict.figures(),
            "bound of duplicates": bound,
            "answers": dict(sorted(statuses.items())),
            "refused when full": refused,
        },
        {
            "nothing lost, nothing out of order, nothing made up": verdict.is_right,
            "repeated at most what was under way": verdict.duplicates <= bound,
            "a second process is refused with a sentence": refusal[0] == 1
            and "Another `bucketpost serve`" in refusal[1],
            "without room: 503": refused > 0 and set(statuses) <= {200, 503},
            "the file is sound": is_sound_after_kills and _is_sound(file),
        },
    )


async def _start_another(cluster: Cluster) -> tuple[int, str]:
    """Start a second process on the same file; gives its status and what it said."""
    another = cluster.make("another")
    another.start()
    status = await another.process.end(within=60)
    return status, another.process.stderr()


async def _fill_the_disk(gateway: Gateway, producer: Producer, file: Path) -> None:
    """Leave no room until pushes are refused, then make room again."""
    files = (file, file.with_name(f"{file.name}-wal"), gateway.process.stderr_file)
    limit = max(each.stat().st_size for each in files if each.exists()) + LEFT_BYTES
    before = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    await until(_answered_more(producer, 503), within=90, what="pushes are refused")
    assert await gateway.status_of("/healthz") == 200
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, before)


def _answered_more(producer: Producer, status: int) -> Callable[[], Awaitable[bool]]:
    before = producer.tally.statuses[status]

    async def is_so() -> bool:
        return producer.tally.statuses[status] > before

    return is_so


def _is_sound(file: Path) -> bool:
    connection = sqlite3.connect(file, timeout=10)
    try:
        return bool(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)])
    finally:
        connection.close()
