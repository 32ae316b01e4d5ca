"""Long queues of one object over both databases: what waits is parked once, and the other objects of the lane go on."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest
from sqlalchemy import func, select, text, update

from app.domain.delivery import AT_HAND_LIMIT, Fetched, InOrder, Lease, Owed
from app.domain.ids import DEFAULT_TENANT
from app.store import retry
from app.store.columns import FAR, now
from app.store.deliveries import DeliveryFilter, list_deliveries
from app.store.in_order import PARKED_AT_ONCE
from app.store.outbox import SqlOutbox
from app.store.outbox_schema import delivery
from app.store.schema import endpoint
from app.store.unordered import LET_GO_AT_ONCE
from tests.bed.stored import Stored, changed, dead, delivered, failed, heard, make_event, only_lease

CAT: Final = b"cat.jpg"
DOG: Final = b"dog.jpg"
LIMIT: Final = 64
MANY: Final = PARKED_AT_ONCE + 500
IN_LINE: Final = InOrder()
BY_TURN: Final = InOrder(is_reordered=True)
BOTH_WAYS: Final = pytest.mark.parametrize("how", [IN_LINE, BY_TURN], ids=["in line", "by turn"])

_COPY = """
INSERT INTO delivery (tenant_id, lane_id, delivery_key, endpoint_id, subscription_id, event_day, event_id, order_key,
    place, tries, failures, blocks, due_at, owed_at, created_at)
SELECT tenant_id, lane_id, {key}, endpoint_id, subscription_id, event_day, event_id, order_key,
    place, 0, 0, false, due_at, owed_at, created_at
FROM (SELECT * FROM delivery ORDER BY id LIMIT 1) AS one, {numbers}
"""
_COPIES: Final = {
    "postgresql": _COPY.format(
        key="uuid_send(gen_random_uuid())", numbers="generate_series(1, CAST(:count AS integer))"
    ),
    "sqlite": _COPY.format(
        key="randomblob(16)",
        numbers="(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count) SELECT i FROM n)",
    ),
}


async def record(stored: Stored, *keys: bytes) -> None:
    """Record an event of each key, one after the other."""
    have = await stored.count("event")
    for number, key in enumerate(keys, start=have):
        await stored.store.record([heard(make_event(number, key=key))])


async def leased(stored: Stored, *keys: bytes, behind: int = 0) -> tuple[SqlOutbox, Lease]:
    """Owe events of these keys to an endpoint ordered by key, so many more behind the first, and lease its lane."""
    await stored.add_subscribed(ordering="key")
    first, *others = keys
    await record(stored, first)
    if behind:
        dialect = stored.database.engine.dialect.name
        await stored.execute(text(_COPIES[dialect]).bindparams(count=behind))
    await record(stored, *others)
    outbox = stored.outbox()
    return outbox, await only_lease(outbox)


async def look(
    outbox: SqlOutbox, lease: Lease, *, how: InOrder = IN_LINE, at_hand: Sequence[Owed] = (), limit: int = LIMIT
) -> Fetched:
    """Fetch once, without what is at hand."""
    leave_out = [owed.row_id for owed in at_hand]
    return await outbox.fetch_in_order(lease, limit=limit, leave_out=leave_out, how=how)


def keys_of(rows: Sequence[Owed]) -> list[bytes]:
    """Give the object of each."""
    return [owed.stored.event.key for owed in rows if owed.stored]


async def count_parked(stored: Stored) -> int:
    """Count what waits for another."""
    return int(await stored.scalar(select(func.count()).where(delivery.c.due_at == FAR, delivery.c.blocks.is_(False))))


async def make_due(stored: Stored, row: Owed) -> None:
    """Let one be due."""
    await stored.execute(update(delivery).where(delivery.c.id == row.row_id).values(due_at=now(-1.0)))


@BOTH_WAYS
async def test_behind_one_that_failed_a_whole_queue_is_parked_once(stored: Stored, how: InOrder) -> None:
    """One look finds the other object; when the one that failed is due again, it alone is, as often as it fails."""
    outbox, lease = await leased(stored, CAT, DOG, behind=MANY)
    (head, *_) = (await look(outbox, lease, how=how, limit=1)).rows
    await outbox.settle([failed(lease, head, delay_seconds=60.0)])

    fetched = await look(outbox, lease, how=how)

    assert keys_of(fetched.rows) == [DOG]
    assert fetched.is_all
    assert await count_parked(stored) == MANY
    await outbox.settle([delivered(lease, fetched.rows[0])])
    await make_due(stored, head)
    due = select(func.count()).select_from(delivery).where(delivery.c.due_at <= now())
    assert await stored.scalar(due) == 1
    again = await look(outbox, lease, how=how)
    assert again.rows[0].row_id == head.row_id
    await outbox.settle([failed(lease, again.rows[0], delay_seconds=60.0)])
    assert (await look(outbox, lease, how=how)).rows == []
    assert await count_parked(stored) == MANY


@BOTH_WAYS
async def test_behind_one_that_is_over_the_next_go_in_order(stored: Stored, how: InOrder) -> None:
    """A few are due at once, and each that ends lets the next one be."""
    outbox, lease = await leased(stored, CAT, behind=2 * AT_HAND_LIMIT)
    (head, *_) = (await look(outbox, lease, how=how, limit=1)).rows
    await outbox.settle([failed(lease, head, delay_seconds=60.0)])
    assert (await look(outbox, lease, how=how)).rows == []

    await outbox.settle([delivered(lease, head)])
    ended = [head.row_id]
    while rows := (await look(outbox, lease, how=how, limit=7)).rows:
        await outbox.settle([delivered(lease, rows[0])])
        ended.append(rows[0].row_id)

    assert len(ended) == 2 * AT_HAND_LIMIT + 1
    assert ended == sorted(ended)
    assert await stored.count("delivery") == 0


@pytest.mark.parametrize("limit", [AT_HAND_LIMIT, 4 * AT_HAND_LIMIT])
@BOTH_WAYS
async def test_of_a_long_queue_no_more_is_handed_out_than_keeps_room_for_others(
    stored: Stored, how: InOrder, limit: int
) -> None:
    """Where one object has enough at hand, the next look finds the others, however much of it is due before them."""
    outbox, lease = await leased(stored, CAT, DOG, behind=MANY)

    first = await look(outbox, lease, how=how, limit=limit)
    crowded = InOrder(is_reordered=how.is_reordered, crowded={first.rows[0].order_key or 0: first.rows[0].row_id})
    second = await look(outbox, lease, how=crowded, at_hand=first.rows)

    cats = [owed for owed in first.rows if keys_of([owed]) == [CAT]]
    assert len(cats) == AT_HAND_LIMIT
    assert keys_of([*first.rows, *second.rows]).count(DOG) == 1
    assert await count_parked(stored) == MANY + 1 - AT_HAND_LIMIT
    await outbox.settle([delivered(lease, cats[0])])
    assert await count_parked(stored) == MANY - AT_HAND_LIMIT


async def test_the_one_object_of_an_endpoint_in_order_keeps_nobody_out(stored: Stored) -> None:
    """There as many are handed out as asked for."""
    await stored.add_subscribed(ordering="endpoint")
    await record(stored, *([CAT] * (AT_HAND_LIMIT + 2)))
    outbox = stored.outbox()
    lease = await only_lease(outbox)

    fetched = await look(outbox, lease, limit=100)

    assert len(fetched.rows) == AT_HAND_LIMIT + 2


@BOTH_WAYS
async def test_a_queue_too_long_for_one_answer_is_parked_bit_by_bit(stored: Stored, how: InOrder) -> None:
    """An answer that is not all says that some was parked, and the next one comes further."""
    outbox, lease = await leased(stored, CAT, DOG, behind=9 * PARKED_AT_ONCE)
    (head, *_) = (await look(outbox, lease, how=how, limit=1)).rows
    await outbox.settle([failed(lease, head, delay_seconds=60.0)])
    looks = [await look(outbox, lease, how=how)]
    parked = [await count_parked(stored)]

    while not looks[-1].rows:
        looks.append(await look(outbox, lease, how=how))
        parked.append(await count_parked(stored))

    assert not any(each.is_all for each in looks[:-1])
    assert len(looks) > 1
    assert all(0 < more - before <= 8 * PARKED_AT_ONCE for before, more in itertools.pairwise([0, *parked]))
    assert keys_of(looks[-1].rows) == [DOG]


async def test_what_is_parked_has_no_time(stored: Stored) -> None:
    """It is shown without the moment of its next try: nobody knows when that is."""
    outbox, lease = await leased(stored, CAT, CAT)
    (head,) = (await look(outbox, lease, limit=1)).rows
    await outbox.settle([failed(lease, head, delay_seconds=60.0)])
    await look(outbox, lease)

    async with stored.database.read() as connection:
        page = await list_deliveries(connection, DEFAULT_TENANT, wanted=DeliveryFilter(), limit=10, after=None)

    assert {(each.status, each.due_at is None) for each in page} == {("pending", False), ("pending", True)}


async def test_a_lost_lease_parks_nothing(stored: Stored) -> None:
    """And the answer says that there is nothing more to be had."""
    outbox, lease = await leased(stored, CAT, behind=LIMIT)
    (head,) = (await look(outbox, lease, limit=1)).rows
    await outbox.settle([failed(lease, head, delay_seconds=60.0)])
    await stored.run_out(lease.lane_id)
    await only_lease(stored.outbox())

    fetched = await look(outbox, lease)

    assert (fetched.rows, fetched.is_all) == ([], True)
    assert await count_parked(stored) == 0


async def late_and_failed(stored: Stored, outbox: SqlOutbox, lease: Lease) -> tuple[Owed, Owed]:
    """Let one that was committed late, and then fails, come before one that failed already; the second is parked."""
    rows = list((await look(outbox, lease)).rows)
    early, late = rows[0], rows[1]
    await outbox.settle([failed(lease, late, delay_seconds=0.0), failed(lease, early, delay_seconds=3600.0)])
    assert (await look(outbox, lease)).rows == []
    assert await count_parked(stored) == 1
    return early, late


@pytest.mark.parametrize("how_it_ends", ["retried", "cancelled", "blocked and retried"])
async def test_one_that_failed_before_it_had_to_wait_is_woken_too(stored: Stored, how_it_ends: str) -> None:
    """Of two that overlapped when they were recorded, the later one was tried first; it is due after the earlier."""
    outbox, lease = await leased(stored, CAT, CAT)
    early, late = await late_and_failed(stored, outbox, lease)

    if how_it_ends == "cancelled":
        await outbox.settle([dead(lease, replace(early, tries=1))])
    else:
        if how_it_ends == "blocked and retried":
            await stored.execute(update(endpoint).values(on_dead="block"))
            await outbox.settle([replace(dead(lease, replace(early, tries=1)), blocks=True)])
        async with stored.database.write() as connection:
            await retry.retry(connection, DEFAULT_TENANT, early.key)
        anew, *_ = (await look(outbox, lease)).rows
        assert anew.row_id == early.row_id
        await outbox.settle([delivered(lease, anew)])

    assert [owed.row_id for owed in (await look(outbox, lease)).rows] == [late.row_id]


async def test_switching_a_window_off_leaves_nothing_behind(stored: Stored) -> None:
    """What waited for one that came later, but is older, is first again, and goes before it."""
    await stored.add_subscribed(ordering="key", reorder_window_seconds=60.0)
    for number, sequencer in enumerate(["2", "1"]):
        event = changed(make_event(number, key=CAT), sequencer=sequencer.rjust(18, "0"))
        await stored.store.record([heard(event)])
    newer, older = (row.id for row in await stored.rows("delivery", "id"))
    await stored.execute(update(delivery).where(delivery.c.id == newer).values(due_at=now(-1.0), owed_at=now(-1.0)))
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    assert (await look(outbox, lease, how=BY_TURN)).rows == []
    assert await count_parked(stored) == 1

    await stored.execute(update(delivery).where(delivery.c.id == older).values(due_at=now(-1.0)))
    woken = await look(outbox, lease, how=IN_LINE)
    rows = (await look(outbox, lease, how=IN_LINE)).rows

    assert woken.rows == []
    assert [owed.row_id for owed in rows] == [newer]
    await outbox.settle([delivered(lease, rows[0])])
    assert [owed.row_id for owed in (await look(outbox, lease, how=IN_LINE)).rows] == [older]


async def test_where_no_order_is_kept_any_more_what_was_parked_is_let_go(stored: Stored) -> None:
    """The sweep does it in slices; what failed keeps its time, and an ordered lane its parked ones."""
    outbox, lease = await leased(stored, CAT, behind=LET_GO_AT_ONCE + LIMIT)
    (head,) = (await look(outbox, lease, limit=1)).rows
    await outbox.settle([failed(lease, head, delay_seconds=3600.0)])
    assert (await look(outbox, lease)).rows == []
    await outbox.sweep()
    assert await count_parked(stored) == LET_GO_AT_ONCE + LIMIT

    await stored.execute(update(endpoint).values(ordering="none", updated_at=now()))
    await outbox.sweep()

    assert await count_parked(stored) == 0
    due = await outbox.fetch(lease, limit=2 * LET_GO_AT_ONCE, leave_out=())
    assert len(due) == LET_GO_AT_ONCE + LIMIT
    assert head.row_id not in {owed.row_id for owed in due}
