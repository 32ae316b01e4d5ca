"""The low-water marks: looks begin above what is over, and nothing that is owed stays below, however late it came."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.delivery import InOrder, Lease
from app.store.columns import EPOCH, FAR, now
from app.store.outbox import SqlOutbox
from app.store.outbox_schema import delivery
from tests.bed.stored import Stored, delivered, failed, heard, make_event, make_events, only_lease, owed_by

MINUTE = 60.0


async def owe(connection: AsyncConnection, like: Any, *, due_at: datetime) -> int:
    """Owe another one on a lane; gives its row."""
    fields = {**like._mapping, "delivery_key": secrets.token_bytes(16), "due_at": due_at}
    del fields["id"]
    row = await connection.execute(insert(delivery).values(fields).returning(delivery.c.id))
    return int(row.scalar_one())


async def delivered_all(stored: Stored, count: int) -> tuple[SqlOutbox, Lease, Any]:
    """Deliver all that a lane owes, and rest; gives who holds it, and what one row looked like."""
    lane_id, _ = await stored.add_subscribed()
    await stored.store.record([heard(*make_events(count))])
    row = (await stored.rows("delivery"))[0]
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    await outbox.settle([delivered(lease, each) for each in await owed_by(outbox, lease)])
    await outbox.rest(lease)
    assert lease.lane_id == lane_id
    return outbox, lease, row


async def lane_row(stored: Stored) -> Any:
    """Give the one lane."""
    (row,) = await stored.rows("lane")
    return row


async def sweeps_until_found(outbox: SqlOutbox, lease: Lease, *, at_most: int) -> int:
    """Sweep until a lane hands something out; gives how often."""
    for number in range(at_most + 1):
        if await owed_by(outbox, lease):
            return number
        await outbox.sweep()
    return at_most + 1


async def test_a_new_lane_has_no_mark(stored: Stored) -> None:
    """Everything that is owed is above it."""
    await stored.add_endpoint()

    assert (await lane_row(stored)).low_due == EPOCH


async def test_the_mark_stays_a_second_behind_the_clock(stored: Stored) -> None:
    """What other transactions are just writing down comes to stand above it."""
    before = datetime.now(UTC)

    await delivered_all(stored, 3)

    behind = datetime.now(UTC) - (await lane_row(stored)).low_due
    assert timedelta(seconds=1) <= behind < datetime.now(UTC) - before + timedelta(seconds=1.5)


async def test_a_settle_raises_the_mark_to_the_oldest_that_stays(stored: Stored) -> None:
    """Past what it takes out itself, up to what is in flight or waits for its next try."""
    await stored.add_subscribed()
    await stored.store.record([heard(*make_events(5))])
    rows = await stored.rows("delivery", "id")
    for place, row in enumerate(rows):
        at = delivery.c.id == row.id
        await stored.execute(delivery.update().where(at).values(due_at=now(-100.0 + place)))
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    owed = await owed_by(outbox, lease)

    await outbox.settle([delivered(lease, each) for each in owed[:2]])

    third = (await stored.rows("delivery", "id"))[0]
    assert third.id == owed[2].row_id
    mark = await lane_row(stored)
    assert (mark.low_due, mark.low_due_id) == (third.due_at, third.id)


async def test_a_lost_lease_leaves_the_mark_below_what_it_does_not_settle(stored: Stored) -> None:
    """Its failure is not written down, so the delivery keeps its due time."""
    await stored.add_subscribed()
    await stored.store.record([heard(make_event(1))])
    await stored.execute(delivery.update().values(due_at=now(-MINUTE)))
    outbox, other = stored.outbox(), stored.outbox()
    lost = await only_lease(outbox)
    (owed,) = await owed_by(outbox, lost)
    await stored.run_out(lost.lane_id)
    lease = await only_lease(other)

    await outbox.settle([failed(lost, owed)])
    await other.renew([lease])

    assert [each.row_id for each in await owed_by(other, lease)] == [owed.row_id]


@pytest.mark.parametrize(
    ("below", "sweeps"), [(0.5, 1), (MINUTE, 10), (30 * MINUTE, 60)], ids=["just now", "a minute", "long"]
)
async def test_what_is_committed_late_is_found_by_a_sweep(stored: Stored, below: float, sweeps: int) -> None:
    """Soon where its transaction took a few seconds, and also where the clock went back by half an hour."""
    outbox, lease, row = await delivered_all(stored, 3)
    for _ in range(11):
        await outbox.sweep()
    await outbox.rest(lease)
    mark = (await lane_row(stored)).low_due
    async with stored.database.write() as connection:
        late = await owe(connection, row, due_at=mark - timedelta(seconds=below))
    assert await owed_by(outbox, lease) == []

    took = await sweeps_until_found(outbox, lease, at_most=sweeps)

    assert 1 <= took <= sweeps
    assert [each.row_id for each in await owed_by(outbox, lease)] == [late]
    assert (await lane_row(stored)).wake_at < FAR


async def test_a_transaction_that_ends_late_is_found(stored_on_postgres: Stored) -> None:
    """It wrote before the lane lay down, and committed after that."""
    stored = stored_on_postgres
    lane_id, _ = await stored.add_subscribed()
    await stored.store.record([heard(*make_events(3))])
    row = (await stored.rows("delivery"))[0]
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    async with stored.database.write() as connection:
        late = await owe(connection, row, due_at=datetime.now(UTC) - timedelta(seconds=3))
        await outbox.settle([delivered(lease, each) for each in await owed_by(outbox, lease)])
        await outbox.rest(lease)
        await outbox.sweep()
    assert lease.lane_id == lane_id
    assert await owed_by(outbox, lease) == []

    await outbox.sweep()

    assert [each.row_id for each in await owed_by(outbox, lease)] == [late]


class TestByNumber:
    """The mark by number, below which no predecessor is looked for; on PostgreSQL alone."""

    async def test_it_follows_what_is_over(self, stored_on_postgres: Stored) -> None:
        """One settle behind: every lower number was given out before that began."""
        _, lease, outbox = await in_order(stored_on_postgres, count=4)

        rows = await deliver_one_by_one(outbox, lease)

        assert (await lane_row(stored_on_postgres)).low_id == rows[-2] + 1

    async def test_it_stays_below_what_is_owed(self, stored_on_postgres: Stored) -> None:
        """What failed keeps its place before those that come after it."""
        _, lease, outbox = await in_order(stored_on_postgres, count=4, same_key=False)
        first, *others = (await outbox.fetch_in_order(lease, limit=10, leave_out=(), how=InOrder())).rows

        await outbox.settle([failed(lease, first)])
        for each in others:
            await outbox.settle([delivered(lease, each)])

        assert (await lane_row(stored_on_postgres)).low_id == first.row_id

    async def test_a_number_that_is_still_open_keeps_it_down(self, stored_on_postgres: Stored) -> None:
        """Its transaction may commit at any time, and then goes before everything that comes after it."""
        stored = stored_on_postgres
        row, lease, outbox = await in_order(stored, count=2)
        async with stored.database.write() as connection:
            late = await owe(connection, row, due_at=datetime.now(UTC))
            await stored.store.record([heard(make_event(50)), heard(make_event(51))])
            settled = await deliver_one_by_one(outbox, lease)
            assert settled[-1] > late
            assert (await lane_row(stored)).low_id <= late
        await stored.store.record([heard(make_event(60))])

        may_go = (await outbox.fetch_in_order(lease, limit=10, leave_out=(), how=InOrder())).rows

        newest = await stored.scalar(select(delivery.c.id).order_by(delivery.c.id.desc()).limit(1))
        assert [each.row_id for each in may_go] == [late, newest]


async def in_order(stored: Stored, *, count: int, same_key: bool = True) -> tuple[Any, Lease, SqlOutbox]:
    """Owe so many on a lane that keeps an order; gives what a row looks like, and who holds the lane."""
    await stored.add_subscribed(ordering="key")
    keys = [b"cat.jpg" if same_key else f"{number}.jpg".encode() for number in range(count)]
    await stored.store.record([heard(*(make_event(number, key=key) for number, key in enumerate(keys)))])
    row = (await stored.rows("delivery", "id"))[0]
    outbox = stored.outbox()
    return row, await only_lease(outbox), outbox


async def deliver_one_by_one(outbox: SqlOutbox, lease: Lease) -> Sequence[int]:
    """Settle what a lane owes, each on its own; gives the rows."""
    owed = (await outbox.fetch_in_order(lease, limit=100, leave_out=(), how=InOrder())).rows
    for each in owed:
        await outbox.settle([delivered(lease, each)])
    return [each.row_id for each in owed]
