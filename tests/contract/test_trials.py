"""Lanes on trial over both databases: a replica takes on only so many, and all the others that wait."""

from typing import Final

from sqlalchemy import func, select, update

from app.domain.delivery import LONGEST_TRIAL_SECONDS, TRIALS_HELD
from app.domain.ids import LaneId
from app.store.columns import now
from app.store.outbox_schema import lane
from tests.bed.stored import Stored

HEALTHY: Final = 3
TOO_MANY: Final = 5


async def wait_for_trial(stored: Stored) -> frozenset[LaneId]:
    """Let more lanes wait for a trial than a replica takes, longest unserved, and a few healthy ones; gives those."""
    for _ in range(HEALTHY + TRIALS_HELD + TOO_MANY):
        await stored.add_endpoint()
    async with stored.database.read() as connection:
        lane_ids = [
            LaneId(each) for each in (await connection.execute(select(lane.c.id).order_by(lane.c.id))).scalars()
        ]
    healthy = lane_ids[:HEALTHY]
    await stored.execute(update(lane).values(wake_at=now(-1), last_served=now(-3_600), failing_since=now(-7_200)))
    await stored.execute(update(lane).values(breaker_until=now(-60)))
    await stored.execute(update(lane).where(lane.c.id.in_(healthy)).values(failing_since=None, last_served=now(-1_800)))
    return frozenset(healthy)


async def test_a_replica_takes_on_so_many_trials_and_all_others(stored: Stored) -> None:
    """What has waited longest does not come before what may be had; the rest is another replica's, or for later."""
    healthy = await wait_for_trial(stored)
    first, second = stored.outbox(), stored.outbox()

    seen = await first.survey()
    mine = await first.lease(1_000)
    full = await first.survey()
    none = await first.lease(1_000)
    theirs = await second.lease(1_000)

    assert (seen.waiting, seen.active) == (HEALTHY + TRIALS_HELD, HEALTHY + TRIALS_HELD)
    assert sum(each.is_on_trial for each in mine) == TRIALS_HELD
    assert {each.lane_id for each in mine if not each.is_on_trial} == healthy
    assert [each.is_on_trial for each in mine] == [True] * TRIALS_HELD + [False] * HEALTHY
    assert (full.waiting, list(none)) == (0, [])
    assert len(theirs) == TOO_MANY
    assert not {each.lane_id for each in theirs} & {each.lane_id for each in mine}


async def test_a_trial_that_ended_makes_room_for_another(stored: Stored) -> None:
    """Suspended anew or well again, it takes no place any more."""
    await wait_for_trial(stored)
    outbox = stored.outbox()
    ill, well, *_ = await outbox.lease(TRIALS_HELD)

    await outbox.suspend(ill, seconds=60)
    await stored.execute(update(lane).where(lane.c.id == well.lane_id).values(failing_since=None))
    leased = await outbox.lease(1_000)

    assert sum(each.is_on_trial for each in leased) == 2


async def test_who_refuses_what_it_gets_holds_up_no_trial_for_long(stored: Stored) -> None:
    """Its lease goes on though nothing was delivered; it counts like a healthy lane after a while."""
    await wait_for_trial(stored)
    outbox = stored.outbox()
    await outbox.lease(TRIALS_HELD)
    before = await outbox.survey()
    held = select(lane.c.id).where(lane.c.owner.is_not(None))
    await stored.execute(update(lane).where(lane.c.id.in_(held)).values(last_served=now(-LONGEST_TRIAL_SECONDS - 1)))

    after = await outbox.survey()
    leased = await outbox.lease(1_000)

    assert (before.waiting, before.active) == (HEALTHY, HEALTHY + TRIALS_HELD)
    assert (after.waiting, after.active) == (HEALTHY + TOO_MANY, HEALTHY + TRIALS_HELD + TOO_MANY)
    assert sum(each.is_on_trial for each in leased) == TOO_MANY


async def test_trials_are_taken_on_in_the_order_they_were_served(stored: Stored) -> None:
    """The one that was left out comes first the next time."""
    await wait_for_trial(stored)
    async with stored.database.read() as connection:
        newest = (await connection.execute(select(func.max(lane.c.id)))).scalar_one()
    await stored.execute(update(lane).where(lane.c.id == newest).values(last_served=now(-7_200)))

    (first, *_) = await stored.outbox().lease(1)

    assert first.lane_id == newest
