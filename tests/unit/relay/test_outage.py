"""The database goes away at each of the relay's calls, and comes back: nothing is lost, nothing stops for good."""

import pytest

from tests.unit.relay.fake_destination import FakeDestination
from tests.unit.relay.replica import Replica, all_ended, lanes, make_many, make_owed, one_lane
from tests.unit.relay.virtual_time import in_virtual_time, pass_time, until

CALLS = ("survey", "lease", "fetch", "settle", "renew", "rest", "release", "sweep")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("seconds", [0.5, 30.0])
def test_work_goes_on_after_an_outage(call: str, seconds: float) -> None:
    """Whichever call fails, for a moment or past the lease, all is delivered afterwards and settled once."""

    @in_virtual_time
    async def story() -> None:
        outbox, set_up = lanes(3)
        destination = FakeDestination(takes_seconds=0.2)
        for lane_id in (1, 2, 3):
            outbox.owe(*make_many(60, lane_id))
        async with Replica(outbox, set_up, destination):
            await until(lambda: len(outbox.ended) > 20)

            with outbox.outage(call):
                outbox.owe(*(make_owed(lane_id) for lane_id in (1, 2, 3)))
                await pass_time(seconds)
            await all_ended(outbox)

        assert outbox.statuses() == {"delivered": 183}
        assert len(outbox.settled) == 183
        assert not outbox.holders()

    story()


@in_virtual_time
async def test_a_database_away_altogether_loses_nothing() -> None:
    """Sends under way finish, wait to be written down, and are not sent again."""
    outbox, set_up = one_lane(max_in_flight=2)
    destination = FakeDestination()
    destination.gate.clear()
    outbox.owe(*make_many(50))

    async with Replica(outbox, set_up, destination):
        await until(lambda: destination.in_flight == 2)
        with outbox.outage():
            destination.gate.set()
            await pass_time(120.0)
        await all_ended(outbox)

    assert outbox.statuses() == {"delivered": 50}
    assert set(destination.started.values()) == {1}


@in_virtual_time
async def test_a_database_away_at_the_start_is_waited_for() -> None:
    """The relay starts over a database that is not there and works when it comes."""
    outbox, set_up = one_lane()
    outbox.owe(make_owed())

    with outbox.outage():
        replica = Replica(outbox, set_up, FakeDestination())
        await replica.__aenter__()
        await pass_time(60.0)
    await all_ended(outbox)
    await replica.__aexit__()

    assert outbox.statuses() == {"delivered": 1}


@in_virtual_time
async def test_a_database_away_is_asked_ever_less_often() -> None:
    """Pauses grow to a second: an outage is no storm of calls."""
    outbox, set_up = lanes(3, lease_seconds=600.0)
    destination = FakeDestination(takes_seconds=0.1)
    for lane_id in (1, 2, 3):
        outbox.owe(*make_many(100, lane_id))

    async with Replica(outbox, set_up, destination):
        await until(lambda: len(outbox.ended) > 20)
        with outbox.outage():
            await pass_time(60.0)
            failures = outbox.failures.copy()
        await all_ended(outbox)

    assert failures["survey"] <= 70
    assert failures["settle"] <= 70
    assert failures["fetch"] <= 3 * 70


@in_virtual_time
async def test_renewal_is_tried_again_soon() -> None:
    """One failed renewal does not cost the lease: the next comes after a short pause, not a third of the lease."""
    outbox, set_up = one_lane(lease_seconds=3.0)
    destination = FakeDestination(takes_seconds=60.0)
    outbox.owe(make_owed())

    async with Replica(outbox, set_up, destination):
        await until(lambda: outbox.calls["renew"] == 1)
        with outbox.outage("renew"):
            await pass_time(0.6)
        await pass_time(0.35)
        is_renewed = outbox.calls["renew"] > outbox.failures["renew"]

    assert is_renewed
    assert outbox.lanes[make_owed().lane_id].fence == 1
