"""Lanes with a reorder window, and marks, over both databases: what the store says is older goes first, if it can."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any, Final

import pytest
from sqlalchemy import select, text, update

from app.domain.delivery import InOrder, Lease, Owed, Settlement
from app.domain.ids import DEFAULT_TENANT, DeliveryKey
from app.domain.order import is_before, place_of
from app.domain.verdict import LATE
from app.store import configuration, replay, replay_slice, retry
from app.store.columns import FAR, now
from app.store.deliveries import DeliveryFilter, list_deliveries
from app.store.events import EventFilter
from app.store.outbox import SqlOutbox
from app.store.outbox_schema import delivery, high_water
from app.store.replay import Counted, Wanted
from app.store.schema import endpoint
from app.store.upkeep import Upkeep
from tests.bed.stored import Stored, changed, dead, delivered, failed, heard, make_event, only_lease

CAT: Final = b"cat.jpg"
DOG: Final = b"dog.jpg"
BY_TURN: Final = InOrder(is_reordered=True, with_marks=True)


async def record(stored: Stored, *numbers: int | None, key: bytes = CAT) -> None:
    """Record changes of an object, one after the other, with the sequencers of these numbers."""
    have = await stored.count("event")
    for at, number in enumerate(numbers, start=have):
        sequencer = None if number is None else f"{number:018X}"
        event = changed(make_event(at, key=key), sequencer=sequencer, size=number)
        await stored.store.record([heard(event)])


async def leased(stored: Stored, *numbers: int | None, late: Any = "deliver") -> tuple[SqlOutbox, Lease]:
    """Owe changes whose windows are over, and lease their lane."""
    await stored.add_subscribed(ordering="key", reorder_window_seconds=60.0, late=late)
    await record(stored, *numbers)
    await end_windows(stored)
    outbox = stored.outbox()
    return outbox, await only_lease(outbox)


async def end_windows(stored: Stored) -> None:
    """Let time pass for all that is owed."""
    await stored.execute(
        update(delivery)
        .where(delivery.c.due_at == delivery.c.owed_at, delivery.c.due_at > now())
        .values(due_at=now(-1.0), owed_at=now(-1.0))
    )


async def fetched(
    outbox: SqlOutbox, lease: Lease, *, leave_out: Sequence[Owed] = (), limit: int = 100, how: InOrder = BY_TURN
) -> list[Owed]:
    """Fetch by turn, without what is at hand."""
    at_hand = [owed.row_id for owed in leave_out]
    return list((await outbox.fetch_in_order(lease, limit=limit, leave_out=at_hand, how=how)).rows)


def numbers_of(rows: Sequence[Owed]) -> list[int | None]:
    """Give the changes."""
    return [owed.stored.event.size for owed in rows if owed.stored]


def reaching(lease: Lease, owed: Owed) -> Settlement:
    """Settle a success at a receiver whose late ones matter."""
    assert owed.stored is not None
    settlement = delivered(lease, owed)
    return Settlement(
        lease=lease,
        owed=owed,
        outcome=settlement.outcome,
        verdict=settlement.verdict,
        started_seconds_ago=0.1,
        reached=place_of(owed.stored.event),
    )


async def test_a_window_keeps_deliveries_back_and_notes_their_places(stored: Stored) -> None:
    """Due a minute after they were recorded; without a window at once, and with no place."""
    lane_id, _ = await stored.add_subscribed(ordering="key", reorder_window_seconds=60.0)
    await stored.add_subscribed(ordering="key")
    await record(stored, 1, None)

    rows = await stored.rows("delivery", "id")

    minding = [row for row in rows if row.lane_id == lane_id]
    assert [row.due_at - row.created_at for row in rows if row.lane_id == lane_id] == [timedelta(minutes=1)] * 2
    assert [row.due_at == row.owed_at for row in minding] == [True, True]
    assert [row.place is None for row in minding] == [False, True]
    assert [(row.due_at, row.place) for row in rows if row.lane_id != lane_id] == [
        (row.created_at, None) for row in rows if row.lane_id != lane_id
    ]


async def test_the_older_goes_first(stored: Stored) -> None:
    """Shuffled changes are handed out in the order their store made them; each object for itself."""
    outbox, lease = await leased(stored, 4, 2, 3, 1)
    await record(stored, 6, 5, key=DOG)
    await end_windows(stored)

    rows = await fetched(outbox, lease)

    assert numbers_of([owed for owed in rows if owed.stored and owed.stored.event.key == CAT]) == [1, 2, 3, 4]
    assert numbers_of([owed for owed in rows if owed.stored and owed.stored.event.key == DOG]) == [5, 6]


async def test_around_what_cannot_be_told_arrival_counts(stored: Stored) -> None:
    """Nothing overtakes one without a sequencer, or is overtaken by it."""
    outbox, lease = await leased(stored, 4, 3, None, 2, 1)

    assert numbers_of(await fetched(outbox, lease)) == [3, 4, None, 1, 2]


async def test_an_older_one_in_its_window_is_waited_for(stored: Stored) -> None:
    """The newer is put off until then, and both are handed out in order."""
    outbox, lease = await leased(stored, 2)
    await record(stored, 1)

    rows = await fetched(outbox, lease)

    assert rows == []
    newer, older = await stored.rows("delivery", "id")
    assert (newer.due_at, older.due_at == older.owed_at) == (FAR, True)
    await stored.make_due()
    assert numbers_of(await fetched(outbox, lease)) == [1, 2]


async def test_one_that_ends_does_not_cut_a_window_short(stored: Stored) -> None:
    """What waited for it is due, and what is still in its window is not."""
    outbox, lease = await leased(stored, 1, 2)
    first, _ = await fetched(outbox, lease)
    await outbox.settle([failed(lease, first, delay_seconds=3600.0)])
    assert await fetched(outbox, lease) == []
    await record(stored, 3)

    await outbox.settle([delivered(lease, first)])

    assert numbers_of(await fetched(outbox, lease)) == [2]
    third = (await stored.rows("delivery", "id"))[-1]
    assert third.due_at == third.owed_at > third.created_at + timedelta(seconds=59)


async def test_one_that_failed_is_not_overtaken(stored: Stored) -> None:
    """Older ones that come after its first try are parked."""
    outbox, lease = await leased(stored, 2)
    first = (await fetched(outbox, lease))[0]
    await outbox.settle([failed(lease, first, delay_seconds=3600.0)])
    await record(stored, 1)
    await end_windows(stored)

    rows = await fetched(outbox, lease)

    assert rows == []
    assert (await stored.rows("delivery", "id"))[1].due_at == FAR


async def test_what_is_at_hand_goes_before_whatever_is_read_later(stored: Stored) -> None:
    """Who asks has it in its queue; what still waits keeps back what comes after it all the same."""
    outbox, lease = await leased(stored, 5)
    at_hand = await fetched(outbox, lease)
    await record(stored, 7, 3)
    third = select(delivery.c.id).order_by(delivery.c.id.desc()).limit(1)
    await stored.execute(update(delivery).where(delivery.c.id < third.scalar_subquery()).values(due_at=now(-1.0)))

    assert await fetched(outbox, lease, leave_out=at_hand) == []
    await stored.make_due()
    assert numbers_of(await fetched(outbox, lease, leave_out=at_hand)) == [3, 7]


async def test_a_long_queue_of_one_object_does_not_hide_the_others(stored: Stored) -> None:
    """However many are due, one look gives no more of it than leaves room, and the next what else is due."""
    outbox, lease = await leased(stored, *range(150, 0, -1))
    await record(stored, 1, key=DOG)
    await end_windows(stored)

    rows = await fetched(outbox, lease, limit=64)
    more = await fetched(outbox, lease, leave_out=rows, limit=200)

    assert len(rows) == 64
    assert len(more) == 64 + 1
    assert len({owed.row_id for owed in (*rows, *more)}) == 129


async def test_deliveries_of_a_deleted_subscription_hold_up_only_until_they_are_cancelled(stored: Stored) -> None:
    """Those that come after them wait for the sweep, as in any ordered lane."""
    lane_id, first = await stored.add_subscribed(ordering="key", reorder_window_seconds=60.0)
    endpoint_id = await stored.scalar(select(endpoint.c.id))
    await record(stored, 1)
    await stored.add_subscription(endpoint_id)
    await record(stored, 2)
    await end_windows(stored)
    await stored.delete_subscription(first, seconds_ago=120.0)
    outbox = stored.outbox()
    lease = await only_lease(outbox)

    assert lease.lane_id == lane_id
    assert await fetched(outbox, lease) == []
    await outbox.sweep()
    assert numbers_of(await fetched(outbox, lease)) == [2]


async def test_marks_tell_how_far_a_receiver_has_come(stored: Stored) -> None:
    """The newest delivered counts, also when an older one follows; rows know it when they are read."""
    outbox, lease = await leased(stored, 1, 5, late="mark")
    older, newer = await fetched(outbox, lease)
    assert (older.mark, newer.mark) == (None, None)

    await outbox.settle([reaching(lease, newer)])
    await outbox.settle([reaching(lease, older)])
    await record(stored, 3)
    await record(stored, 3, key=DOG)
    await end_windows(stored)
    rows = await fetched(outbox, lease)

    assert [is_before(place_of(owed.stored.event), owed.mark) for owed in rows if owed.stored] == [True, False]
    assert [owed.mark for owed in rows] == [newer.place, None]
    assert await stored.count("high_water") == 1
    assert [owed.mark for owed in await fetched(outbox, lease, how=InOrder(is_reordered=True))] == [None, None]


async def test_a_success_under_a_lost_lease_raises_the_mark_too(stored: Stored) -> None:
    """The receiver has it, whoever says so; what only failed raises nothing."""
    outbox, lease = await leased(stored, 1, 5, late="mark")
    older, newer = await fetched(outbox, lease)
    await outbox.release([lease])
    other = stored.outbox()
    await stored.execute(text("UPDATE lane SET wake_at = lease_until"))
    theirs = await only_lease(other)

    await outbox.settle([reaching(lease, newer)])
    await other.settle([failed(theirs, older)])

    assert [row.place for row in await stored.rows("high_water")] == [newer.place]


async def test_one_that_is_too_late_ends_as_cancelled_with_its_reason(stored: Stored) -> None:
    """The history says so, without a try, and those behind it go on."""
    outbox, lease = await leased(stored, 1, 2, late="drop")
    first, _ = await fetched(outbox, lease)

    await outbox.settle([Settlement(lease=lease, owed=first, outcome=None, verdict=LATE, started_seconds_ago=0.0)])

    (ended,) = await stored.rows("attempt")
    assert (ended.number, ended.ended, ended.reason, ended.outcome) == (0, "cancelled", "late", None)
    assert await stored.count("dead_letter") == 0
    assert numbers_of(await fetched(outbox, lease)) == [2]
    async with stored.database.read() as connection:
        page = await list_deliveries(
            connection, DEFAULT_TENANT, wanted=DeliveryFilter(status="cancelled"), limit=10, after=None
        )
    assert [(each.status, each.reason) for each in page] == [("cancelled", "late")]


@pytest.mark.parametrize("was", ["pending", "dead"])
async def test_what_a_person_asks_for_has_no_place(stored: Stored, was: str) -> None:
    """So that nothing drops it, and that it keeps the order of arrival."""
    outbox, lease = await leased(stored, 5, late="drop")
    (owed,) = await fetched(outbox, lease)
    await outbox.settle([failed(lease, owed, delay_seconds=3600.0) if was == "pending" else dead(lease, owed)])

    async with stored.database.write() as connection:
        answer = await retry.retry(connection, DEFAULT_TENANT, owed.key)

    assert answer.answer == "owed"
    (anew,) = await fetched(outbox, lease)
    assert (owed.place is None, anew.place is None) == (False, True)


async def ask_for(stored: Stored, key: DeliveryKey) -> None:
    """Let a person ask for a retry."""
    async with stored.database.write() as connection:
        await retry.retry(connection, DEFAULT_TENANT, key)


async def replay_what_died(stored: Stored, _key: DeliveryKey) -> None:
    """Let a person ask for all that is dead."""
    wanted = Wanted(events=EventFilter(), status="dead")
    counted = Counted(events=0, deliveries=0, is_all=False)
    async with stored.database.write() as connection:
        job = await replay.create(connection, DEFAULT_TENANT, wanted, new_keys=False, counted=counted)
        known = await configuration.load(connection)
        await replay_slice.do_slice(connection, job, known, limit=10, most_walked=10)


@pytest.mark.parametrize("ask", [ask_for, replay_what_died])
async def test_one_that_held_up_its_object_and_is_asked_for_goes_first(
    stored: Stored, ask: Callable[[Stored, DeliveryKey], Awaitable[None]]
) -> None:
    """What waited for it came before it and is newer: it goes on waiting, and not for ever."""
    outbox, lease = await leased(stored, 2, 1, late="drop")
    older, _ = await fetched(outbox, lease)
    await outbox.settle([replace(dead(lease, older), blocks=True)])
    assert await fetched(outbox, lease) == []

    await ask(stored, older.key)

    anew, *_ = await fetched(outbox, lease)
    assert numbers_of([anew]) == [1]
    assert anew.place != older.place, "it could be dropped"
    await outbox.settle([delivered(lease, anew)])
    (newer,) = await fetched(outbox, lease)
    assert numbers_of([newer]) == [2]
    assert newer.place is not None


async def test_one_that_is_asked_for_in_its_window_does_not_wait_for_those_that_waited_for_it(stored: Stored) -> None:
    """They came before it and nothing holds them up any more, so all go at once."""
    outbox, lease = await leased(stored, 2)
    await record(stored, 1)
    assert await fetched(outbox, lease) == []

    await ask_for(stored, (await stored.rows("delivery", "id"))[-1].delivery_key)

    assert numbers_of(await fetched(outbox, lease)) == [2, 1]


async def test_one_that_was_asked_for_and_put_off_goes_with_the_one_before_it(stored: Stored) -> None:
    """Its own window is over since it was asked for: what is left of the window of the other is not waited for."""
    outbox, lease = await leased(stored, 9)
    await record(stored, 1, 2, key=DOG)
    _, first, second = (row.delivery_key for row in await stored.rows("delivery", "id"))
    await ask_for(stored, second)
    assert numbers_of(await fetched(outbox, lease)) == [9]

    await ask_for(stored, first)

    assert sorted(each or 0 for each in numbers_of(await fetched(outbox, lease))) == [1, 2, 9]


async def test_marks_past_the_retention_and_of_deleted_endpoints_go(stored: Stored) -> None:
    """The others stay; more than a slice of them is no matter."""
    lane_id, _ = await stored.add_subscribed(ordering="key", late="mark")
    old = [
        {"lane_id": lane_id, "order_key": number, "family": 1, "place": b"\x01", "updated_at": now(-31 * 86_400.0)}
        for number in range(1_200)
    ]
    kept = {"lane_id": lane_id, "order_key": -1, "family": 1, "place": b"\x01", "updated_at": now(-29 * 86_400.0)}
    gone = {"lane_id": 4711, "order_key": -2, "family": 1, "place": b"\x01", "updated_at": now()}
    async with stored.database.write() as connection:
        for start in range(0, len(old), 100):
            await connection.execute(high_water.insert().values(old[start : start + 100]))
        await connection.execute(high_water.insert().values([kept, gone]))

    await Upkeep(stored.database).run_once()

    assert [row.order_key for row in await stored.rows("high_water")] == [-1]


def assert_its_turn(head: Owed, rows: Sequence[Any]) -> None:
    """Of what is owed of its object, only newer ones came before it, and none failed before."""
    for row in rows:
        if row.order_key == head.order_key and row.id != head.row_id:
            assert row.id > head.row_id or is_before(head.place, row.place)
            assert row.failures == 0


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_only_the_older_overtakes(stored: Stored, seed: int) -> None:
    """Random arrivals, windows, failures and changes of hands: what is handed out is in its turn, and all end."""
    chance = Random(seed)  # noqa: S311 -- the same every time
    outbox, lease = await leased(stored, 50)
    in_hand: list[Owed] = []
    recorded = 1
    while recorded < 30 or await stored.count("delivery"):
        if recorded < 30 and chance.randrange(2) == 0:
            await record(stored, chance.choice([None, *range(99)]), key=chance.choice([CAT, DOG]))
            recorded += 1
        match chance.randrange(4):
            case 0:
                await stored.make_due()
            case 1:
                await outbox.release([lease])
                in_hand.clear()
                outbox = stored.outbox()
                await stored.execute(text("UPDATE lane SET wake_at = lease_until"))
                lease = await only_lease(outbox)
            case _:
                in_hand += await fetched(outbox, lease, leave_out=in_hand, limit=chance.randint(1, 8))
        for head in in_hand[:1]:
            assert_its_turn(head, await stored.rows("delivery", "id"))
            if chance.randrange(4) == 0:
                await outbox.settle([failed(lease, head, delay_seconds=chance.choice([0.0, 30.0]))])
                in_hand = [owed for owed in in_hand if owed.order_key != head.order_key]
            else:
                await outbox.settle([delivered(lease, head)])
                in_hand.remove(head)
