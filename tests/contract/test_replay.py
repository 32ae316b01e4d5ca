"""Replays over both databases: what is wanted is owed again once, under its key, in the order the events came."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest
from sqlalchemy import update

from app.domain.configuration import Filter
from app.domain.delivery import InOrder
from app.domain.ids import DEFAULT_TENANT, LaneId, ReplayId, ReplicaId
from app.store import configuration, replay, replay_slice
from app.store.columns import now
from app.store.events import EventFilter
from app.store.outbox_schema import event
from app.store.replay import Counted, Replay, ReplayState, Wanted
from app.store.replay_slice import Slice
from app.store.replaying import Replaying
from tests.bed.stored import Stored, dead, delivered, heard, make_event, only_lease, owed_by

NOTHING: Final = Slice(looked_at=0, owed=0, lanes=frozenset(), is_last=True)
UNCOUNTED: Final = Counted(events=0, deliveries=0, is_all=False)
EVERYTHING: Final = Wanted(events=EventFilter())


async def record(stored: Stored, count: int) -> None:
    """Record events of two objects in turn, one after the other."""
    for number in range(count):
        key = b"cat.jpg" if number % 2 == 0 else b"dog.jpg"
        await stored.store.record([heard(make_event(number, key=key))])


async def end_all(stored: Stored, *, as_dead: int = 0) -> None:
    """Deliver everything that is owed, but for the first few, which die."""
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    owed = await owed_by(outbox, lease)
    await outbox.settle([(dead if place < as_dead else delivered)(lease, each) for place, each in enumerate(owed)])
    await outbox.rest(lease)
    await outbox.release([lease])


async def make(stored: Stored, wanted: Wanted = EVERYTHING, *, new_keys: bool = False) -> ReplayId:
    """Make a job."""
    async with stored.database.write() as connection:
        return await replay.create(connection, DEFAULT_TENANT, wanted, new_keys=new_keys, counted=UNCOUNTED)


async def do_slice(stored: Stored, job: ReplayId, *, limit: int = 100, most_walked: int = 5_000) -> Slice:
    """Do the job's next slice."""
    async with stored.database.write() as connection:
        known = await configuration.load(connection)
        done = await replay_slice.do_slice(connection, job, known, limit=limit, most_walked=most_walked)
        return done or NOTHING


async def get(stored: Stored, job: ReplayId) -> Replay:
    """Read the job."""
    async with stored.database.read() as connection:
        found = await replay.find(connection, DEFAULT_TENANT, job)
    assert found is not None
    return found


async def test_what_was_delivered_is_owed_again_under_its_key(stored: Stored) -> None:
    """The same deliveries, in the order of their events; how they ended before is history."""
    lane_id, _ = await stored.add_subscribed()
    await record(stored, 4)
    before = [row.delivery_key for row in await stored.rows("delivery", "id")]
    await end_all(stored)

    done = await do_slice(stored, await make(stored))

    assert done == Slice(looked_at=4, owed=4, lanes=frozenset({lane_id}), is_last=True)
    assert [row.delivery_key for row in await stored.rows("delivery", "id")] == before
    assert [row.ended for row in await stored.rows("attempt", "number")] == [None] * 4
    await stored.make_due()
    await stored.outbox().sweep()
    await end_all(stored)
    assert [row.number for row in await stored.rows("attempt", "number")] == [1] * 4 + [2] * 4


async def test_what_one_message_said_is_owed_again_in_its_order(stored: Stored) -> None:
    """Ids are hashes, so they tell nothing of an order; an object's own must hold in a replay too."""
    await stored.add_subscribed(ordering="key")
    await stored.store.record([heard(*(make_event(number) for number in range(50)))])
    before = [row.event_id for row in await stored.rows("delivery", "id")]
    await end_all(stored)

    await do_slice(stored, await make(stored))

    assert [row.event_id for row in await stored.rows("delivery", "id")] == before


async def test_what_is_still_owed_is_left_alone(stored: Stored) -> None:
    """It is on its way already."""
    await stored.add_subscribed()
    await record(stored, 2)

    done = await do_slice(stored, await make(stored))

    assert (done.looked_at, done.owed) == (2, 0)
    assert await stored.count("delivery") == 2


async def test_only_the_dead_if_asked(stored: Stored) -> None:
    """They leave the dead letters."""
    await stored.add_subscribed()
    await record(stored, 5)
    await end_all(stored, as_dead=2)

    done = await do_slice(stored, await make(stored, Wanted(events=EventFilter(), status="dead")))

    assert done.owed == 2
    assert await stored.count("dead_letter") == 0


async def test_a_subscription_made_later_gets_what_came_before(stored: Stored) -> None:
    """Only what its filter takes, and only through it."""
    await stored.add_subscribed()
    await record(stored, 4)
    await end_all(stored)
    endpoint_id = await stored.add_endpoint()
    later = await stored.add_subscription(endpoint_id, wanted=Filter(key_prefix="dog"))

    done = await do_slice(stored, await make(stored, Wanted(events=EventFilter(), subscription_id=later)))

    assert done.owed == 2
    assert {row.subscription_id for row in await stored.rows("delivery", "id")} == {later}


async def test_a_job_goes_on_where_it_stood(stored: Stored) -> None:
    """Slice by slice each event is looked at once, and what comes in meanwhile is not its business."""
    await stored.add_subscribed()
    await record(stored, 5)
    await end_all(stored)
    job = await make(stored)

    slices = [await do_slice(stored, job, limit=2) for _ in range(3)]
    await stored.store.record([heard(make_event(99))])
    after = await do_slice(stored, job, limit=2)

    assert [each.owed for each in slices] == [2, 2, 1]
    assert after == NOTHING
    found = await get(stored, job)
    assert (found.state, found.looked_at, found.owed) == ("done", 5, 5)
    assert found.ended_at is not None


async def test_new_keys_if_asked(stored: Stored) -> None:
    """What was delivered stays delivered, and the replay's deliveries stand beside it."""
    await stored.add_subscribed()
    await record(stored, 2)
    before = {row.delivery_key for row in await stored.rows("delivery", "id")}
    await end_all(stored)

    done = await do_slice(stored, await make(stored, new_keys=True))

    assert done.owed == 2
    assert before.isdisjoint({row.delivery_key for row in await stored.rows("delivery", "id")})
    assert [row.ended for row in await stored.rows("attempt", "number")] == ["delivered"] * 2


async def test_the_events_can_be_narrowed(stored: Stored) -> None:
    """By what lists of events are narrowed by."""
    await stored.add_subscribed()
    await record(stored, 4)
    await end_all(stored)

    done = await do_slice(stored, await make(stored, Wanted(events=EventFilter(key_prefix=b"cat"))))

    assert (done.looked_at, done.owed) == (2, 2)


async def test_a_filter_that_takes_little_moves_on(stored: Stored) -> None:
    """A slice passes so many events and no more, and the next goes on behind them, though none was wanted."""
    await stored.add_subscribed()
    await record(stored, 5)
    await end_all(stored)
    job = await make(stored, Wanted(events=EventFilter(bucket="nothing")))

    slices = [await do_slice(stored, job, most_walked=2) for _ in range(2)]
    on_the_way = await get(stored, job)
    last = await do_slice(stored, job, most_walked=2)

    assert [(each.looked_at, each.is_last) for each in slices] == [(0, False)] * 2
    assert on_the_way.reached_at == (await stored.rows("event", "recorded_at"))[3].recorded_at
    assert last.is_last


async def test_what_a_slice_has_no_room_for_is_left_to_the_next(stored: Stored) -> None:
    """Whichever of its two bounds it comes to first."""
    await stored.add_subscribed()
    await record(stored, 6)
    await end_all(stored)
    job = await make(stored, Wanted(events=EventFilter(key_prefix=b"cat")))

    slices = [await do_slice(stored, job, limit=2, most_walked=5) for _ in range(2)]

    assert [(each.owed, each.is_last) for each in slices] == [(2, False), (1, True)]


async def test_a_time_keeps_what_was_recorded_after_it(stored: Stored) -> None:
    """Also of a clock that is some hours ahead; what was recorded days before is not even walked over."""
    await stored.add_subscribed()
    await record(stored, 3)
    await end_all(stored)
    first, second, _ = await stored.rows("event", "recorded_at")
    await stored.execute(update(event).where(event.c.id == first.id).values(recorded_at=now(-3 * 86_400.0)))
    await stored.execute(update(event).where(event.c.id == second.id).values(recorded_at=now(-3_600.0)))
    job = await make(stored, Wanted(events=EventFilter(since=second.time - timedelta(minutes=1))))

    done = await do_slice(stored, job)

    assert done.owed == 2


async def test_a_turn_passes_what_is_not_wanted(stored: Stored) -> None:
    """It goes on to what is, and wakes the lane that owes it."""
    lane_id, _ = await stored.add_subscribed()
    await record(stored, 250)
    await stored.store.record([heard(make_event(999, key=b"mouse.jpg"))])
    await end_all(stored)
    job = await make(stored, Wanted(events=EventFilter(), status="dead"))
    rare = await make(stored, Wanted(events=EventFilter(key_prefix=b"mouse")))
    woken: list[frozenset[LaneId]] = []
    replaying = Replaying(stored.database, ReplicaId(b"r" * 16), wake=woken.append)

    had_more = await replaying.step()

    assert not had_more
    assert [(await get(stored, each)).state for each in (job, rare)] == ["done", "done"]
    assert (await get(stored, job)).looked_at == 251
    assert woken == [frozenset({lane_id})]


@pytest.mark.parametrize("state", ["paused", "cancelled"])
async def test_a_job_that_is_not_running_does_nothing(stored: Stored, state: ReplayState) -> None:
    """Nor is it asked to."""
    await stored.add_subscribed()
    await record(stored, 1)
    await end_all(stored)
    job = await make(stored)
    async with stored.database.write() as connection:
        assert await replay.move(connection, DEFAULT_TENANT, job, state, out_of=("running",))

    done = await do_slice(stored, job)

    assert done.owed == 0
    async with stored.database.read() as connection:
        assert await replay.running(connection) == []


@pytest.mark.parametrize("new_keys", [False, True])
async def test_one_that_blocks_is_replayed_in_its_place(stored: Stored, *, new_keys: bool) -> None:
    """It goes before those that waited for it, and when it is over they go on; under a new key the old one is dead."""
    await stored.add_subscribed(ordering="key", on_dead="block")
    for number in range(2):
        await stored.store.record([heard(make_event(number, key=b"cat.jpg"))])
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    first, _ = (await outbox.fetch_in_order(lease, limit=10, leave_out=(), how=InOrder())).rows
    await outbox.settle([replace(dead(lease, first), blocks=True)])
    assert (await outbox.fetch_in_order(lease, limit=10, leave_out=(), how=InOrder())).rows == []

    job = await make(stored, Wanted(events=EventFilter(), status="dead"), new_keys=new_keys)
    done = await do_slice(stored, job)
    again = (await outbox.fetch_in_order(lease, limit=1, leave_out=(), how=InOrder())).rows
    await outbox.settle([delivered(lease, again[0])])

    assert done.owed == 1
    assert again[0].row_id == first.row_id
    assert (again[0].key != first.key) == new_keys
    assert await stored.count("dead_letter") == new_keys
    assert len((await outbox.fetch_in_order(lease, limit=10, leave_out=(), how=InOrder())).rows) == 1
