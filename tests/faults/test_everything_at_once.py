"""F9: kills, stalls and database restarts, alone and together, on ordered receivers that often fail, one key always.

The key that always fails holds back only itself: its changes die one after the other, or stay owed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from tests.bed.faults.cluster import Cluster
from tests.bed.faults.figures import Figures, Scale
from tests.bed.faults.oracle import judge, percentile
from tests.bed.faults.producer import Change, Producer
from tests.bed.faults.witness import GOOD, Behaviour, Witness
from tests.bed.postgres import EmbeddedPostgres

ENDPOINTS = 5
KEYS_EACH = 4
EVENTS_A_SECOND = 20
FAILING_SHARE = 0.3
POISONED = tuple(f"{number}/poison.jpg" for number in range(ENDPOINTS))
# Seven tries in three seconds or so: then a change is dead and the next one of its object has its turn. The first ones
# come fast, so that bad luck alone keeps hardly any of the others waiting for two seconds.
SCHEDULE = (0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
LEASE_SECONDS = 4
STALL_SECONDS = LEASE_SECONDS * 1.6
# A fault, and what it takes until the lanes are served again: the lease, the sweep, and what piled up meanwhile.
AFTERMATH_SECONDS = LEASE_SECONDS + 4.0
QUIET_SECONDS = 8.0
# What was sent so long before a fault may be caught by it.
UNDER_WAY_SECONDS = 3.0


async def test_the_order_holds_under_everything_at_once(
    own_postgres: EmbeddedPostgres,
    make_cluster: Callable[..., Cluster],
    witness: Witness,
    figures: Figures,
    scale: Scale,
) -> None:
    """Lost 0, out of order 0; between the faults the other keys are as quick as if the failing one were not there."""
    cluster = make_cluster(own_postgres.url, env={"BUCKETPOST_DELIVERY__LEASE_SECONDS": str(LEASE_SECONDS)})
    await cluster.start()
    await witness.behave("*", Behaviour(failing_share=FAILING_SHARE, failing_keys=POISONED))
    paths = [f"/{number}" for number in range(ENDPOINTS)]
    endpoints = await cluster.add_receivers(witness, paths, ordering="key", schedule=SCHEDULE)
    good = [f"{number}/{key}.jpg" for number in range(ENDPOINTS) for key in range(KEYS_EACH - 1)]
    producer = Producer(cluster.urls, cluster.token, [*good, *POISONED], rate=EVENTS_A_SECOND, batch=4)
    stop = asyncio.Event()
    faults: list[tuple[float, float]] = []

    async def kill() -> None:
        await cluster.replicas[1].kill()
        await asyncio.sleep(1)
        cluster.replicas[1].start()
        await cluster.replicas[1].ready(within=60)

    async def stall() -> None:
        cluster.stall(cluster.replicas[2])
        await asyncio.sleep(STALL_SECONDS)
        cluster.go_on(cluster.replicas[2])

    async def restart() -> None:
        await own_postgres.restart("immediate")
        await cluster.first.ready(within=60)

    async def all_at_once() -> None:
        async with asyncio.TaskGroup() as together:
            for each in (kill, stall, restart):
                together.create_task(each())

    alone: tuple[Callable[[], Awaitable[None]], ...] = (kill, stall, restart)
    rounds = (all_at_once, *alone, all_at_once) if scale.is_long else (all_at_once, all_at_once)
    async with asyncio.TaskGroup() as group:
        group.create_task(producer.run(stop))
        await asyncio.sleep(QUIET_SECONDS)
        for _ in range(scale.of(short=1, long=3)):
            for fault in rounds:
                began_at = time.monotonic()
                await fault()
                faults.append((began_at, time.monotonic() + AFTERMATH_SECONDS))
                await asyncio.sleep(AFTERMATH_SECONDS + scale.of(short=3, long=8))
        stop.set()
    await witness.behave("*", GOOD)
    await cluster.drained(within=120)

    sightings, given_up = witness.sightings(), await cluster.given_up(endpoints)
    verdict = judge(producer.changes, sightings, _receiver, given_up=given_up)
    others = [each for each in producer.changes if each.key not in POISONED and _is_quiet(each, faults)]
    latencies = judge(others, sightings, _receiver).latencies
    latency = percentile(latencies, 0.99)
    strays = [
        (first_at, again_at)
        for first_at, again_at in verdict.repeats
        if not any(first_at <= end and began_at <= again_at for began_at, end in faults)
    ]
    dead = sum(key in POISONED for _, key, _ in given_up)
    figures.report(
        "F9",
        {
            "faults": len(faults),
            **verdict.figures(),
            "dead of the failing keys": dead,
            "dead of the others": len(given_up) - dead,
            "others between the faults": len(latencies),
            "their p99 seconds": latency,
        },
        {
            "nothing lost, nothing out of order, nothing made up": verdict.is_right,
            "nothing repeated without a fault": not strays,
            "a failing key goes on to its next change": dead > ENDPOINTS,
            "something was sent between the faults": len(latencies) > EVENTS_A_SECOND * QUIET_SECONDS / 4,
            # One held back by a failing key would wait for seconds at every change of that; a busy machine may too.
            "a failing key holds no other back": latency < scale.of(short=5, long=2),
        },
    )


def _receiver(key: str) -> list[str]:
    return ["/" + key.partition("/")[0]]


def _is_quiet(change: Change, faults: Sequence[tuple[float, float]]) -> bool:
    at = change.acknowledged_at
    return at is not None and not any(began_at - UNDER_WAY_SECONDS <= at <= end for began_at, end in faults)
