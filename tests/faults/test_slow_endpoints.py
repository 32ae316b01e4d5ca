"""F12: sixty-four endpoints answer after 14 s; their neighbours are well."""

import asyncio
from collections.abc import Callable, Sequence

from tests.bed.faults.cluster import Cluster
from tests.bed.faults.figures import Figures, Scale
from tests.bed.faults.neighbours import Neighbours, sampled
from tests.bed.faults.producer import Producer
from tests.bed.faults.witness import Behaviour, Sighting, Witness

SLOW = 64
ANSWER_SECONDS = 14.0
SLOTS = 512
# Together so much more than they can take, two requests each at a time, so that each has a backlog.
EVENTS_A_SECOND = 32.0


async def test_slow_endpoints_are_not_noticed(
    postgres_url: str, make_cluster: Callable[..., Cluster], witness: Witness, figures: Figures, scale: Scale
) -> None:
    """The others' p99 is as before, and the slow ones never have more than a quarter of the slots.

    By the gateway's own count and by the receivers'.
    """
    cluster = make_cluster(postgres_url, replicas=1, env={"BUCKETPOST_DELIVERY__MAX_IN_FLIGHT": str(SLOTS)})
    await cluster.start()
    neighbours = Neighbours(cluster, witness, scale)
    await neighbours.move_in()
    slow = [f"/slow-{number}" for number in range(SLOW)]
    for path in slow:
        await witness.behave(path, Behaviour(delay_seconds=ANSWER_SECONDS))
    await cluster.add_receivers(witness, slow)
    baseline = await neighbours.watch(scale.of(short=8, long=60))
    keys = [f"{path.removeprefix('/')}/{number}.jpg" for number in range(50) for path in slow]
    producer = Producer(cluster.urls, cluster.token, keys, rate=EVENTS_A_SECOND)
    stop = asyncio.Event()

    async with (
        asyncio.TaskGroup() as group,
        sampled(cluster.first, 'bucketpost_slots_taken{lane_class="slow"}') as counted,
    ):
        group.create_task(producer.run(stop))
        watched = await neighbours.watch(scale.of(short=35, long=120))
        stop.set()

    hanging = _most_at_once([each for each in witness.sightings() if each.path in slow])
    figures.report(
        "F12",
        {
            **watched.figures(baseline),
            "slots of slow lanes at most": int(max(counted)),
            "hanging requests at most": hanging,
        },
        {
            **watched.claims(baseline, scale),
            "a quarter of the slots at most by its own count": max(counted) <= SLOTS / 4,
            "a quarter of the slots at most by what hangs": hanging <= SLOTS / 4,
            "they were busy": hanging > SLOW,
        },
    )


def _most_at_once(sightings: Sequence[Sighting]) -> int:
    moments = sorted([(each.at, 1) for each in sightings] + [(each.at + ANSWER_SECONDS, -1) for each in sightings])
    most = now = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most
