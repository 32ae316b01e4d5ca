"""Guards on the plans by which the sweep finds what is too old: lane by lane, a slice at a time."""

from datetime import UTC, datetime

from sqlalchemy import text, update

from app.domain.ids import LaneId
from app.store.columns import now
from app.store.expiry import LOOKED_AT_ONCE, behind_statement, overdue_statement, slice_statement
from app.store.outbox_schema import delivery
from tests.bed.plans import explain
from tests.bed.stored import Stored
from tests.contract.test_plans import MODES, STATISTICS, explain_on_sqlite, fill, read_whole

MIDDAY = datetime(2026, 11, 24, 12, tzinfo=UTC)


@MODES
@STATISTICS
async def test_lanes_with_something_too_old_are_found_by_their_first(
    stored_on_postgres: Stored, mode: str, *, analyze: bool
) -> None:
    """One look at the index for each lane, whatever it owes."""
    await fill(stored_on_postgres)
    await stored_on_postgres.execute(update(delivery).values(due_at=now(-6 * 86_400.0)))
    if analyze:
        await stored_on_postgres.execute(text("ANALYZE"))

    for statement in (overdue_statement(after=LaneId(0)), behind_statement(after=LaneId(0))):
        plan, buffers = await explain(stored_on_postgres, statement, mode=mode)

        assert plan[0]["Actual Rows"] > 10
        assert read_whole(plan) == []
        assert buffers < 600


@MODES
@STATISTICS
async def test_a_slice_of_a_lane_reads_no_more_than_itself(
    stored_on_postgres: Stored, mode: str, *, analyze: bool
) -> None:
    """However much the lane owes before and behind it."""
    lease = await fill(stored_on_postgres)
    if analyze:
        await stored_on_postgres.execute(text("ANALYZE"))

    plan, _ = await explain(stored_on_postgres, slice_statement(lease.lane_id, (MIDDAY, 0)), mode=mode)

    (scan,) = [node for node in plan if node.get("Relation Name") == "delivery"]
    assert scan["Index Name"] == "ix_delivery_lane_id_due_at_id"
    assert scan["Actual Rows"] == LOOKED_AT_ONCE
    assert "Rows Removed by Filter" not in scan


async def test_sqlite_finds_what_is_too_old_by_the_index(stored_on_sqlite: Stored) -> None:
    """Likewise."""
    overdue = await explain_on_sqlite(stored_on_sqlite, overdue_statement(after=LaneId(0)))
    behind = await explain_on_sqlite(stored_on_sqlite, behind_statement(after=LaneId(0)))
    of_lane = await explain_on_sqlite(stored_on_sqlite, slice_statement(LaneId(1), (MIDDAY, 7)))

    for steps in (overdue, behind, of_lane):
        assert any("SEARCH delivery USING" in step and "lane_id=?" in step for step in steps)
        assert not [step for step in steps if step.startswith("SCAN delivery")]
    assert "USE TEMP B-TREE FOR ORDER BY" not in of_lane
