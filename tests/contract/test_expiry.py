"""What is too old ends over both databases, whoever else is owed how much."""

from typing import Final

import pytest
from sqlalchemy import update

from app.store import expiry
from app.store.columns import now
from app.store.schema import delivery, endpoint
from tests.bed.stored import Stored, heard, make_events

DAY: Final = 86_400.0


async def age(stored: Stored, count: int, *, seconds: float) -> None:
    """Let the first so many deliveries be owed for so long."""
    ids = [row.id for row in await stored.rows("delivery", "id")][:count]
    await stored.execute(update(delivery).where(delivery.c.id.in_(ids)).values(owed_at=now(-seconds)))


async def test_what_is_too_old_is_dead_without_a_try(stored: Stored) -> None:
    """It stands among the dead letters as expired, with a final row of its history; what is younger stays."""
    await stored.add_subscribed()
    await stored.store.record([heard(*make_events(3))])
    await age(stored, 2, seconds=6 * DAY)

    await stored.outbox().sweep()

    assert await stored.count("delivery") == 1
    assert [row.reason for row in await stored.rows("dead_letter", "created_at")] == ["expired", "expired"]
    endings = [(row.number, row.ended, row.reason) for row in await stored.rows("attempt", "started_at")]
    assert endings == [(0, "dead", "expired")] * 2


async def test_each_endpoint_has_its_own_age(stored: Stored) -> None:
    """One that allows more keeps what another has given up."""
    patient, _ = await stored.add_subscribed()
    await stored.add_subscribed()
    of_patient = (await stored.rows("lane", "id"))[0].endpoint_id
    await stored.execute(update(endpoint).where(endpoint.c.id == of_patient).values(max_age_seconds=30 * DAY))
    await stored.store.record([heard(*make_events(1))])
    await age(stored, 2, seconds=6 * DAY)

    await stored.outbox().sweep()

    assert [row.lane_id for row in await stored.rows("delivery", "id")] == [patient]


async def test_the_walk_goes_on_where_it_stood(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice at a time, past what another endpoint still keeps, and from the start again at the end."""
    monkeypatch.setattr(expiry, "LOOKED_AT_ONCE", 2)
    await stored.add_subscribed()
    await stored.add_subscribed()
    of_patient = (await stored.rows("lane", "id"))[0].endpoint_id
    await stored.execute(update(endpoint).where(endpoint.c.id == of_patient).values(max_age_seconds=30 * DAY))
    await stored.store.record([heard(*make_events(3))])
    await age(stored, 6, seconds=6 * DAY)

    after, ended = 0, 0
    for _ in range(4):
        async with stored.database.write() as connection:
            walk = await expiry.expire(connection, after=after)
        after, ended = walk.last, ended + walk.ended

    assert (ended, after) == (3, 0)
