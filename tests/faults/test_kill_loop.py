"""F1: replicas killed with -9 at random, again and again, under a steady load on ordered endpoints."""

import asyncio
import random
import time
from collections.abc import Callable

from tests.bed.faults.cluster import Cluster
from tests.bed.faults.figures import Figures, Scale
from tests.bed.faults.oracle import judge, percentile, silences
from tests.bed.faults.producer import Producer
from tests.bed.faults.witness import Behaviour, Witness

ENDPOINTS = 50
KEYS_EACH = 4
EVENTS_A_SECOND = 100
IN_FLIGHT = 8
# Slow enough that a kill meets dozens of attempts under way, which another replica then repeats.
SLOWEST_SECONDS = 1.0


async def test_kills_lose_nothing_and_keep_the_order(
    postgres_url: str, make_cluster: Callable[..., Cluster], witness: Witness, figures: Figures, scale: Scale
) -> None:
    """Lost 0, out of order 0; repeated only what a kill caught under way, within its bound.

    In the long form kills are more than a lease apart, so that a silence is that of one kill: the next one can hit who
    just took the lanes over. In the short form it may.
    """
    count, lease_seconds = scale.of(short=5, long=40), scale.of(short=10, long=5)
    chance = random.Random(1)  # noqa: S311 -- a reproducible choice of moments
    cluster = make_cluster(postgres_url, env={"BUCKETPOST_DELIVERY__LEASE_SECONDS": str(lease_seconds)})
    await cluster.start()
    await witness.behave("*", Behaviour(delay_up_to_seconds=SLOWEST_SECONDS))
    paths = [f"/{number}" for number in range(ENDPOINTS)]
    await cluster.add_receivers(witness, paths, ordering="key", max_in_flight=IN_FLIGHT)
    keys = [f"{number}/{key}.jpg" for number in range(ENDPOINTS) for key in range(KEYS_EACH)]
    producer = Producer(cluster.urls, cluster.token, keys, rate=EVENTS_A_SECOND)
    stop = asyncio.Event()
    kills: list[float] = []
    held = under_way = 0

    async with asyncio.TaskGroup() as group:
        group.create_task(producer.run(stop))
        for _ in range(count):
            await asyncio.sleep(chance.uniform(2, 4) + scale.of(short=0, long=lease_seconds))
            victim = chance.choice(cluster.replicas)
            held += await victim.lanes_held()
            under_way += int(await victim.figure("bucketpost_attempts_in_flight"))
            await victim.kill()
            kills.append(time.monotonic())
            await asyncio.sleep(1)
            victim.start()
            await victim.ready(within=60)
        stop.set()
    await cluster.drained(within=60)

    sightings = witness.sightings()
    verdict = judge(producer.changes, sightings, lambda key: ["/" + key.partition("/")[0]])
    silent = [span for path in paths for span in silences(sightings, path, over=kills)]
    strays = [each for each in verdict.repeats if not any(each[0] <= kill <= each[1] for kill in kills)]
    figures.report(
        "F1",
        {
            "kills": count,
            **verdict.figures(),
            "under way at the kills": under_way,
            "repeated without a kill between": len(strays),
            "bound of duplicates": held * IN_FLIGHT,
            "p99 seconds": percentile(verdict.latencies, 0.99),
            "silences over kills p99, seconds": percentile(silent, 0.99),
            "longest": max(silent),
        },
        {
            "nothing lost, nothing out of order, nothing made up": verdict.is_right,
            "kills met attempts under way": verdict.duplicates > 0,
            "duplicates within what was under way": verdict.duplicates <= held * IN_FLIGHT,
            "nothing repeated without a kill": not strays,
            # A shared machine may take seconds to run a process, or to commit.
            "the lanes of a killed one go on within the lease and 2 s": percentile(silent, 0.99)
            <= lease_seconds + scale.of(short=8, long=2),
            "something was sent": verdict.acknowledged > count * EVENTS_A_SECOND,
        },
    )
