"""F3: replicas that stand still past their leases, as a machine that hangs does, and go on as if nothing had been."""

import asyncio
from collections.abc import Callable

from tests.bed.faults.cluster import Cluster
from tests.bed.faults.figures import Figures, Scale
from tests.bed.faults.oracle import judge
from tests.bed.faults.producer import Producer
from tests.bed.faults.witness import Behaviour, Witness
from tests.bed.gateway import Gateway
from tests.bed.process import until
from tests.bed.wiring import FAST_RETRIES

ENDPOINTS = 24
KEYS_EACH = 4
EVENTS_A_SECOND = 48
LEASE_SECONDS = 5
STALL_SECONDS = LEASE_SECONDS * 1.6
SLOW_SECONDS = 1.0
# A third fails, so that what is under way when a replica is stopped ends in retries as well as in successes.
ILL = Behaviour(delay_seconds=SLOW_SECONDS / 2, delay_up_to_seconds=SLOW_SECONDS, failing_share=0.33)
# While one stands still nothing succeeds any more: a delivery that ends now was ended by what the stalled one knew.
DOWN = Behaviour(failing_share=1.0)
# No delivery dies of the seconds in which nothing succeeds.
PATIENT_RETRIES = (*FAST_RETRIES, 5.0, 5.0, 5.0, 5.0, 5.0)
REFUSED = "bucketpost_settlements_refused_total"
LOST = "bucketpost_leases_lost_total"


async def test_a_stalled_replica_overwrites_nothing(
    postgres_url: str, make_cluster: Callable[..., Cluster], witness: Witness, figures: Figures, scale: Scale
) -> None:
    """Its retries are refused, its successes count, nothing is lost or out of order."""
    cluster = make_cluster(postgres_url, env={"BUCKETPOST_DELIVERY__LEASE_SECONDS": str(LEASE_SECONDS)})
    await cluster.start()
    await witness.behave("*", ILL)
    paths = [f"/{number}" for number in range(ENDPOINTS)]
    # In order a send ends with its lease, so that what it gave may never be heard of; without one it goes on.
    in_order, others = paths[::2], paths[1::2]
    endpoints = await cluster.add_receivers(witness, in_order, ordering="key", schedule=PATIENT_RETRIES)
    endpoints |= await cluster.add_receivers(witness, others, ordering="none", schedule=PATIENT_RETRIES)
    keys = [f"{number}/{key}.jpg" for number in range(ENDPOINTS) for key in range(KEYS_EACH)]
    producer = Producer(cluster.urls, cluster.token, keys, rate=EVENTS_A_SECOND)
    stop = asyncio.Event()
    stalls = scale.of(short=2, long=9)
    accepted = 0

    async with asyncio.TaskGroup() as group:
        group.create_task(producer.run(stop))
        for number in range(stalls):
            await asyncio.sleep(4)
            accepted += await _stall(cluster, cluster.replicas[-1 - number % 2], witness)
        stop.set()
    await witness.behave("*", Behaviour())
    await cluster.drained(within=120)

    refused = sum([await each.figure(REFUSED) for each in cluster.replicas])
    given_up = await cluster.given_up(endpoints)
    verdict = judge(
        producer.changes,
        witness.sightings(),
        lambda key: ["/" + key.partition("/")[0]],
        given_up=given_up,
        is_ordered=lambda path: path in in_order,
    )
    figures.report(
        "F3",
        {
            "stalls": stalls,
            **verdict.figures(),
            "dead": len(given_up),
            "leases lost": int(sum([await each.figure(LOST) for each in cluster.replicas])),
            "retries refused": int(refused),
            "late successes accepted": accepted,
        },
        {
            "nothing lost, nothing out of order, nothing made up": verdict.is_right,
            "retries of the stalled ones were refused": refused > 0,
            "successes of the stalled ones counted": accepted > 0,
            "each stall was logged": len(cluster.logged("lease.lost")) >= stalls,
        },
    )


async def _stall(cluster: Cluster, replica: Gateway, witness: Witness) -> int:
    """Stop a replica mid-batch and let it go on when its lanes are others'; gives how many late successes counted."""
    lost_before, told_before = await replica.figure(LOST), len(_late_successes(replica))
    await witness.behave("*", DOWN)
    cluster.stall(replica)
    await asyncio.sleep(STALL_SECONDS)
    cluster.go_on(replica)

    async def has_lost() -> bool:
        return await replica.figure(LOST) > lost_before

    await until(has_lost, within=10, what="the stalled replica sees that its leases are lost")
    late = _late_successes(replica)[told_before:]
    for delivery_id in late:
        await until(lambda each=delivery_id: _is_delivered(cluster, each), within=5, what=f"{delivery_id} is delivered")  # type: ignore[misc]  # bound at once
    await witness.behave("*", ILL)
    return len(late)


def _late_successes(replica: Gateway) -> list[str]:
    """List what it heard of as delivered only after it had stood still: the attempt took as long as the stall."""
    return [
        line["delivery_id"]
        for line in replica.logged("delivery.attempted")
        if line["outcome"] == "delivered" and line["latency_ms"] >= STALL_SECONDS * 1000
    ]


async def _is_delivered(cluster: Cluster, delivery_id: str) -> bool:
    shown = await cluster.first.api.get(f"/deliveries/{delivery_id}")
    return bool(shown["status"] == "delivered")
