"""Guards on the plans of what parks and wakes: along the index of the order, however much waits."""

from typing import Any, Final

import pytest
from sqlalchemy import text, update

from app.domain.delivery import Lease
from app.store.columns import FAR, now
from app.store.in_order import (
    PARK_POSTGRESQL,
    PARK_SQLITE,
    PARKED_AT_ONCE,
    UNPARK_POSTGRESQL,
    UNPARK_SQLITE,
    WAKE_FIRST_POSTGRESQL,
    WAKE_FIRST_SQLITE,
    WOKEN_AT_ONCE,
)
from app.store.outbox_schema import delivery
from app.store.unordered import unordered_statement
from tests.bed.plans import explain, nodes
from tests.bed.stored import Stored
from tests.contract.test_plans import MODES, STATISTICS, fill

KEY: Final = 7
# A row that is parked: read twice, and written, with its place in each index.
BUFFERS_OF_A_PARKED_ROW: Final = 40
FAR_IN_SQL: Final = f"'{FAR.isoformat()}'::timestamptz"


async def queue(stored: Stored, *, is_parked: bool) -> tuple[Lease, int]:
    """Let all that is owed be of one object; gives the lease of its lane, and the second row."""
    lease = await fill(stored)
    due_at = FAR if is_parked else now(-1.0)
    await stored.execute(update(delivery).values(order_key=KEY, due_at=due_at))
    rows = [row.id for row in await stored.rows("delivery", "id") if row.lane_id == lease.lane_id]
    return lease, rows[1]


async def run(stored: Stored, statement: str, arguments: str, *, mode: str) -> tuple[list[dict[str, Any]], int, int]:
    """Run a change as a prepared statement; gives its plan, the rows it changed and the pages it touched."""
    async with stored.database.write() as connection:
        await connection.exec_driver_sql(f"SET LOCAL plan_cache_mode = {mode}")
        await connection.exec_driver_sql(f"PREPARE guarded AS {statement}")
        explained = await connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE guarded({arguments})"
        )
        plan: dict[str, Any] = explained.scalars().one()[0]["Plan"]
        await connection.exec_driver_sql("DEALLOCATE guarded")
    changed = plan["Plans"][-1]["Actual Rows"] if plan["Actual Rows"] == 0 else plan["Actual Rows"]
    return list(nodes(plan)), int(changed), plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


def looks(plan: list[dict[str, Any]]) -> set[str]:
    """Name the ways in which a plan comes to deliveries."""
    return {node.get("Index Name", node["Node Type"]) for node in plan if node.get("Relation Name") == "delivery"} - {
        "ModifyTable"
    }


@MODES
@STATISTICS
async def test_parking_reads_no_more_than_it_parks(stored_on_postgres: Stored, mode: str, *, analyze: bool) -> None:
    """It walks so many of a queue of thousands, and finds the first of it by one look."""
    lease, second = await queue(stored_on_postgres, is_parked=False)
    if analyze:
        await stored_on_postgres.execute(text("ANALYZE"))

    plan, changed, buffers = await run(
        stored_on_postgres,
        PARK_POSTGRESQL,
        f"{lease.lane_id}, {KEY}, {second}, {PARKED_AT_ONCE - 1}, {FAR_IN_SQL}",
        mode=mode,
    )

    assert changed == PARKED_AT_ONCE
    assert looks(plan) == {"ix_delivery_in_order"}
    assert buffers < BUFFERS_OF_A_PARKED_ROW * PARKED_AT_ONCE


@MODES
@STATISTICS
async def test_waking_reads_the_first_of_a_queue(stored_on_postgres: Stored, mode: str, *, analyze: bool) -> None:
    """Those that come next are found along the index, however many wait behind them; the first one by one look."""
    lease, _ = await queue(stored_on_postgres, is_parked=True)
    if analyze:
        await stored_on_postgres.execute(text("ANALYZE"))

    first = await run(stored_on_postgres, WAKE_FIRST_POSTGRESQL, f"{lease.lane_id}, {KEY}, {FAR_IN_SQL}", mode=mode)
    following = await run(
        stored_on_postgres, UNPARK_POSTGRESQL, f"{lease.lane_id}, {KEY}, {WOKEN_AT_ONCE}, {FAR_IN_SQL}", mode=mode
    )

    for (plan, changed, buffers), expected in ((first, 1), (following, WOKEN_AT_ONCE - 1)):
        assert changed == expected
        assert looks(plan) == {"ix_delivery_in_order", "pk_delivery"}
        assert buffers < BUFFERS_OF_A_PARKED_ROW * WOKEN_AT_ONCE


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (PARK_SQLITE, (1, KEY, 2, PARKED_AT_ONCE - 1, 0)),
        (WAKE_FIRST_SQLITE, (1, KEY, 0)),
        (UNPARK_SQLITE, (1, KEY, WOKEN_AT_ONCE, 0)),
    ],
    ids=["park", "wake", "unpark"],
)
async def test_sqlite_parks_and_wakes_along_the_index(
    stored_on_sqlite: Stored, statement: str, values: tuple[int, ...]
) -> None:
    """It finds what comes next by the index of the order, and each of those by its number."""
    async with stored_on_sqlite.database.read() as connection:
        found = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        steps = [row["detail"] for row in found.mappings()]

    assert any("SEARCH delivery USING" in step and "ix_delivery_in_order" in step for step in steps)
    assert any(step == "SEARCH delivery USING INTEGER PRIMARY KEY (rowid=?)" for step in steps)
    assert not [step for step in steps if step.startswith("SCAN delivery") or "lane_id_due_at" in step]


@MODES
@STATISTICS
async def test_lanes_to_be_let_go_are_found_by_one_look_each(
    stored_on_postgres: Stored, mode: str, *, analyze: bool
) -> None:
    """However much is parked in them."""
    await queue(stored_on_postgres, is_parked=True)
    if analyze:
        await stored_on_postgres.execute(text("ANALYZE"))

    plan, buffers = await explain(stored_on_postgres, unordered_statement(), mode=mode)

    assert plan[0]["Actual Rows"] > 0
    assert looks(plan) == {"ix_delivery_lane_id_due_at_id"}
    assert buffers < 300
