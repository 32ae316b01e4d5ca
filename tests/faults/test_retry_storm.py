"""F25: two hundred receivers fail together for minutes and are back at one moment."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence

from tests.bed.faults.cluster import Cluster
from tests.bed.faults.figures import Figures, Scale
from tests.bed.faults.oracle import judge
from tests.bed.faults.producer import Producer
from tests.bed.faults.witness import Behaviour, Sighting, Witness

EVENTS_AN_ENDPOINT_A_SECOND = 0.5
# Tries enough for the longest outage, none of them further apart than a small part of it.
SCHEDULE = (5.0,) * 100
# What is owed for less than this is not behind: events go on coming.
MOMENT_SECONDS = 5.0


async def test_receivers_that_come_back_together_see_no_storm(
    postgres_url: str, make_cluster: Callable[..., Cluster], witness: Witness, figures: Figures, scale: Scale
) -> None:
    """Three times the usual load at most, each asked once in its first second, all made up for in twice the outage.

    In the short form, on a machine that is shared, a process that stands still for a while makes up for it: four times
    the load and three times the outage are its bounds.
    """
    outage, endpoints = scale.of(short=30, long=300), scale.of(short=80, long=200)
    most, span = scale.of(short=4, long=3), scale.of(short=3, long=2) * outage
    usual = endpoints * EVENTS_AN_ENDPOINT_A_SECOND
    cluster = make_cluster(postgres_url, replicas=1)
    await cluster.start()
    paths = [f"/{number}" for number in range(endpoints)]
    await cluster.add_receivers(witness, paths, schedule=SCHEDULE)
    keys = [f"{number}/{key}.jpg" for key in range(5) for number in range(endpoints)]
    producer = Producer(cluster.urls, cluster.token, keys, rate=usual)
    stop = asyncio.Event()

    async with asyncio.TaskGroup() as group:
        group.create_task(producer.run(stop))
        await asyncio.sleep(2)
        await witness.behave("*", Behaviour(status=503))
        await asyncio.sleep(outage)
        back_at = time.monotonic()
        await witness.behave("*", Behaviour())
        await asyncio.sleep(2 * outage)
        stop.set()
    await cluster.drained(within=60)

    sightings = witness.sightings()
    verdict = judge(producer.changes, sightings, lambda key: ["/" + key.partition("/")[0]], is_ordered=lambda _: False)
    after = [each for each in sightings if each.at > back_at and each.status < 300]
    acknowledged = {(each.key, each.number): each.acknowledged_at or each.sent_at for each in producer.changes}
    behind = [each.at for each in after if each.at - acknowledged[each.key, each.number] > MOMENT_SECONDS]
    drained = max(behind, default=back_at) - back_at
    busiest = max(Counter(int(each.at - back_at) for each in after).values())
    at_first = max(_in_the_first_second([each for each in after if each.path == path]) for path in paths)
    figures.report(
        "F25",
        {
            "outage seconds": outage,
            **verdict.figures(),
            "usual requests a second": usual,
            "most after it": busiest,
            "drained after seconds": drained,
            "most of one endpoint in its first second": at_first,
        },
        {
            "nothing lost, nothing made up": verdict.is_right,
            f"{most} times the usual load at most": busiest <= most * usual,
            f"drained within {span} s": drained <= span,
            "each endpoint asked once in its first second": at_first == 1,
            "there was a backlog": len(behind) > outage * usual / 2,
        },
    )


def _in_the_first_second(sightings: Sequence[Sighting]) -> int:
    return sum(each.at < sightings[0].at + 1.0 for each in sightings)
