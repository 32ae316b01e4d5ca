"""Counting what a replay would owe, over both databases: all of it, or it says that it stopped."""

from app.domain.ids import DEFAULT_TENANT
from app.store import configuration
from app.store.events import EventFilter
from app.store.replay import Counted, Wanted
from app.store.replay_count import count
from tests.bed.stored import Stored, dead, delivered, heard, make_event, only_lease, owed_by
from tests.contract.test_replay import EVERYTHING, do_slice, end_all, make, record

MINUTE = 60.0
DEAD = Wanted(events=EventFilter(), status="dead")


async def count_all(stored: Stored, wanted: Wanted = EVERYTHING, *, seconds: float = MINUTE) -> Counted:
    """Count events and deliveries."""
    async with stored.database.read() as connection:
        known = await configuration.load(connection)
    return await count(stored.database, DEFAULT_TENANT, wanted, known, seconds=seconds)


async def test_it_counts_what_a_job_would_owe(stored: Stored) -> None:
    """And changes nothing."""
    await stored.add_subscribed()
    await record(stored, 5)
    await end_all(stored, as_dead=2)

    everything = await count_all(stored)
    dead_ones = await count_all(stored, DEAD)

    assert everything == Counted(events=5, deliveries=5, is_all=True)
    assert dead_ones == Counted(events=5, deliveries=2, is_all=True)
    assert await stored.count("delivery") == 0


async def test_it_counts_as_far_as_a_job_goes(stored: Stored) -> None:
    """However many events come before those that are wanted."""
    await stored.add_subscribed()
    for number in range(600):
        await stored.store.record([heard(make_event(number))])
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    owed = await owed_by(outbox, lease)
    await outbox.settle([*(delivered(lease, each) for each in owed[:-3]), *(dead(lease, each) for each in owed[-3:])])

    counted = await count_all(stored, DEAD)
    job = await make(stored, DEAD)
    slices = [await do_slice(stored, job, limit=250) for _ in range(3)]

    assert counted == Counted(events=600, deliveries=3, is_all=True)
    assert sum(each.owed for each in slices) == counted.deliveries


async def test_it_stops_when_its_time_is_up_and_says_so(stored: Stored) -> None:
    """A slice at least has been counted then."""
    await stored.add_subscribed()
    await stored.store.record([heard(*(make_event(number) for number in range(600)))])
    await end_all(stored)

    counted = await count_all(stored, seconds=0.0)

    assert 0 < counted.events < 600
    assert counted == Counted(events=counted.events, deliveries=counted.events, is_all=False)


async def test_events_alone_are_counted_without_a_configuration(stored: Stored) -> None:
    """For the total of a job."""
    await record(stored, 4)

    counted = await count(
        stored.database, DEFAULT_TENANT, Wanted(events=EventFilter(key_prefix=b"cat")), None, seconds=MINUTE
    )

    assert counted == Counted(events=2, deliveries=0, is_all=True)
