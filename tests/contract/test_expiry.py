"""What is too old ends over both databases, whoever else is owed how much."""

from dataclasses import replace
from typing import Final

import pytest
from sqlalchemy import select, update

from app.domain.configuration import OnDead, Ordering
from app.domain.delivery import InOrder
from app.domain.errors import StoreUnavailable
from app.domain.ids import LaneId
from app.store import expiry, sweep
from app.store.columns import EPOCH, now
from app.store.expiry import Expiry, end_old
from app.store.outbox_schema import delivery, lane
from app.store.schema import endpoint
from tests.bed.stored import Stored, changed, dead, heard, make_event, make_events, only_lease

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


async def test_a_neighbours_backlog_delays_nobody(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much another endpoint is owed before, the next sweep ends what is too old and was never tried."""
    monkeypatch.setattr(expiry, "LOOKED_AT_ONCE", 2)
    await stored.add_subscribed()
    await stored.store.record([heard(*make_events(20))])
    lane_id, _ = await stored.add_subscribed()
    await stored.execute(
        update(endpoint).where(endpoint.c.id == await of(stored, lane_id)).values(max_age_seconds=60.0)
    )
    await stored.execute(update(lane).where(lane.c.id == lane_id).values(is_stopped=True))
    await stored.store.record([heard(make_event(20))])
    past = {"owed_at": now(-70.0), "due_at": now(-70.0)}
    await stored.execute(update(delivery).where(delivery.c.lane_id == lane_id).values(**past))

    await stored.outbox().sweep()

    assert [row.lane_id for row in await stored.rows("dead_letter")] == [lane_id]
    assert await stored.count("delivery") == 21


async def test_a_step_of_the_sweep_that_fails_keeps_no_other_from_its_turn(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the sweep and comes last in the next one, so what is too old ends then."""

    async def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable("It takes too long.")

    monkeypatch.setattr(sweep, "cancel_what_was_deleted", fail)
    await stored.add_subscribed()
    await stored.store.record([heard(make_event(1))])
    await stored.execute(update(delivery).values(owed_at=now(-6 * DAY), due_at=now(-6 * DAY)))
    outbox, ended = stored.outbox(), []

    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await outbox.sweep()
        ended.append(await stored.count("dead_letter"))

    assert ended == [0, 1]


async def test_much_that_is_too_old_ends_a_few_slices_a_sweep(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each lane in turn; and what is over is not looked at again."""
    monkeypatch.setattr(expiry, "LOOKED_AT_ONCE", 2)
    first, _ = await stored.add_subscribed()
    second, _ = await stored.add_subscribed()
    await stored.store.record([heard(*make_events(12))])
    await stored.execute(update(delivery).values(owed_at=now(-6 * DAY), due_at=now(-6 * DAY)))
    ending = Expiry(stored.database)

    left = []
    for _ in range(3):
        await ending.run()
        lanes = [row.lane_id for row in await stored.rows("delivery")]
        left.append((lanes.count(first), lanes.count(second)))

    assert left[0][0] < 12
    assert left[1][1] < 12
    assert left[2] == (0, 0)
    assert {row.low_due > EPOCH for row in await stored.rows("lane")} == {True}


async def test_what_was_put_off_ends_though_others_are_due_before(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The walk of a lane goes on where it stood, past what is young, a slice for each lane in turn."""
    monkeypatch.setattr(expiry, "LOOKED_AT_ONCE", 3)
    lane_ids = [(await stored.add_subscribed())[0] for _ in range(2)]
    await stored.store.record([heard(*make_events(10))])
    await stored.execute(update(delivery).values(owed_at=now(-4 * DAY), due_at=now(-4 * DAY)))
    last = [max(row.id for row in await stored.rows("delivery") if row.lane_id == each) for each in lane_ids]
    put_off = {"owed_at": now(-6 * DAY), "due_at": now(-DAY), "failures": 3}
    await stored.execute(update(delivery).where(delivery.c.id.in_(last)).values(**put_off))
    ending = Expiry(stored.database)

    ended = []
    for _ in range(4):
        await ending.run()
        ended.append(await stored.count("dead_letter"))

    assert ended[0] == 0
    assert ended[-1] == 2
    assert {row.id for row in await stored.rows("delivery")}.isdisjoint(last)


async def test_what_stands_behind_a_death_that_blocks_ends_and_blocks_too(stored: Stored) -> None:
    """It waits for no time at all; whoever sees to the first one has to see to those behind it as well."""
    lane_id, _ = await stored.add_subscribed(ordering="endpoint", on_dead="block")
    await stored.store.record([heard(*make_events(3))])
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    first, *_ = (await outbox.fetch_in_order(lease, limit=1, leave_out=(), how=InOrder())).rows
    await outbox.settle([replace(dead(lease, first), blocks=True)])
    assert not (await outbox.fetch_in_order(lease, limit=10, leave_out=(), how=InOrder())).rows
    await stored.execute(update(delivery).values(owed_at=now(-6 * DAY)))

    await Expiry(stored.database).run()

    assert [row.blocks for row in await stored.rows("delivery")] == [True] * 3
    assert [row.lane_id for row in await stored.rows("dead_letter")] == [lane_id] * 3


@pytest.mark.parametrize(("ordering", "on_dead"), [("key", "skip"), ("key", "block"), ("none", "block")])
async def test_what_got_old_while_nobody_tried_it_blocks_as_any_death_does(
    stored: Stored, ordering: Ordering, on_dead: OnDead
) -> None:
    """Whoever ends it, the sweep or the lane's holder: the same follows."""
    await stored.add_subscribed(ordering=ordering, on_dead=on_dead)
    await stored.store.record([heard(make_event(number, key=b"cat.jpg")) for number in range(2)])
    old, _ = await stored.rows("delivery", "id")
    await stored.execute(update(delivery).where(delivery.c.id == old.id).values(owed_at=now(-6 * DAY)))

    await Expiry(stored.database).run()

    blocks = {row.id: row.blocks for row in await stored.rows("delivery", "id")}
    assert blocks.get(old.id) == (True if (ordering, on_dead) == ("key", "block") else None)
    assert await stored.count("dead_letter") == 1


async def test_what_is_owed_anew_meanwhile_is_not_too_old(stored: Stored) -> None:
    """Somebody asked for it between the look and the end."""
    lane_id, _ = await stored.add_subscribed()
    await stored.store.record([heard(*make_events(2))])
    ids = [row.id for row in await stored.rows("delivery", "id")]
    await age(stored, 1, seconds=6 * DAY)

    async with stored.database.write() as connection:
        await end_old(connection, lane_id=lane_id, ids=ids)

    assert [row.id for row in await stored.rows("delivery")] == ids[1:]


async def of(stored: Stored, lane_id: LaneId) -> bytes:
    """Give the endpoint of a lane."""
    found: bytes = await stored.scalar(select(lane.c.endpoint_id).where(lane.c.id == lane_id))
    return found


async def test_what_got_old_before_its_turn_in_a_window_holds_back_none(stored: Stored) -> None:
    """What is older by the store's own order has yet to go: held up behind it, it would come after it in the end."""
    await stored.add_subscribed(ordering="key", on_dead="block", reorder_window_seconds=60.0)
    for number, sequencer in enumerate(["7", "3"]):
        event = changed(make_event(number, key=b"cat.jpg"), sequencer=sequencer.rjust(18, "0"))
        await stored.store.record([heard(event)])
    newer, older = (row.id for row in await stored.rows("delivery", "id"))
    await stored.execute(update(delivery).where(delivery.c.id == newer).values(owed_at=now(-6 * DAY)))

    await Expiry(stored.database).run()

    assert [(row.id, row.blocks) for row in await stored.rows("delivery")] == [(older, False)]
