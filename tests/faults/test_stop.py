"""A stop while the database hangs: the process ends within its grace all the same."""

import asyncio
from collections.abc import Callable
from typing import Final

from tests.bed.faults.cluster import Cluster
from tests.bed.faults.producer import Producer
from tests.bed.faults.proxy import ChaosProxy, to_postgres
from tests.bed.faults.witness import Behaviour, Witness
from tests.bed.postgres import EmbeddedPostgres
from tests.bed.process import until

GRACE_SECONDS: Final = 5
# For a machine that others use: the signal to be heard, the process to be gone.
MARGIN_SECONDS: Final = 1.0
PATHS: Final = ["/0", "/1", "/2", "/3"]


async def test_a_stop_ends_within_the_grace_though_the_database_hangs(
    own_postgres: EmbeddedPostgres, make_cluster: Callable[..., Cluster], witness: Witness
) -> None:
    """With attempts under way whose outcome nobody can write down any more; they stay owed."""
    async with ChaosProxy(to_postgres(own_postgres.data)) as network:
        url = f"postgresql://postgres@127.0.0.1:{network.port}/postgres"
        env = {"BUCKETPOST_SERVER__STOP_SECONDS": str(GRACE_SECONDS)}
        cluster = make_cluster(url, replicas=1, env=env)
        await cluster.start()
        await witness.behave("*", Behaviour(delay_seconds=2.0))
        await cluster.add_receivers(witness, PATHS)
        producer = Producer(cluster.urls, cluster.token, [f"{path[1:]}/cat.jpg" for path in PATHS], rate=20)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(producer.run(stop))
            await until(lambda: _is_at_work(witness), within=30, what="attempts are under way")
            stop.set()
        network.freeze()
        ended = await cluster.first.terminate(within=60)

    assert ended.status == 0
    assert ended.seconds <= GRACE_SECONDS + MARGIN_SECONDS


async def _is_at_work(witness: Witness) -> bool:
    return len(witness.sightings()) >= len(PATHS)
