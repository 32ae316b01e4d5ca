"""What is over costs nobody anything, also while somebody holds a snapshot open that still sees it; on PostgreSQL.

And the statements that write take their rows by an index, whatever the planner believes of the tables.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import event as hook
from sqlalchemy import select, text, update

from app.domain.configuration import Ordering
from app.domain.delivery import InOrder, Lease, Owed
from app.store.low_water import below_statement
from app.store.outbox import SqlOutbox
from app.store.outbox_schema import delivery, lane
from app.store.owed import fetch_statement, next_statement
from app.store.sweep import sleeping_statement
from tests.bed.plans import explain, nodes
from tests.bed.stored import Stored, dead, delivered, failed, heard, make_events, only_lease
from tests.contract.test_plans import MODES, STATISTICS

BACKLOG = 20_000
SLICE = 2_000
OVER = 4_000
ROWS = 64
# The way down the index, its pages and those of the rows handed out.
BUFFERS_OF_A_FETCH = 20
# For the one before each of them: the way down another index, and past what the last settle took out.
BUFFERS_OF_ITS_ORDER = ROWS * 6
ORDERINGS = pytest.mark.parametrize("ordering", ["none", "key", "endpoint"])

MORE_DELIVERIES = """
INSERT INTO delivery (tenant_id, lane_id, delivery_key, endpoint_id, subscription_id, event_day, event_id, order_key,
    tries, failures, blocks, due_at, owed_at, created_at)
SELECT tenant_id, lane_id, uuid_send(gen_random_uuid()), endpoint_id, subscription_id, event_day, event_id,
    CASE WHEN CAST(:spread AS boolean) THEN n % 10 ELSE order_key END, 0, 0, false, due_at, owed_at, created_at
FROM (SELECT * FROM delivery WHERE lane_id = :lane_id LIMIT 1) AS one, generate_series(1, CAST(:rows AS integer)) AS n
"""


async def backlog(stored: Stored, *, ordering: Ordering, rows: int) -> tuple[SqlOutbox, Lease]:
    """Owe much on one lane, due since the same moment an hour ago, and something on others; gives who holds it."""
    lane_id, _ = await stored.add_subscribed(ordering=ordering)
    for _ in range(5):
        await stored.add_subscribed()
    await stored.store.record([heard(*make_events(1))])
    more = text(MORE_DELIVERIES).bindparams(lane_id=lane_id, rows=SLICE, spread=ordering == "key")
    await stored.execute(update(delivery).values(due_at=delivery.c.created_at - text("interval '1 hour'")))
    for _ in range(rows // SLICE):
        await stored.execute(more)
    await stored.execute(update(lane).where(lane.c.id != lane_id).values(is_stopped=True))
    outbox = stored.outbox()
    return outbox, await only_lease(outbox)


async def fetched(outbox: SqlOutbox, lease: Lease, *, ordering: Ordering) -> Sequence[Owed]:
    """Fetch as the relay does."""
    if ordering == "none":
        return await outbox.fetch(lease, limit=400, leave_out=())
    return (await outbox.fetch_in_order(lease, limit=400, leave_out=(), how=InOrder())).rows


async def deliver(outbox: SqlOutbox, lease: Lease, count: int, *, ordering: Ordering) -> None:
    """Deliver so many, as the relay does."""
    while count > 0:
        owed = await fetched(outbox, lease, ordering=ordering)
        await outbox.settle([delivered(lease, each) for each in owed])
        count -= len(owed)


@asynccontextmanager
async def held_snapshot(stored: Stored) -> AsyncIterator[None]:
    """Let somebody look at the outbox as it is now, all through the block."""
    async with stored.database.engine.connect() as holder:
        await holder.execution_options(isolation_level="REPEATABLE READ")
        await holder.execute(select(delivery.c.id).limit(1))
        yield
        await holder.rollback()


def buffers(plan: list[dict[str, Any]], *indexes: str) -> int:
    """Count the pages touched by looks at the outbox through these indexes."""
    looks = [node for node in plan if node.get("Index Name") in indexes]
    return sum(node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in looks)


def looks_at_the_outbox(plan: list[dict[str, Any]]) -> set[str]:
    """Name the ways in which the outbox is looked at."""
    return {
        node.get("Index Name", node["Node Type"])
        for node in plan
        if node.get("Relation Name") == "delivery" and node.get("Actual Loops", 1)
    }


@MODES
@STATISTICS
@ORDERINGS
async def test_a_fetch_passes_over_what_was_delivered(
    stored_on_postgres: Stored, ordering: Ordering, mode: str, *, analyze: bool
) -> None:
    """It touches 20 pages of the outbox at most, however much was delivered before and however much is owed behind."""
    stored = stored_on_postgres
    outbox, lease = await backlog(stored, ordering=ordering, rows=BACKLOG)
    if analyze:
        await stored.execute(text("ANALYZE"))
    in_order = ordering != "none"

    async with held_snapshot(stored):
        await deliver(outbox, lease, OVER, ordering=ordering)
        async with stored.database.read() as connection:
            fetch = fetch_statement(connection, lease, limit=ROWS, leave_out=[], tells_before=in_order)
            following = next_statement(lease)
        plan, _ = await explain(stored, fetch, mode=mode)
        next_plan, _ = await explain(stored, following, mode=mode)

    ways = {"ix_delivery_lane_id_due_at_id", *(("ix_delivery_in_order",) if in_order else ())}
    assert plan[0]["Actual Rows"] == ROWS
    assert looks_at_the_outbox(plan) == ways
    assert buffers(plan, "ix_delivery_lane_id_due_at_id") <= BUFFERS_OF_A_FETCH
    assert buffers(plan, "ix_delivery_in_order") <= BUFFERS_OF_ITS_ORDER
    assert buffers(next_plan, *looks_at_the_outbox(next_plan)) <= BUFFERS_OF_A_FETCH


@MODES
@STATISTICS
async def test_a_sweep_passes_over_what_was_delivered(stored_on_postgres: Stored, mode: str, *, analyze: bool) -> None:
    """One short look at each lane, asleep or not; below the marks it looks where something may still come."""
    stored = stored_on_postgres
    outbox, lease = await backlog(stored, ordering="none", rows=OVER)
    if analyze:
        await stored.execute(text("ANALYZE"))

    async with held_snapshot(stored):
        await deliver(outbox, lease, OVER, ordering="none")
        await outbox.rest(lease)
        sleeping, _ = await explain(stored, sleeping_statement(), mode=mode)
        below, _ = await explain(stored, below_statement(seconds=5.0), mode=mode)

    index = "ix_delivery_lane_id_due_at_id"
    lanes = 6
    assert looks_at_the_outbox(sleeping) <= {index}
    assert looks_at_the_outbox(below) <= {index}
    assert buffers(sleeping, index) <= 4 * lanes
    assert buffers(below, index) <= 4 * lanes


@STATISTICS
@pytest.mark.parametrize("ordering", ["none", "endpoint"])
async def test_leasing_and_settling_go_by_keys(
    stored_on_postgres: Stored, ordering: Ordering, *, analyze: bool
) -> None:
    """No statement of a lease, of a settle of every kind, of a rest or of a sweep reads a table from end to end."""
    stored = stored_on_postgres
    if analyze:
        await stored.execute(text("ANALYZE"))
    outbox, lease = await backlog(stored, ordering=ordering, rows=BACKLOG)
    await outbox.release([lease])
    said: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, _context: object, many: bool) -> None:  # noqa: FBT001 -- called by place
        said.append((statement, parameters[0] if many else parameters))

    hook.listen(stored.database.engine.sync_engine, "before_cursor_execute", note)
    lease = await only_lease(outbox)
    one, two, *others = await fetched(outbox, lease, ordering=ordering)
    await outbox.settle([*(delivered(lease, each) for each in others), failed(lease, one), dead(lease, two)])
    await outbox.rest(lease)
    await outbox.sweep()
    hook.remove(stored.database.engine.sync_engine, "before_cursor_execute", note)

    assert len(said) > len({"lease", "fetch", "settle", "rest", "sweep"})
    async with stored.database.read() as connection:
        for statement, parameters in said:
            if statement.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
                explained = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
                plan = list(nodes(explained.scalars().one()[0]["Plan"]))
                assert "Seq Scan" not in looks_at_the_outbox(plan), statement
