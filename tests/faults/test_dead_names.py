"""F13: the name server of twenty endpoints never answers; the neighbours' names are told at once."""

import asyncio
from collections.abc import Callable

from tests.bed.faults.cluster import Cluster
from tests.bed.faults.figures import Figures, Scale
from tests.bed.faults.neighbours import Neighbours
from tests.bed.faults.producer import Producer
from tests.bed.faults.witness import Witness
from tests.bed.names import NameServer

DEAD = 20
EVENTS_A_SECOND = 10.0


async def test_names_that_cannot_be_looked_up_are_not_noticed(
    postgres_url: str, make_cluster: Callable[..., Cluster], witness: Witness, figures: Figures, scale: Scale
) -> None:
    """The others' p99 is as before, though they are called by names too, and nothing goes to the dead."""
    async with NameServer() as server:
        cluster = make_cluster(postgres_url, replicas=1, env={"BUCKETPOST_DELIVERY__NAMESERVERS": server.address})
        await cluster.start()
        neighbours = Neighbours(cluster, witness, scale)
        await neighbours.move_in(host="receivers.well.test")
        dead = [f"/dead-{number}" for number in range(DEAD)]
        for path in dead:
            await cluster.add_receivers(witness, [path], host=f"{path.removeprefix('/')}.dead.test")
        baseline = await neighbours.watch(scale.of(short=8, long=60))
        keys = [f"{path.removeprefix('/')}/{number}.jpg" for number in range(50) for path in dead]
        producer = Producer(cluster.urls, cluster.token, keys, rate=EVENTS_A_SECOND)
        stop = asyncio.Event()

        async with asyncio.TaskGroup() as group:
            group.create_task(producer.run(stop))
            watched = await neighbours.watch(scale.of(short=20, long=120))
            stop.set()

    tried = {each["endpoint_id"] for each in cluster.logged("delivery.attempted") if each["outcome"] == "unreachable"}
    figures.report(
        "F13",
        {
            **watched.figures(baseline),
            "questions without an answer": sum(count for name, count in server.asked.items() if ".dead." in name),
            "questions of the healthy": sum(count for name, count in server.asked.items() if ".well." in name),
        },
        {
            **watched.claims(baseline, scale),
            "each dead name was tried": len(tried) == DEAD,
            "nothing went to the dead": not any(each.path in dead for each in witness.sightings()),
        },
    )
