"""What was deleted and is still owed by a lane hides nothing else of it, over both databases, however much it is."""

from collections.abc import Sequence

import pytest
from sqlalchemy import func, select, text, update

from app.domain.configuration import Filter, Ordering
from app.domain.delivery import InOrder, Lease, Owed
from app.domain.ids import SubscriptionId
from app.store import cancel
from app.store.cancel import owing_statement
from app.store.columns import now
from app.store.outbox import SqlOutbox
from app.store.outbox_schema import delivery
from app.store.owed import WALKED_OVER, fetch_statement, next_statement
from app.store.schema import subscription
from tests.bed.plans import explain
from tests.bed.stored import Stored, heard, make_event, make_events, only_lease
from tests.contract.test_plans import MODES, STATISTICS, explain_on_sqlite, fill, read_whole

MANY = 350


async def dropped_and_kept(stored: Stored, *, ordering: Ordering = "none") -> tuple[SubscriptionId, SubscriptionId]:
    """Owe much through a subscription, which is deleted, and then one through another, on one lane."""
    endpoint_id = await stored.add_endpoint(ordering=ordering)
    dropped = await stored.add_subscription(endpoint_id, wanted=Filter(key_prefix="cat"))
    kept = await stored.add_subscription(endpoint_id, wanted=Filter(key_prefix="dog"))
    await stored.store.record([heard(*make_events(MANY))])
    await stored.store.record([heard(make_event(MANY, key=b"dog.jpg"))])
    await stored.delete_subscription(dropped)
    return dropped, kept


async def fetch(outbox: SqlOutbox, lease: Lease, ordering: Ordering) -> Sequence[Owed]:
    """Look at a lane as its holder does."""
    await outbox.make_way(lease)
    if ordering == "none":
        return await outbox.fetch(lease, limit=64, leave_out=())
    return (await outbox.fetch_in_order(lease, limit=64, leave_out=(), how=InOrder())).rows


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it take several slices."""
    monkeypatch.setattr(cancel, "CANCELLED_AT_ONCE", 100)


@pytest.mark.parametrize("ordering", ["none", "endpoint"])
async def test_what_was_deleted_is_out_of_the_way_at_the_next_look(stored: Stored, ordering: Ordering) -> None:
    """Its holder cancels it, without the sweep; what is owed through another subscription comes at once."""
    _, kept = await dropped_and_kept(stored, ordering=ordering)
    outbox = stored.outbox()
    lease = await only_lease(outbox)

    rows = await fetch(outbox, lease, ordering)

    assert [each.subscription_id for each in rows] == [kept]
    assert await stored.count("delivery") == 1
    assert [(row.number, row.ended) for row in await stored.rows("attempt")] == [(0, "cancelled")] * MANY


async def test_what_may_be_sent_is_handed_out_between_slices(stored: Stored) -> None:
    """A slice that meets something to send is the last before the look."""
    dropped, kept = await dropped_and_kept(stored)
    first = await stored.scalar(select(func.min(delivery.c.id)))
    await stored.execute(update(delivery).where(delivery.c.subscription_id == kept).values(due_at=now(-60.0)))
    outbox = stored.outbox()
    lease = await only_lease(outbox)

    rows = await fetch(outbox, lease, "none")

    assert [each.subscription_id for each in rows] == [kept]
    left = [row for row in await stored.rows("delivery", "id") if row.subscription_id == dropped]
    assert len(left) == MANY - 99
    assert left[0].id > first


async def test_a_lane_that_owes_what_was_deleted_does_not_rest(stored: Stored) -> None:
    """Until that is cancelled, when it is due: then it sleeps."""
    await dropped_and_kept(stored)
    await stored.execute(update(delivery).where(delivery.c.id > MANY).values(due_at=now(60.0)))
    outbox = stored.outbox()
    lease = await only_lease(outbox)

    before = await outbox.rest(lease)
    rows = await fetch(outbox, lease, "none")

    assert (before, list(rows)) == (False, [])
    assert await outbox.rest(lease)


async def test_where_nothing_is_deleted_nothing_is_cancelled(stored: Stored) -> None:
    """Also beside another endpoint's subscription that was."""
    await dropped_and_kept(stored)
    await stored.execute(update(subscription).values(deleted_at=None))
    outbox = stored.outbox()
    lease = await only_lease(outbox)

    rows = await fetch(outbox, lease, "none")

    assert len(rows) == 64
    assert await stored.count("delivery") == MANY + 1


@MODES
@STATISTICS
async def test_a_look_walks_over_so_much_that_was_deleted(
    stored_on_postgres: Stored, mode: str, *, analyze: bool
) -> None:
    """However much stands there: a fetch, and the look for what is due next."""
    lease = await fill(stored_on_postgres)
    await stored_on_postgres.execute(update(delivery).values(due_at=now(-60.0)))
    await stored_on_postgres.execute(update(subscription).values(deleted_at=now()))
    if analyze:
        await stored_on_postgres.execute(text("ANALYZE"))
    async with stored_on_postgres.database.read() as connection:
        fetching = fetch_statement(connection, lease, limit=64, leave_out=[1, 2])
        in_order = fetch_statement(connection, lease, limit=64, leave_out=[], tells_before=True)

    for statement in (fetching, in_order):
        plan, buffers = await explain(stored_on_postgres, statement, mode=mode)
        (scan, *_) = [node for node in plan if node.get("Index Name") == "ix_delivery_lane_id_due_at_id"]
        assert scan["Actual Rows"] == 64 + WALKED_OVER
        assert buffers < 200
    plan, buffers = await explain(stored_on_postgres, next_statement(lease), mode=mode)
    assert plan[0]["Actual Rows"] == 1
    assert buffers < 20
    plan, buffers = await explain(stored_on_postgres, owing_statement(limit=1), mode=mode)
    assert read_whole(plan) == []
    assert buffers < 150


async def test_sqlite_finds_who_owes_by_the_index(stored_on_sqlite: Stored) -> None:
    """One look for each that was deleted."""
    steps = await explain_on_sqlite(stored_on_sqlite, owing_statement(limit=1))

    assert any("SEARCH delivery USING" in step and "subscription_id=?" in step for step in steps)
    assert not [step for step in steps if step.startswith("SCAN delivery")]
