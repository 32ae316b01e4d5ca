"""Replays below live traffic, over both databases: held by lanes of their own that are behind."""

import pytest
from sqlalchemy import update

from app.domain.configuration import Filter
from app.domain.ids import EndpointId, ReplicaId
from app.store.columns import now
from app.store.events import EventFilter
from app.store.low_water import NO_MARK
from app.store.outbox_schema import delivery, lane
from app.store.replay import Wanted
from app.store.replay_slice import HELD_EVENTS
from app.store.replaying import Replaying
from app.store.schema import replay
from tests.bed.stored import Stored, delivered, heard, make_event, owed_by
from tests.contract.test_replay import do_slice, get, make

DOGS = Filter(key_prefix="dog")
EVERYTHING = Filter()


async def subscribe(stored: Stored, wanted: Filter = EVERYTHING) -> EndpointId:
    """Set up an endpoint with a subscription."""
    endpoint_id = await stored.add_endpoint()
    await stored.add_subscription(endpoint_id, wanted=wanted)
    return endpoint_id


async def record(stored: Stored, *keys: bytes) -> None:
    """Record an event for each key, one after the other, and deliver what they owe."""
    for number, key in enumerate(keys):
        await stored.store.record([heard(make_event(number, key=key))])
    await deliver(stored)


async def deliver(stored: Stored) -> None:
    """Deliver all that is owed."""
    outbox = stored.outbox()
    leases = await outbox.lease(10)
    for lease in leases:
        await outbox.settle([delivered(lease, each) for each in await owed_by(outbox, lease)])
        await outbox.rest(lease)
    await outbox.release(leases)


async def fall_behind(stored: Stored, endpoint_id: EndpointId) -> None:
    """Let an endpoint's lane owe something that has been due for long."""
    await stored.store.record([heard(make_event(777, bucket="live", key=b"dog.jpg"))])
    await stored.execute(update(delivery).where(delivery.c.endpoint_id != endpoint_id).values(due_at=now(60.0)))
    await stored.execute(update(delivery).where(delivery.c.endpoint_id == endpoint_id).values(due_at=now(-60.0)))
    await stored.execute(update(lane).values(**NO_MARK))


async def test_a_lane_that_is_behind_holds_its_own_replays_alone(stored: Stored) -> None:
    """Another endpoint's go on."""
    busy, idle = await subscribe(stored), await subscribe(stored)
    await record(stored, b"cat.jpg", b"dog.jpg")
    await fall_behind(stored, busy)
    photos = EventFilter(bucket="photos")
    held = await make(stored, Wanted(events=photos, endpoint_id=busy))
    free = await make(stored, Wanted(events=photos, endpoint_id=idle))

    has_more = await Replaying(stored.database, ReplicaId(b"r" * 16), wake=lambda _: None).step()

    assert not has_more
    assert (await get(stored, held)).owed == 0
    assert (await get(stored, held)).held_by == busy
    assert ((await get(stored, free)).state, (await get(stored, free)).owed) == ("done", 2)


async def test_a_job_goes_as_far_as_it_owes_nothing_there(stored: Stored) -> None:
    """What comes before the first event for the lane that is behind is owed, nothing after it."""
    await subscribe(stored)
    busy = await subscribe(stored, DOGS)
    await record(stored, b"cat.jpg", b"cow.jpg", b"dog.jpg", b"cat.jpg")
    await fall_behind(stored, busy)
    job = await make(stored, Wanted(events=EventFilter(bucket="photos")))

    slices = [await do_slice(stored, job) for _ in range(2)]

    assert [(each.looked_at, each.owed, each.waits) for each in slices] == [(2, 2, True), (0, 0, True)]
    assert ((await get(stored, job)).state, (await get(stored, job)).held_by) == ("running", busy)


async def test_it_goes_on_when_the_lane_has_caught_up(stored: Stored) -> None:
    """And says no more that it waits."""
    busy = await subscribe(stored)
    await record(stored, b"cat.jpg", b"dog.jpg")
    await fall_behind(stored, busy)
    job = await make(stored, Wanted(events=EventFilter(bucket="photos")))
    await do_slice(stored, job)
    await deliver(stored)

    done = await do_slice(stored, job)

    assert (done.owed, done.is_last) == (2, True)
    assert (await get(stored, job)).held_by is None


async def test_a_lane_that_never_catches_up_holds_no_job_for_ever(stored: Stored) -> None:
    """A few events are owed each time it has stood still for long."""
    busy = await subscribe(stored)
    await record(stored, *(b"cat.jpg" for _ in range(HELD_EVENTS + 5)))
    await fall_behind(stored, busy)
    job = await make(stored, Wanted(events=EventFilter(bucket="photos")))

    owed = []
    for _ in range(2):
        owed.append((await do_slice(stored, job)).owed)
        await stored.execute(update(replay).values(updated_at=now(-60.0)))
        owed.append((await do_slice(stored, job)).owed)

    assert owed == [0, HELD_EVENTS, 0, 5]
    assert (await get(stored, job)).state == "done"


@pytest.mark.parametrize("hindered_by", [{"is_stopped": True}, {"breaker_until": now(60.0)}], ids=["stopped", "open"])
async def test_a_lane_that_may_not_be_served_holds_nothing(stored: Stored, hindered_by: dict[str, object]) -> None:
    """It is behind for days, and what is replayed waits there with the rest."""
    busy = await subscribe(stored)
    await record(stored, b"cat.jpg")
    await fall_behind(stored, busy)
    await stored.execute(update(lane).values(**hindered_by))

    done = await do_slice(stored, await make(stored, Wanted(events=EventFilter(bucket="photos"))))

    assert (done.owed, done.waits) == (1, False)


async def test_what_is_not_wanted_is_not_waited_for(stored: Stored) -> None:
    """A job that owes nothing on the lane does not ask how it fares."""
    busy = await subscribe(stored)
    await record(stored, b"cat.jpg", b"dog.jpg")
    await fall_behind(stored, busy)

    done = await do_slice(stored, await make(stored, Wanted(events=EventFilter(bucket="photos"), status="dead")))

    assert (done.looked_at, done.is_last) == (2, True)
