"""How the relay stops: what is in flight is finished, nothing is begun, everything is given back."""

import asyncio

import pytest

from app.domain.ids import ReplicaId
from tests.unit.relay.fake_destination import FAILED, FakeDestination
from tests.unit.relay.replica import Replica, lanes, make_many, make_owed, one_lane
from tests.unit.relay.virtual_time import in_virtual_time, pass_time, until


@in_virtual_time
async def test_draining_finishes_what_is_in_flight_and_starts_nothing() -> None:
    """Sends under way are settled; what waits stays owed for another replica."""
    outbox, set_up = one_lane(max_in_flight=2)
    destination = FakeDestination()
    destination.gate.clear()
    outbox.owe(*make_many(10))

    async with Replica(outbox, set_up, destination) as replica:
        await until(lambda: destination.in_flight == 2)
        replica.stop.set()
        await pass_time(5.0)
        is_waiting = not replica.task.done()
        destination.gate.set()

    assert is_waiting
    assert len(destination.batches) == 2
    assert outbox.statuses() == {"delivered": 2}
    assert len(outbox.debts) == 8


@in_virtual_time
async def test_draining_does_not_start_what_waits_for_a_slot() -> None:
    """A send that waits for one of the process's slots has not begun, so it never does."""
    outbox, set_up = lanes(5)
    destination = FakeDestination()
    destination.gate.clear()
    for lane_id in range(1, 6):
        outbox.owe(*make_many(4, lane_id))

    async with Replica(outbox, set_up, destination, max_in_flight=2) as replica:
        await until(lambda: destination.in_flight == 2)
        await until(lambda: len(outbox.holders()) == 1)
        replica.stop.set()
        await pass_time(1.0)
        destination.gate.set()

    assert len(destination.batches) == 2
    assert len(outbox.debts) == 18


@in_virtual_time
async def test_lanes_given_back_early_do_not_wait_for_the_last_attempt() -> None:
    """While one attempt of the leaving replica goes on, the other one already holds all lanes but that one's."""
    outbox, set_up = lanes(4)
    slow = FakeDestination()
    slow.holds = lambda owed: owed.lane_id == 1
    slow.gate.clear()
    a, b = ReplicaId(b"a"), ReplicaId(b"b")

    async with Replica(outbox, set_up, slow, name="a") as leaving:
        outbox.owe(make_owed(1))
        await until(lambda: slow.in_flight == 1)
        async with Replica(outbox, set_up, FakeDestination(takes_seconds=0.2), name="b"):
            outbox.owe(*(each for lane_id in (2, 3, 4) for each in make_many(2000, lane_id)))
            await until(lambda: outbox.holders() == {a: 2, b: 2})
            leaving.stop.set()
            await until(lambda: outbox.holders() == {a: 1, b: 3}, within_seconds=0.5)
            is_draining = not leaving.task.done()
            slow.gate.set()

    assert is_draining


@in_virtual_time
async def test_a_drained_relay_has_given_everything_back() -> None:
    """No lane is held, the replica is not counted any more, destinations are closed."""
    outbox, set_up = lanes(3)
    destination = FakeDestination()
    for lane_id in (1, 2, 3):
        outbox.owe(make_owed(lane_id))

    async with Replica(outbox, set_up, destination):
        await until(lambda: outbox.holders() == {b"a": 3})

    assert not outbox.holders()
    assert outbox.seen_at == {}
    assert destination.is_closed


@in_virtual_time
async def test_leases_are_renewed_while_draining() -> None:
    """A failure that ends long after the stop is still counted under its lease."""
    outbox, set_up = one_lane(lease_seconds=1.0)
    destination = FakeDestination(answer=lambda _: FAILED)
    destination.gate.clear()
    owed = make_owed()
    outbox.owe(owed)

    async with Replica(outbox, set_up, destination) as replica:
        await until(lambda: destination.in_flight == 1)
        replica.stop.set()
        await pass_time(10.0)
        destination.gate.set()

    assert outbox.debts[owed.row_id].owed.tries == 1
    assert not outbox.unheld


@in_virtual_time
async def test_a_relay_stopped_at_once_has_done_nothing() -> None:
    """A stop before the first look leaves everything as it was."""
    outbox, set_up = one_lane()
    destination = FakeDestination()
    outbox.owe(make_owed())
    replica = Replica(outbox, set_up, destination)
    replica.stop.set()

    async with replica:
        await replica.task

    assert destination.batches == []
    assert len(outbox.debts) == 1
    assert destination.is_closed


@in_virtual_time
async def test_a_relay_cut_short_gives_back_what_it_holds() -> None:
    """Cancelled at the deadline with a send that hangs, it still leaves, so that others need not wait for leases."""
    outbox, set_up = one_lane(lease_seconds=3600.0)
    destination = FakeDestination()
    destination.gate.clear()
    outbox.owe(make_owed())

    async with Replica(outbox, set_up, destination) as replica:
        await until(lambda: destination.in_flight == 1)
        replica.stop.set()
        await pass_time(5.0)
        replica.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await replica.task

    assert not outbox.holders()
    assert outbox.seen_at == {}
    assert destination.is_closed
    assert len(outbox.debts) == 1


@in_virtual_time
async def test_a_settle_under_way_is_finished_when_cut_short() -> None:
    """What was delivered and is just being written down is written down before the relay has ended."""
    outbox, set_up = one_lane()
    outbox.latency_seconds = 0.5
    destination = FakeDestination()
    owed = make_owed()
    outbox.owe(owed)

    async with Replica(outbox, set_up, destination) as replica:
        await until(lambda: outbox.calls["settle"] == 1)
        replica.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await replica.task

    assert outbox.statuses() == {"delivered": 1}


@in_virtual_time
async def test_a_relay_cut_short_while_the_database_is_away_ends_within_a_bound() -> None:
    """Leaving is tried, not waited for."""
    outbox, set_up = one_lane()
    destination = FakeDestination()
    destination.gate.clear()
    outbox.owe(make_owed())

    async with Replica(outbox, set_up, destination) as replica:
        await until(lambda: destination.in_flight == 1)
        replica.outbox.moving.clear()
        replica.task.cancel()
        await asyncio.wait([replica.task], timeout=30.0)

        assert replica.task.cancelled()
        assert destination.is_closed
