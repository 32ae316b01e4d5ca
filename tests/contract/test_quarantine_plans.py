"""Guards on the plans of the quarantine's statements: by an index, however much is kept."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Select, text

from app.domain.ids import DEFAULT_TENANT, SourceId
from app.store.place import Place
from app.store.quarantine import QuarantineFilter, list_statement, oldest_statement
from tests.bed.plans import nodes
from tests.bed.stored import SOURCE, Stored
from tests.contract.test_plans import STATISTICS, explain_on_sqlite

ROWS = 30_000
# Without statistics nobody knows that a source has little: then the index is walked in the order of the list.
BUFFERS_WITH_STATISTICS = 100
BUFFERS_OF_ALL = 3_000
RARE = SourceId(b"r" * 16)
START = datetime(2026, 11, 1, tzinfo=UTC)
MIDDLE = Place(at=START + timedelta(seconds=ROWS / 2), id=b"\x80" * 16)
END = Place(at=START + timedelta(seconds=ROWS), id=b"\xff" * 16)
EVERYTHING = QuarantineFilter()
FILTERS = {
    "all": EVERYTHING,
    "a source with nearly all": QuarantineFilter(source_id=SOURCE),
    "a source with few": QuarantineFilter(source_id=RARE),
    "a reason of nearly all": QuarantineFilter(reason="json"),
    "a time": QuarantineFilter(since=START + timedelta(seconds=100), until=START + timedelta(seconds=20_000)),
}
MORE = """
INSERT INTO quarantine (id, tenant_id, source_id, reason, raw, seen, first_seen_at, last_seen_at)
SELECT uuid_send(gen_random_uuid()), 1,
    CASE WHEN n % 1000 = 0 THEN CAST(:rare AS bytea) ELSE CAST(:source AS bytea) END,
    'not JSON: ' || n, convert_to(repeat('x', 300), 'UTF8'), 1,
    CAST(:start AS timestamptz) + make_interval(secs => n), CAST(:start AS timestamptz) + make_interval(secs => n)
FROM generate_series(1, CAST(:rows AS integer)) AS n
"""


def statements(wanted: QuarantineFilter) -> list[Select[Any]]:
    """Give what the list and a run ask, at the beginning and in the middle."""
    return [
        list_statement(DEFAULT_TENANT, wanted=wanted, after=None, limit=51),
        list_statement(DEFAULT_TENANT, wanted=wanted, after=MIDDLE, limit=51),
        oldest_statement(DEFAULT_TENANT, wanted=wanted, between=(None, END), limit=100),
        oldest_statement(DEFAULT_TENANT, wanted=wanted, between=(MIDDLE, END), limit=100),
    ]


async def explain(stored: Stored, statement: Select[Any]) -> tuple[list[dict[str, Any]], int]:
    """Run a statement on PostgreSQL; gives the nodes of its plan and the pages touched."""
    compiled = statement.compile(dialect=stored.database.engine.dialect)
    values = tuple(compiled.construct_params()[name] for name in compiled.positiontup or ())
    async with stored.database.read() as connection:
        explained = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {compiled}", values)
        plan: dict[str, Any] = explained.scalars().one()[0]["Plan"]
    return list(nodes(plan)), plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


@STATISTICS
async def test_lists_and_runs_stay_with_an_index(stored_on_postgres: Stored, *, analyze: bool) -> None:
    """Nothing is read from end to end, by whatever it is narrowed; a page touches pages for what it gives."""
    values = {"rare": RARE, "source": SOURCE, "start": START, "rows": ROWS}
    await stored_on_postgres.execute(text(MORE).bindparams(**values))
    if analyze:
        await stored_on_postgres.execute(text("ANALYZE"))

    for name, wanted in FILTERS.items():
        for number, statement in enumerate(statements(wanted)):
            plan, buffers = await explain(stored_on_postgres, statement)

            assert [node for node in plan if node["Node Type"] == "Seq Scan"] == [], (name, number)
            assert plan[-1]["Index Name"].startswith("ix_quarantine"), (name, number)
            assert buffers < (BUFFERS_WITH_STATISTICS if analyze else BUFFERS_OF_ALL), (name, number)


@pytest.mark.parametrize("wanted", FILTERS.values(), ids=FILTERS)
async def test_sqlite_stays_with_an_index(stored_on_sqlite: Stored, wanted: QuarantineFilter) -> None:
    """SQLite searches an index, too."""
    for statement in statements(wanted):
        steps = await explain_on_sqlite(stored_on_sqlite, statement)

        assert any(step.startswith("SEARCH quarantine USING INDEX ix_quarantine") for step in steps), steps
        assert not [step for step in steps if "TEMP B-TREE" in step], steps
