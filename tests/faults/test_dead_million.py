"""F11: an endpoint is owed a million deliveries and answers nothing, and is deleted; its neighbours are well."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from app.domain.ids import parse_id
from tests.bed.faults.cluster import Cluster
from tests.bed.faults.figures import Figures, Scale
from tests.bed.faults.neighbours import Neighbours
from tests.bed.faults.producer import Producer
from tests.bed.faults.witness import Behaviour, Witness
from tests.bed.process import until

HOLE = "/hole"
# A probe that fails at once would cost nothing; this long one hangs.
TIMEOUT_SECONDS = 2.0
# A probe that began just before the deletion may have gone out.
PROBED_SECONDS = 1.0
# More of what a real event owes: the same event again and again, under keys that are made up.
MULTIPLY = """
INSERT INTO delivery (tenant_id, lane_id, delivery_key, endpoint_id, subscription_id, event_day, event_id, order_key,
    tries, failures, blocks, due_at, owed_at, created_at)
SELECT tenant_id, lane_id, decode(md5(number::text), 'hex'), endpoint_id, subscription_id, event_day, event_id,
    order_key, 0, 0, false, now(), now(), now()
FROM (SELECT * FROM delivery ORDER BY id LIMIT 1) AS pattern, generate_series(1, $1::integer) AS number
"""


async def test_a_dead_endpoint_with_a_million_owed_is_not_noticed(
    postgres_url: str, make_cluster: Callable[..., Cluster], witness: Witness, figures: Figures, scale: Scale
) -> None:
    """The others' p99 is as before, also while the dead one is deleted, which is asked once an interval until then."""
    rows = scale.of(short=50_000, long=1_000_000)
    cluster = make_cluster(postgres_url, replicas=1)
    await cluster.start()
    await witness.behave(HOLE, Behaviour(is_silent=True))
    neighbours = Neighbours(cluster, witness, scale)
    await neighbours.move_in()
    made = await cluster.add_receivers(witness, [HOLE], timeout_seconds=TIMEOUT_SECONDS)
    baseline = await neighbours.watch(scale.of(short=8, long=60))

    await Producer(cluster.urls, cluster.token, ["hole/1.jpg"], rate=1, batch=1).run_for(0.5)
    await _multiply(postgres_url, rows)
    await until(lambda: _is_suspended(cluster), within=60, what="the breaker of the dead endpoint")
    watched = await neighbours.watch(scale.of(short=20, long=120))

    asked = _asked(cluster, witness, made[HOLE])
    await cluster.first.api.delete(f"/endpoints/{made[HOLE]['id']}")
    deleted_at = time.monotonic()
    while_deleted = await neighbours.watch(scale.of(short=8, long=120))
    await until(lambda: _owes_nothing(postgres_url, made[HOLE]), within=rows / 500, what="all of it is cancelled")
    cancelled_seconds = time.monotonic() - deleted_at
    asked_late = [each for each in witness.sightings() if each.path == HOLE and each.at > deleted_at + PROBED_SECONDS]
    figures.report(
        "F11",
        {
            "owed to the dead one": rows,
            **watched.figures(baseline),
            "probes": asked.probes,
            "intervals": asked.intervals,
            "p99 ms while it is deleted": 1000 * while_deleted.p99,
            "all cancelled after seconds": cancelled_seconds,
        },
        {
            **watched.claims(baseline, scale),
            "one probe an interval at most": asked.probes <= asked.intervals,
            "none while it is let be": asked.in_intervals == 0,
            "it was probed": asked.probes > 0,
            **{f"while it is deleted, {each}": holds for each, holds in while_deleted.claims(baseline, scale).items()},
            "each ends as cancelled": await _cancelled(postgres_url, made[HOLE]) >= rows,
            "it is not asked any more": not asked_late,
        },
    )


async def _multiply(database_url: str, rows: int) -> None:
    connection = await asyncpg.connect(database_url, timeout=10)
    try:
        await connection.execute(MULTIPLY, rows, timeout=300)
    finally:
        await connection.close(timeout=10)


async def _owes_nothing(database_url: str, endpoint: dict[str, Any]) -> bool:
    await asyncio.sleep(0.5)
    return await _count(database_url, "SELECT count(*) FROM delivery WHERE endpoint_id = $1", endpoint) == 0


async def _cancelled(database_url: str, endpoint: dict[str, Any]) -> int:
    return await _count(
        database_url, "SELECT count(*) FROM attempt WHERE endpoint_id = $1 AND ended = 'cancelled'", endpoint
    )


async def _count(database_url: str, statement: str, endpoint: dict[str, Any]) -> int:
    connection = await asyncpg.connect(database_url, timeout=10)
    try:
        count: int = await connection.fetchval(statement, parse_id("ep", endpoint["id"]), timeout=60)
        return count
    finally:
        await connection.close(timeout=10)


async def _is_suspended(cluster: Cluster) -> bool:
    await asyncio.sleep(0.2)
    return bool(cluster.logged("lane.suspended"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How often an endpoint was asked since it was first suspended: in all, and while it was to be let be."""

    probes: int
    in_intervals: int
    intervals: int


def _asked(cluster: Cluster, witness: Witness, endpoint: dict[str, Any]) -> Asked:
    to_monotonic = time.monotonic() - time.time()
    spans = [
        (datetime.fromisoformat(line["timestamp"]).timestamp() + to_monotonic, float(line["seconds"]))
        for line in cluster.logged("lane.suspended")
        if line["endpoint_id"] == endpoint["id"]
    ]
    since = spans[0][0]
    moments = [each.at for each in witness.sightings() if each.path == HOLE and each.at > since]
    return Asked(
        probes=len(moments),
        # The line is written a little before the span begins.
        in_intervals=sum(start < at < start + seconds for at in moments for start, seconds in spans),
        intervals=sum(start + seconds < time.monotonic() for start, seconds in spans),
    )
