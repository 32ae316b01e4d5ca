"""A retry beside the relay's settling, over both databases: whatever comes first, it is owed or over, not both."""

import asyncio
from dataclasses import replace

import pytest

from app.domain.configuration import OnDead
from app.domain.delivery import Owed
from app.domain.ids import DEFAULT_TENANT
from app.store.deliveries import DeliveryFilter, get_delivery, list_deliveries
from app.store.retry import Retry, retry
from tests.bed.stored import Stored, dead, delivered, failed, heard, make_event, make_events, only_lease, owed_by


async def test_what_was_dead_is_tried_again_and_ends_once_more(stored: Stored) -> None:
    """Its lane can be leased at once, its tries count on with failures from nought, and one ending remains."""
    await stored.add_subscribed()
    await stored.store.record([heard(make_event(1))])
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    [owed] = await owed_by(outbox, lease)
    await outbox.settle([dead(lease, owed)])
    assert await outbox.rest(lease)
    await outbox.release([lease])
    assert not await outbox.lease(1)

    await _retry(stored, owed)

    again = await only_lease(outbox)
    [anew] = await owed_by(outbox, again)
    assert (anew.key, anew.tries, anew.failures) == (owed.key, 1, 0)
    assert anew.owed_at > owed.owed_at
    await outbox.settle([delivered(again, anew)])
    assert await _told(stored) == [("delivered", [1, 2])]


async def test_a_late_success_ends_what_was_retried(stored: Stored) -> None:
    """A try that was under way when the delivery died and was retried still counts, and nothing is owed any more."""
    await stored.add_subscribed()
    await stored.store.record([heard(make_event(1))])
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    [owed] = await owed_by(outbox, lease)
    await outbox.settle([dead(lease, owed)])
    await _retry(stored, owed)

    await outbox.settle([delivered(lease, owed)])

    assert await _told(stored) == [("delivered", [1, 2])]
    assert (await _retry(stored, owed)).answer == "ended"
    assert await stored.count("delivery") == 0


@pytest.mark.parametrize("on_dead", ["skip", "block"])
async def test_a_death_settled_twice_does_not_end_what_was_retried(stored: Stored, on_dead: OnDead) -> None:
    """Whoever did not learn that a death was written down writes it again; a person asked for a retry in between."""
    await stored.add_subscribed(ordering="key", on_dead=on_dead)
    await stored.store.record([heard(make_event(1))])
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    [owed] = await owed_by(outbox, lease)
    death = replace(dead(lease, owed), blocks=on_dead == "block")
    await outbox.settle([death])
    await _retry(stored, owed)

    await outbox.settle([death])

    assert [anew.key for anew in await owed_by(outbox, lease)] == [owed.key]
    assert await _told(stored) == [("pending", [1])]


async def test_a_death_settled_twice_does_not_end_what_came_in_meanwhile(stored: Stored) -> None:
    """The number of a row in the outbox is never another's."""
    await stored.add_subscribed()
    await stored.store.record([heard(make_event(1))])
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    [owed] = await owed_by(outbox, lease)
    await outbox.settle([dead(lease, owed)])
    await stored.store.record([heard(make_event(2))])

    await outbox.settle([dead(lease, owed)])

    [other] = await owed_by(outbox, lease)
    assert other.row_id > owed.row_id
    assert (await stored.count("delivery"), await stored.count("dead_letter")) == (1, 1)


async def test_retries_and_settles_at_once_leave_each_delivery_in_one_place(stored: Stored) -> None:
    """However they interleave, nothing deadlocks, and each is pending, dead or delivered exactly once."""
    await stored.add_subscribed()
    await stored.store.record([heard(*make_events(12))])
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    all_owed = await owed_by(outbox, lease)
    await outbox.settle([dead(lease, each) for each in all_owed[:6]])
    settlements = [
        *(delivered(lease, each) for each in all_owed[:3]),
        *(failed(lease, each) for each in all_owed[6:9]),
        *(dead(lease, each) for each in all_owed[9:]),
    ]

    await asyncio.gather(outbox.settle(settlements), *(_retry(stored, each) for each in reversed(all_owed)))

    async with stored.database.read() as connection:
        listed = await list_deliveries(connection, DEFAULT_TENANT, wanted=DeliveryFilter(), after=None, limit=50)
    letters = {row.delivery_key for row in await stored.rows("dead_letter")}
    assert sorted(each.key for each in listed) == sorted(each.key for each in all_owed)
    assert {each.key for each in listed if each.status == "dead"} == letters
    assert {each.status for each in listed if each.key in {owed.key for owed in all_owed[3:6]}} == {"pending"}


async def _retry(stored: Stored, owed: Owed) -> Retry:
    async with stored.database.write() as connection:
        return await retry(connection, DEFAULT_TENANT, owed.key)


async def _told(stored: Stored) -> list[tuple[str, list[int]]]:
    """Tell of each delivery how it stands and the numbers of its attempts."""
    async with stored.database.read() as connection:
        listed = await list_deliveries(connection, DEFAULT_TENANT, wanted=DeliveryFilter(), after=None, limit=50)
        found = [await get_delivery(connection, DEFAULT_TENANT, each.key) for each in listed]
        return [(each[0].status, [attempt.number for attempt in each[1]]) for each in found if each is not None]
