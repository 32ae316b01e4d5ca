"""Guards on the plans of replays: a slice touches pages for what it walks, however many events and tries are kept."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.domain.identity import delivery_key
from app.domain.ids import DEFAULT_TENANT, EndpointId, EventId, SubscriptionId
from app.store.events import EventFilter
from app.store.history import Debt, reopen_statement
from app.store.place import Place
from app.store.replay_walk import Span, edge_statement, found_statement
from app.store.replay_wanted import history_statement
from tests.bed.plans import explain
from tests.bed.stored import Stored, heard, make_events
from tests.contract.test_plans import MODES, MORE_EVENTS, ROWS, STATISTICS, explain_on_sqlite, read_whole

WALKED = 1_000
# The pages of a thousand small events, and the way down the index of each of the days.
BUFFERS_OF_A_WALK = 300
# For each of a hundred deliveries the way down the index of each of the eight days there are.
BUFFERS_OF_A_SLICE = 100 * 8 * 3
MORE_ATTEMPTS = """
INSERT INTO attempt (day, tenant_id, delivery_key, endpoint_id, subscription_id, event_day, event_id, number,
    started_at, ended, ended_at, created_at)
SELECT CURRENT_DATE, 1, uuid_send(gen_random_uuid()), '\\x01', '\\x01', CURRENT_DATE, '\\x01', 1, now(),
    CASE WHEN n % 5 > 0 THEN 'delivered' END, now(), now() - n * interval '1 second'
FROM generate_series(1, CAST(:rows AS integer)) AS n
"""
FILTERS = {
    "everything": EventFilter(),
    "a bucket of none": EventFilter(bucket="nothing"),
    "a prefix of none": EventFilter(key_prefix=b"nothing/"),
    "a short time": EventFilter(since=datetime.now(UTC) - timedelta(hours=1), until=datetime.now(UTC)),
}
KEYS = [delivery_key(EventId(number.to_bytes(16)), SubscriptionId(b"s" * 16)) for number in range(100)]

DEBTS = [
    Debt(
        tenant_id=DEFAULT_TENANT,
        key=key,
        endpoint_id=EndpointId(b"e" * 16),
        subscription_id=SubscriptionId(b"s" * 16),
        event_day=datetime.now(UTC).date(),
        event_id=EventId(b"v" * 16),
        tries=1,
        created_at=datetime.now(UTC),
    )
    for key in KEYS
]


def walks(wanted: EventFilter, start: datetime) -> list[Any]:
    """Give what a walk asks, at the beginning and in the middle."""
    middle = Place(at=start + timedelta(seconds=ROWS / 2000), id=b"\x80" * 16)
    edge = Place(at=middle.at + timedelta(seconds=WALKED / 1000), id=b"\x80" * 16)
    spans = [
        Span(tenant_id=DEFAULT_TENANT, wanted=wanted, after=after, until=start + timedelta(days=1))
        for after in (None, middle)
    ]
    return [
        edge_statement(spans[0], walked=WALKED),
        edge_statement(spans[1], walked=WALKED),
        found_statement(spans[1], edge=edge, limit=100),
    ]


def read_by(node: dict[str, Any]) -> int:
    """Tell how many rows a node of a plan that was run read of events."""
    if not node.get("Relation Name", "").startswith("event"):
        return 0
    return int(node["Actual Rows"] + node.get("Rows Removed by Filter", 0))


@MODES
@STATISTICS
async def test_a_walk_touches_what_it_walks(stored_on_postgres: Stored, mode: str, *, analyze: bool) -> None:
    """Along the index, however little the filter takes: nothing is sorted, nothing read from end to end."""
    await stored_on_postgres.store.record([heard(*make_events(1))])
    start = (await stored_on_postgres.rows("event"))[0].recorded_at
    await stored_on_postgres.execute(text(MORE_EVENTS).bindparams(rows=ROWS))
    if analyze:
        await stored_on_postgres.execute(text("ANALYZE"))

    for name, wanted in FILTERS.items():
        for statement in walks(wanted, start):
            plan, buffers = await explain(stored_on_postgres, statement, mode=mode)

            assert read_whole(plan) == [], name
            assert [node for node in plan if node["Node Type"] == "Sort"] == [], name
            assert sum(map(read_by, plan)) <= WALKED + 1, name
            assert buffers < BUFFERS_OF_A_WALK, name


@MODES
@STATISTICS
async def test_history_is_found_by_key(stored_on_postgres: Stored, mode: str, *, analyze: bool) -> None:
    """A slice looks at the tries of its own deliveries, not through a tenant's or all that have ended."""
    await stored_on_postgres.execute(text(MORE_ATTEMPTS).bindparams(rows=ROWS))
    if analyze:
        await stored_on_postgres.execute(text("ANALYZE"))
    async with stored_on_postgres.database.read() as connection:
        reopening = reopen_statement(connection, DEBTS)

    for statement in (history_statement("postgresql", DEFAULT_TENANT, KEYS), reopening):
        plan, buffers = await explain(stored_on_postgres, statement, mode=mode)

        looks = [node for node in plan if node["Node Type"].startswith("Index") and node["Actual Loops"]]
        assert {node["Index Name"].endswith("tenant_id_delivery_key_number_idx") for node in looks} == {True}
        assert {"delivery_key" in node["Index Cond"] for node in looks} == {True}
        assert buffers < BUFFERS_OF_A_SLICE


@pytest.mark.parametrize("wanted", FILTERS.values(), ids=FILTERS)
async def test_sqlite_walks_along_the_index(stored_on_sqlite: Stored, wanted: EventFilter) -> None:
    """In the order of the index, from the place."""
    for statement in walks(wanted, datetime.now(UTC)):
        steps = await explain_on_sqlite(stored_on_sqlite, statement)

        assert len(steps) == 1, steps
        assert "ix_event_tenant_id_recorded_at_id (tenant_id=? AND " in steps[0]


async def test_sqlite_finds_history_by_key(stored_on_sqlite: Stored) -> None:
    """By tenant and key, to read it and to clear an ending."""
    async with stored_on_sqlite.database.read() as connection:
        reopening = reopen_statement(connection, DEBTS)

    for statement in (history_statement("sqlite", DEFAULT_TENANT, KEYS), reopening):
        steps = await explain_on_sqlite(stored_on_sqlite, statement)

        assert any("(tenant_id=? AND delivery_key=?)" in step for step in steps)
        assert not [step for step in steps if step.startswith("SCAN")]
