"""Ordered lanes over both databases: what comes later is handed out only behind what comes earlier, or after it."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Final

import pytest
from sqlalchemy import func, select, text, update

from app.domain.delivery import InOrder, Lease, Owed
from app.store import retry
from app.store.columns import FAR, now
from app.store.outbox import SqlOutbox
from app.store.outbox_schema import dead_letter, delivery
from app.store.schema import endpoint
from tests.bed.stored import Stored, dead, delivered, failed, heard, make_event, only_lease

CAT: Final = b"cat.jpg"
DOG: Final = b"dog.jpg"


async def record(stored: Stored, *keys: bytes) -> None:
    """Record an event of each key, one after the other."""
    have = await stored.count("event")
    for number, key in enumerate(keys, start=have):
        await stored.store.record([heard(make_event(number, key=key))])


async def leased(stored: Stored, *keys: bytes) -> tuple[SqlOutbox, Lease]:
    """Owe events of these keys to an endpoint ordered by key, and lease its lane."""
    await stored.add_subscribed(ordering="key")
    await record(stored, *keys)
    outbox = stored.outbox()
    return outbox, await only_lease(outbox)


async def fetched(outbox: SqlOutbox, lease: Lease, *, leave_out: Sequence[Owed] = (), limit: int = 100) -> list[Owed]:
    """Fetch in order, without what is at hand."""
    at_hand = [owed.row_id for owed in leave_out]
    return list((await outbox.fetch_in_order(lease, limit=limit, leave_out=at_hand, how=InOrder())).rows)


def keys_of(rows: Sequence[Owed]) -> list[bytes]:
    """Give the object of each."""
    return [owed.stored.event.key for owed in rows if owed.stored]


async def test_a_whole_queue_is_handed_out_in_order(stored: Stored) -> None:
    """Those that stand behind another of the answer are in it, after it."""
    outbox, lease = await leased(stored, CAT, DOG, CAT, CAT)

    rows = await fetched(outbox, lease)

    assert keys_of(rows) == [CAT, DOG, CAT, CAT]
    assert [owed.row_id for owed in rows] == sorted(owed.row_id for owed in rows)
    assert rows[0].order_key == rows[2].order_key != rows[1].order_key


async def test_behind_one_that_failed_nothing_is_handed_out(stored: Stored) -> None:
    """Those behind it are parked; others are not."""
    outbox, lease = await leased(stored, CAT, CAT, DOG)
    first, *_ = await fetched(outbox, lease)

    await outbox.settle([failed(lease, first, delay_seconds=60.0)])
    rows = await fetched(outbox, lease)

    assert keys_of(rows) == [DOG]
    dues = [row.due_at for row in await stored.rows("delivery", "id")]
    assert dues[1] == FAR
    assert dues[2] < dues[0]


async def test_behind_one_at_hand_the_next_is_handed_out(stored: Stored) -> None:
    """Who asks holds the earlier one, and will keep the order."""
    outbox, lease = await leased(stored, CAT, CAT)
    first = (await fetched(outbox, lease, limit=1))[0]

    rows = await fetched(outbox, lease, leave_out=[first])

    assert [owed.row_id for owed in rows] == [first.row_id + 1]


@pytest.mark.parametrize("ending", ["delivered", "dead"])
async def test_what_was_put_off_is_due_when_the_one_before_it_is_over(stored: Stored, ending: str) -> None:
    """Delivered or dead, it is out of the way, and the next is due in the same transaction."""
    outbox, lease = await leased(stored, CAT, CAT, CAT)
    first = (await fetched(outbox, lease, limit=1))[0]
    await outbox.settle([failed(lease, first, delay_seconds=3600.0)])
    assert await fetched(outbox, lease) == []

    await outbox.settle([delivered(lease, first) if ending == "delivered" else dead(lease, replace(first, tries=1))])

    assert len(await fetched(outbox, lease)) == 2


async def test_a_late_success_lets_the_next_one_go_too(stored: Stored) -> None:
    """Also when the lease of who reports it is lost."""
    outbox, lease = await leased(stored, CAT, CAT)
    first = (await fetched(outbox, lease, limit=1))[0]
    await outbox.settle([failed(lease, first, delay_seconds=3600.0)])
    assert await fetched(outbox, lease) == []
    await outbox.release([lease])
    other = stored.outbox()
    await stored.execute(text("UPDATE lane SET wake_at = lease_until"))
    theirs = await only_lease(other)

    lost = await outbox.settle([delivered(lease, first)])

    assert lost == {lease.lane_id}
    assert len(await fetched(other, theirs)) == 1


@pytest.mark.parametrize("tried_under", [None, 7])
async def test_a_success_tried_under_another_order_lets_the_next_one_go_too(
    stored: Stored, tried_under: int | None
) -> None:
    """It died, the order was changed, and it was replayed, when the success of a try from before comes in."""
    outbox, lease = await leased(stored, CAT, CAT)
    anew = (await fetched(outbox, lease, limit=1))[0]
    await outbox.settle([failed(lease, anew, delay_seconds=3600.0)])
    assert await fetched(outbox, lease) == []

    await outbox.settle([delivered(lease, replace(anew, order_key=tried_under, row_id=anew.row_id - 1))])

    assert keys_of(await fetched(outbox, lease)) == [CAT]


async def test_one_that_blocks_is_dead_and_keeps_the_others_back(stored: Stored) -> None:
    """It stands among the dead, is not pending, and what comes after it waits; a retry lets them go after it."""
    outbox, lease = await leased(stored, CAT, CAT, DOG)
    first = (await fetched(outbox, lease, limit=1))[0]

    await outbox.settle([replace(dead(lease, first), blocks=True)])
    rows = await fetched(outbox, lease)

    assert keys_of(rows) == [DOG]
    assert await stored.count("dead_letter") == 1
    assert (await stored.rows("delivery", "id"))[1].due_at == FAR

    async with stored.database.write() as connection:
        answer = await retry.retry(connection, 1, first.key)  # type: ignore[arg-type]  # the default tenant's number
    anew = await fetched(outbox, lease, leave_out=rows)
    await outbox.settle([delivered(lease, anew[0])])

    assert answer.answer == "owed"
    assert anew[0].row_id == first.row_id
    assert await stored.count("dead_letter") == 0
    assert len(await fetched(outbox, lease, leave_out=rows)) == 1


@pytest.mark.parametrize("why", ["skipped", "pruned", "of no order", "of another order"])
async def test_the_sweep_lets_go_what_waits_for_nothing(stored: Stored, why: str) -> None:
    """The dead letter is past retention, or its endpoint no longer waits for it: those behind it go on."""
    outbox, lease = await leased(stored, CAT, CAT)
    await stored.execute(update(endpoint).values(on_dead="block"))
    first = (await fetched(outbox, lease, limit=1))[0]
    await outbox.settle([replace(dead(lease, first), blocks=True)])
    assert await fetched(outbox, lease) == []
    await outbox.sweep()
    assert await fetched(outbox, lease) == []

    changes = {
        "skipped": update(endpoint).values(on_dead="skip"),
        "pruned": dead_letter.delete(),
        "of no order": update(endpoint).values(ordering="none"),
        "of another order": update(endpoint).values(ordering="endpoint"),
    }
    await stored.execute(changes[why])
    await outbox.sweep()

    assert len(await fetched(outbox, lease)) == 1


async def test_the_order_of_an_endpoint_is_that_of_all_its_deliveries(stored: Stored) -> None:
    """One that failed keeps all others back, whatever their object."""
    await stored.add_subscribed(ordering="endpoint")
    await record(stored, CAT, DOG)
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    first = (await fetched(outbox, lease, limit=1))[0]

    await outbox.settle([failed(lease, first, delay_seconds=60.0)])

    assert await fetched(outbox, lease) == []


async def test_a_long_queue_behind_one_does_not_hide_the_others(stored: Stored) -> None:
    """However many are put off, a look finds what may go; each is put off once."""
    outbox, lease = await leased(stored, *([CAT] * 60), DOG)
    first = (await fetched(outbox, lease, limit=1))[0]
    await outbox.settle([failed(lease, first, delay_seconds=60.0)])

    rows = await fetched(outbox, lease, limit=10)

    assert keys_of(rows) == [DOG]
    assert await outbox.rest(lease) is False  # the other object's is still owed
    async with stored.database.read() as connection:
        due = await connection.scalar(select(func.count()).select_from(delivery).where(delivery.c.due_at <= now()))
    assert due == 1


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_nothing_overtakes(stored: Stored, seed: int) -> None:
    """Random arrivals, fetches, failures, successes, deaths and changes of hands: its earliest goes first."""
    chance = Random(seed)  # noqa: S311 -- the same every time
    outbox, lease = await leased(stored, CAT)
    in_hand: dict[int, Owed] = {}
    over: set[int] = set()
    recorded = 1
    for _ in range(120):
        match chance.randrange(6):
            case 0 | 1 if recorded < 60:
                await record(stored, *(chance.choice([CAT, DOG, b"owl"]) for _ in range(chance.randint(1, 4))))
                recorded = await stored.count("event")
            case 2:
                await outbox.release([lease])
                in_hand.clear()
                outbox = stored.outbox()
                await stored.execute(text("UPDATE lane SET wake_at = lease_until"))
                lease = await only_lease(outbox)
            case _:
                rows = await fetched(outbox, lease, leave_out=list(in_hand.values()), limit=chance.randint(1, 8))
                in_hand |= {owed.row_id: owed for owed in rows}
        heads: dict[int | None, Owed] = {}
        for owed in sorted(in_hand.values(), key=lambda each: each.row_id):
            heads.setdefault(owed.order_key, owed)
        for head in list(heads.values())[: chance.randint(0, 3)]:
            earlier = [
                row.id
                for row in await stored.rows("delivery", "id")
                if row.order_key == head.order_key and row.id < head.row_id
            ]
            assert earlier == []
            behind = [row_id for row_id, owed in in_hand.items() if owed.order_key == head.order_key]
            match chance.randrange(4):
                case 0:
                    await outbox.settle([failed(lease, head, delay_seconds=chance.choice([0.0, 0.01, 30.0]))])
                    for row_id in behind:
                        del in_hand[row_id]
                case 1:
                    await outbox.settle([dead(lease, head)])
                    over.add(head.row_id)
                    del in_hand[head.row_id]
                case _:
                    await outbox.settle([delivered(lease, head)])
                    over.add(head.row_id)
                    del in_hand[head.row_id]
        if chance.randrange(10) == 0:
            await stored.execute(update(delivery).where(delivery.c.failures > 0).values(due_at=now()))
    assert over
