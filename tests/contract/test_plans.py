"""Guards on the plans of the statements that run all day: by the index, however large the outbox.

On PostgreSQL also with the generic plan that a prepared statement changes to.
"""

import secrets
from typing import Any

import pytest
from sqlalchemy import SelectBase, Update, select, text, update
from sqlalchemy.sql.compiler import SQLCompiler

from app.domain.delivery import Lease
from app.domain.ids import EndpointId, LaneId, ReplicaId
from app.store.columns import FAR, now
from app.store.lanes import waiting_statement
from app.store.outbox_schema import delivery, lane
from app.store.owed import fetch_statement
from app.store.prune import needed_statement
from app.store.reordered import STANDING_POSTGRESQL, STANDING_SQLITE
from app.store.sweep import sleeping_statement
from tests.bed.plans import explain, nodes
from tests.bed.stored import Stored, heard, make_events

ROWS = 30_000
REPLICA = ReplicaId(b"r" * 16)
# For each of 64 deliveries: itself, the way down to its event, its subscription; a third more for comfort.
BUFFERS_OF_A_FETCH = 560
# For each of a hundred events the way down two indexes, with some comfort.
BUFFERS_OF_A_SLICE = 700


async def fill(stored: Stored) -> Lease:
    """Owe much on one lane, of which little is due, and much on another; gives the first as if leased."""
    lane_id, _ = await stored.add_subscribed()
    other, *_ = [(await stored.add_subscribed())[0] for _ in range(20)]
    await stored.store.record([heard(*make_events(100))])
    await stored.execute(text(MORE_DELIVERIES).bindparams(rows=ROWS, lane_id=lane_id, other=other))
    await stored.execute(text(MORE_EVENTS).bindparams(rows=ROWS))
    first = select(delivery.c.id).where(delivery.c.lane_id == lane_id).order_by(delivery.c.id).limit(100)
    await stored.execute(
        update(delivery)
        .where(delivery.c.lane_id == lane_id, delivery.c.id.not_in(first.scalar_subquery()))
        .values(due_at=now(3600.0))
    )
    endpoint_id = EndpointId(await stored.scalar(select(lane.c.endpoint_id).where(lane.c.id == lane_id)))
    return Lease(lane_id=lane_id, endpoint_id=endpoint_id, fence=0)


MORE_DELIVERIES = """
INSERT INTO delivery (tenant_id, lane_id, delivery_key, endpoint_id, subscription_id, event_day, event_id, order_key,
    tries, failures, blocks, due_at, owed_at, created_at)
SELECT tenant_id, CASE WHEN n % 2 = 0 THEN lane_id ELSE :other END, uuid_send(gen_random_uuid()), endpoint_id,
    subscription_id, event_day, event_id, order_key, 0, 0, false, due_at, owed_at, created_at
FROM (SELECT * FROM delivery WHERE lane_id = :lane_id LIMIT 1) AS one, generate_series(1, CAST(:rows AS integer)) AS n
"""
MORE_EVENTS = """
INSERT INTO event (tenant_id, id, event_day, recorded_at, type, change, bucket, key, received_key, time, dialect,
    record)
SELECT tenant_id, uuid_send(gen_random_uuid()), event_day,
    recorded_at + n * interval '1 millisecond', type, change, bucket, key, received_key, time,
    dialect, record
FROM (SELECT * FROM event LIMIT 1) AS one, generate_series(1, CAST(:rows AS integer)) AS n
"""


async def explain_on_sqlite(stored: Stored, statement: SelectBase | Update) -> list[str]:
    """Give the steps by which SQLite would run a statement."""
    compiled = statement.compile(dialect=stored.database.engine.dialect)
    assert isinstance(compiled, SQLCompiler)
    expanded = compiled.construct_expanded_state()
    values = tuple(expanded.positional_parameters)
    async with stored.database.read() as connection:
        found = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {expanded.statement}", values)
        return [row["detail"] for row in found.mappings()]


def read_whole(plan: list[dict[str, Any]]) -> list[str]:
    """Give the tables of events and deliveries that a plan reads from end to end."""
    return [
        node["Relation Name"]
        for node in plan
        if node["Node Type"] == "Seq Scan"
        and node["Actual Loops"]
        and node["Relation Name"].startswith(("delivery", "event"))
    ]


def is_look_at_an_event(node: dict[str, Any]) -> bool:
    """Tell whether a node of a plan that was run looks for an event."""
    return bool(node["Actual Loops"]) and node.get("Relation Name", "").startswith("event")


MODES = pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
STATISTICS = pytest.mark.parametrize("analyze", [False, True], ids=["no statistics", "analyzed"])


@MODES
@STATISTICS
async def test_fetch_stays_with_the_index(stored_on_postgres: Stored, mode: str, *, analyze: bool) -> None:
    """A fetch touches pages for what it hands out, not for the backlog behind it."""
    lease = await fill(stored_on_postgres)
    if analyze:
        await stored_on_postgres.execute(text("ANALYZE"))
    async with stored_on_postgres.database.read() as connection:
        statement = fetch_statement(connection, lease, limit=64, leave_out=[1, 2, 3])

    plan, buffers = await explain(stored_on_postgres, statement, mode=mode)

    assert plan[0]["Actual Rows"] == 64
    assert read_whole(plan) == []
    assert all(node["Index Name"].endswith("pkey") for node in plan if is_look_at_an_event(node))
    assert buffers < BUFFERS_OF_A_FETCH


@MODES
async def test_a_backlog_not_due_yet_costs_a_fetch_nothing(stored_on_postgres: Stored, mode: str) -> None:
    """Where everything waits for its retry, the fetch sees that at the first row."""
    lease = await fill(stored_on_postgres)
    await stored_on_postgres.execute(update(delivery).values(due_at=now(3600.0)))
    await stored_on_postgres.execute(text("ANALYZE"))
    async with stored_on_postgres.database.read() as connection:
        statement = fetch_statement(connection, lease, limit=64, leave_out=[])

    plan, _ = await explain(stored_on_postgres, statement, mode=mode)

    (scan,) = [node for node in plan if node.get("Relation Name") == "delivery"]
    assert "due_at <=" in scan["Index Cond"]
    assert scan["Actual Rows"] == 0


@MODES
async def test_leasing_and_sweeping_touch_lanes_alone(stored_on_postgres: Stored, mode: str) -> None:
    """Neither reads the outbox; the sweep looks at its index once for each sleeping lane."""
    await fill(stored_on_postgres)
    await stored_on_postgres.execute(text("ANALYZE"))

    lease_plan, lease_buffers = await explain(stored_on_postgres, waiting_statement(REPLICA, 10), mode=mode)
    sweep_plan, sweep_buffers = await explain(stored_on_postgres, sleeping_statement(), mode=mode)

    assert [node for node in lease_plan if node.get("Relation Name") == "delivery"] == []
    assert read_whole(sweep_plan) == []
    assert lease_buffers < 100
    assert sweep_buffers < 300


@MODES
@STATISTICS
async def test_what_needs_old_events_is_found_by_key(stored_on_postgres: Stored, mode: str, *, analyze: bool) -> None:
    """A slice of the upkeep looks at the few deliveries that may be of its events, not at the outbox."""
    await fill(stored_on_postgres)
    if analyze:
        await stored_on_postgres.execute(text("ANALYZE"))
    ids = [secrets.token_bytes(16) for _ in range(100)]

    plan, buffers = await explain(stored_on_postgres, needed_statement(ids), mode=mode)

    assert read_whole(plan) == []
    assert buffers < BUFFERS_OF_A_SLICE


async def test_sqlite_finds_what_needs_old_events_by_key(stored_on_sqlite: Stored) -> None:
    """By the index that keeps a delivery unique."""
    steps = await explain_on_sqlite(stored_on_sqlite, needed_statement([bytes(16)]))

    assert any("SEARCH delivery USING" in step and "delivery_key>? AND delivery_key<?" in step for step in steps)
    assert not [step for step in steps if step.startswith(("SCAN delivery", "SCAN dead_letter"))]


async def test_sqlite_fetches_by_the_index(stored_on_sqlite: Stored) -> None:
    """SQLite walks the same index and looks events up by their key."""
    lease = Lease(lane_id=LaneId(1), endpoint_id=EndpointId(b"e" * 16), fence=0)
    async with stored_on_sqlite.database.read() as connection:
        statement = fetch_statement(connection, lease, limit=64, leave_out=[1, 2])

    steps = await explain_on_sqlite(stored_on_sqlite, statement)

    assert any(
        "SEARCH delivery USING INDEX ix_delivery_lane_id_due_at_id (lane_id=? AND due_at>? AND due_at<?)" in step
        for step in steps
    )
    assert any(step.startswith("SEARCH event USING INDEX") and "id=?" in step for step in steps)
    assert not [step for step in steps if step.startswith(("SCAN delivery", "SCAN event"))]
    # What is handed out is put in order once more; the backlog is not.
    assert steps.count("USE TEMP B-TREE FOR ORDER BY") == 1
    assert steps.index("USE TEMP B-TREE FOR ORDER BY") > steps.index("SCAN due")


async def test_sqlite_leases_and_sweeps_by_lanes(stored_on_sqlite: Stored) -> None:
    """Neither reads the outbox from end to end."""
    leasing = await explain_on_sqlite(stored_on_sqlite, waiting_statement(REPLICA, 10))
    sweeping = await explain_on_sqlite(stored_on_sqlite, sleeping_statement())

    assert not [step for step in leasing if "delivery" in step]
    assert any("SEARCH delivery USING" in step and "lane_id=?" in step for step in sweeping)


@MODES
async def test_a_look_at_one_object_does_not_read_its_backlog(stored_on_postgres: Stored, mode: str) -> None:
    """With a window the first deliveries of an object are read along the index, however many wait behind them."""
    lease = await fill(stored_on_postgres)
    await stored_on_postgres.execute(update(delivery).values(order_key=7))
    await stored_on_postgres.execute(text("ANALYZE"))
    async with stored_on_postgres.database.write() as connection:
        await connection.exec_driver_sql(f"SET LOCAL plan_cache_mode = {mode}")
        await connection.exec_driver_sql(f"PREPARE guarded AS {STANDING_POSTGRESQL}")
        explained = await connection.exec_driver_sql(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE guarded"
            f"({lease.lane_id}, '{{7}}'::bigint[], '{{1,2}}'::bigint[], 96, '{FAR.isoformat()}'::timestamptz)"
        )
        plan: dict[str, Any] = explained.scalars().one()[0]["Plan"]
        await connection.exec_driver_sql("DEALLOCATE guarded")

    assert plan["Actual Rows"] == 96
    assert "ix_delivery_in_order" in [node.get("Index Name") for node in nodes(plan)]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 200


async def test_sqlite_looks_at_one_object_by_the_index(stored_on_sqlite: Stored) -> None:
    """It finds the first deliveries of an object along the index, and each of them by its number."""
    async with stored_on_sqlite.database.read() as connection:
        found = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {STANDING_SQLITE}", (1, "[7]", "[1,2]", 96, 0))
        steps = [row["detail"] for row in found.mappings()]

    assert any("SEARCH delivery USING" in step and "ix_delivery_in_order" in step for step in steps)
    assert any("SEARCH one USING INTEGER PRIMARY KEY" in step for step in steps)
    assert not [step for step in steps if step.startswith(("SCAN delivery", "SCAN one"))]
