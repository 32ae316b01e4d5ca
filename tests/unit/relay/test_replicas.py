"""Who works which lane: leases lost, renewed, taken again, and lanes that even out between replicas."""

import pytest
from prometheus_client import Counter

from app.domain.ids import LaneId, ReplicaId
from app.telemetry import LEASES_LOST, SETTLEMENTS_REFUSED
from tests.unit.relay.fake_destination import DELIVERED, FAILED, FakeDestination
from tests.unit.relay.receivers import Receivers
from tests.unit.relay.replica import Replica, all_ended, lanes, make_many, make_owed, one_lane
from tests.unit.relay.virtual_time import in_virtual_time, now, pass_time, until


@in_virtual_time
async def test_a_lease_is_renewed_during_a_long_attempt() -> None:
    """An attempt may take many times as long as a lease holds; nobody else gets the lane."""
    outbox, set_up = one_lane(lease_seconds=1.0)
    destination = FakeDestination(takes_seconds=20.0)
    outbox.owe(make_owed())

    async with Replica(outbox, set_up, destination, name="a"), Replica(outbox, set_up, destination, name="b"):
        await all_ended(outbox)

    assert len(destination.batches) == 1
    assert outbox.lanes[make_owed().lane_id].fence == 1


@in_virtual_time
async def test_nothing_new_is_sent_under_a_lease_that_ran_out() -> None:
    """A replica that cannot renew stops by its own clock before the database gives the lane away."""
    outbox, set_up = one_lane(max_in_flight=2, lease_seconds=2.0)
    destination = FakeDestination()
    destination.gate.clear()
    outbox.owe(*make_many(10))

    async with Replica(outbox, set_up, destination):
        await until(lambda: destination.in_flight == 2)
        with outbox.outage("renew", "survey", "lease"):
            await pass_time(1.7)
            destination.gate.set()
            await until(lambda: outbox.statuses()["delivered"] == 2)
            await pass_time(5.0)
            sent = len(destination.batches)
        await all_ended(outbox)

    assert sent == 2
    assert outbox.statuses() == {"delivered": 10}
    assert len(destination.batches) == 10


@in_virtual_time
async def test_a_success_counts_although_the_lease_was_lost() -> None:
    """What a replica delivered before it noticed is written down, and not sent again where nobody did meanwhile."""
    outbox, set_up = one_lane(lease_seconds=1.0)
    slow = FakeDestination()
    slow.gate.clear()
    owed = make_owed()
    outbox.owe(owed)

    async with Replica(outbox, set_up, slow, name="a") as first:
        await until(lambda: slow.in_flight == 1)
        first.outbox.moving.clear()
        hangs = FakeDestination()
        hangs.gate.clear()
        async with Replica(outbox, set_up, hangs, name="b"):
            await until(lambda: hangs.in_flight == 1)
            slow.gate.set()
            first.outbox.moving.set()
            await until(lambda: owed.key in outbox.ended)
            hangs.gate.set()

    assert outbox.statuses() == {"delivered": 1}
    assert len(outbox.settled) == 1


@in_virtual_time
async def test_a_failure_under_a_lost_lease_changes_nothing() -> None:
    """The new holder's count of tries stands; the loser's retry is not written, and the loser counts that."""
    outbox, set_up = one_lane(lease_seconds=1.0)
    refused, lost = _counted(SETTLEMENTS_REFUSED), _counted(LEASES_LOST)
    slow = FakeDestination(answer=lambda _: FAILED)
    slow.gate.clear()
    owed = make_owed()
    outbox.owe(owed)

    async with Replica(outbox, set_up, slow, name="a") as first:
        await until(lambda: slow.in_flight == 1)
        first.outbox.moving.clear()
        hangs = FakeDestination()
        hangs.gate.clear()
        async with Replica(outbox, set_up, hangs, name="b"):
            await until(lambda: hangs.in_flight == 1)
            slow.gate.set()
            first.outbox.moving.set()
            await until(lambda: outbox.unheld)
            tries = outbox.debts[owed.row_id].owed.tries
            hangs.gate.set()
            await all_ended(outbox)

    assert tries == 0
    assert [each.outcome for each in outbox.settled] == [DELIVERED]
    assert len(slow.batches) == 1
    assert (_counted(SETTLEMENTS_REFUSED), _counted(LEASES_LOST)) == (refused + 1, lost + 1)


@in_virtual_time
async def test_a_lane_taken_again_leaves_alone_what_is_still_under_way() -> None:
    """A replica that lost its lease and claims the lane anew does not send what its earlier claim is sending."""
    outbox, set_up = lanes(2, max_in_flight=2, lease_seconds=2.0)
    destination = FakeDestination()
    first, second, third = make_many(3)
    destination.holds = lambda owed: owed.key in {first.key, second.key}
    destination.gate.clear()
    outbox.owe(first, second)

    async with Replica(outbox, set_up, destination):
        await until(lambda: destination.in_flight == 2)
        with outbox.outage("renew"):
            # A second lane makes room for another lease, and the first has waited longer.
            outbox.lanes[LaneId(2)].last_served = now()
            await pass_time(3.0)
            outbox.owe(make_owed(2))
            await until(lambda: outbox.lanes[first.lane_id].fence == 2)
        outbox.owe(third)
        await pass_time(5.0)
        sent = dict(destination.started)
        destination.gate.set()
        await all_ended(outbox)

    assert sent[first.key] == sent[second.key] == 1
    assert third.key not in sent
    assert set(destination.started.values()) == {1}


@in_virtual_time
async def test_a_claim_that_ran_out_untaken_goes_on() -> None:
    """After an outage longer than the lease, a replica that nobody took the lane from renews its claim."""
    outbox, set_up = one_lane(lease_seconds=2.0)
    destination = FakeDestination()

    async with Replica(outbox, set_up, destination):
        outbox.owe(*make_many(3))
        await all_ended(outbox)
        with outbox.outage():
            outbox.owe(*make_many(300))
            await pass_time(10.0)
        await all_ended(outbox)
        await pass_time(5.0)

    assert outbox.lanes[make_owed().lane_id].fence == 1
    assert set(destination.started.values()) == {1}


@in_virtual_time
async def test_lanes_even_out_when_a_second_replica_comes() -> None:
    """Under load, each of two replicas ends up with half of the lanes, and nothing is sent twice."""
    outbox, set_up = lanes(8)
    first, second = FakeDestination(takes_seconds=0.5), FakeDestination(takes_seconds=0.5)
    for lane_id in range(1, 9):
        outbox.owe(*make_many(400, lane_id))

    async with Replica(outbox, set_up, first, name="a"):
        await until(lambda: outbox.holders() == {b"a": 8})
        async with Replica(outbox, set_up, second, name="b"):
            await until(lambda: outbox.holders() == {b"a": 4, b"b": 4})
            await until(lambda: len(second.batches) > 100)
            await all_ended(outbox)

    assert outbox.statuses() == {"delivered": 3200}
    assert set((first.started + second.started).values()) == {1}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10, 31])
@in_virtual_time
async def test_held_lanes_never_differ_by_more_than_one_for_long(count: int) -> None:
    """Five seconds after replicas came or went, however many lanes there are for however many of them."""
    outbox, set_up = lanes(count)
    destination = FakeDestination(takes_seconds=1.0)
    for lane_id in range(1, count + 1):
        outbox.owe(*make_many(250, lane_id))
    replicas = [Replica(outbox, set_up, destination, name=name) for name in "abcde"]
    uneven: list[dict[ReplicaId, int]] = []

    for coming, going in ((3, 0), (2, 0), (0, 1), (0, 2)):
        here = [each for each in replicas if each.is_running]
        for each in [each for each in replicas if not each.is_running][:coming]:
            await each.__aenter__()
        for each in here[:going]:
            await each.__aexit__()
        await pass_time(5.0)
        held = {each.name: outbox.holders()[each.name] for each in replicas if each.is_running}
        if max(held.values()) - min(held.values()) > 1 or sum(held.values()) != count:
            uneven.append(held)
    outbox.debts.clear()
    for each in replicas:
        if each.is_running:
            await each.__aexit__()

    assert uneven == []


@in_virtual_time
async def test_lanes_that_hang_are_the_last_to_be_handed_over() -> None:
    """Evening out does not wait for attempts that take long, where other lanes can go."""
    outbox, set_up = lanes(8)
    destination = Receivers(takes=lambda lane: 20.0 if lane <= 4 else 1.0)
    for lane_id in range(1, 9):
        outbox.owe(*make_many(40, lane_id))

    async with Replica(outbox, set_up, destination, name="a"):
        await until(lambda: outbox.holders() == {b"a": 8})
        await pass_time(3.0)
        async with Replica(outbox, set_up, destination, name="b"):
            await until(lambda: outbox.holders() == {b"a": 4, b"b": 4}, within_seconds=5.0)
            outbox.debts.clear()


@in_virtual_time
async def test_the_lanes_of_a_replica_that_died_are_served_as_soon_as_its_leases_end() -> None:
    """The others' shares have grown by then."""
    outbox, set_up = lanes(9)
    destination = FakeDestination(takes_seconds=1.0)
    for lane_id in range(1, 10):
        outbox.owe(*make_many(200, lane_id))
    victim = Replica(outbox, set_up, destination, name="c")

    async with Replica(outbox, set_up, destination, name="a"), Replica(outbox, set_up, destination, name="b"):
        await victim.__aenter__()
        await until(lambda: sorted(outbox.holders().values()) == [3, 3, 3])
        await victim.crash()
        await until(lambda: outbox.holders().total() == 9 and len(outbox.holders()) == 2, within_seconds=10.5)
        outbox.debts.clear()


@in_virtual_time
async def test_a_replica_that_leaves_hands_over_at_once() -> None:
    """Its lanes are the other's long before its leases would have ended."""
    outbox, set_up = lanes(4, lease_seconds=3600.0)
    destination = FakeDestination(takes_seconds=0.5)
    for lane_id in range(1, 5):
        outbox.owe(*make_many(400, lane_id))

    async with Replica(outbox, set_up, destination, name="a") as first:
        await until(lambda: outbox.holders() == {b"a": 4})
        async with Replica(outbox, set_up, destination, name="b"):
            await until(lambda: outbox.holders() == {b"a": 2, b"b": 2})
            first.stop.set()
            await until(lambda: outbox.holders() == {b"b": 4})
            await all_ended(outbox)

    assert set(destination.started.values()) == {1}


@in_virtual_time
async def test_a_hint_wakes_a_resting_lane() -> None:
    """A held lane with nothing due sends what comes as soon as it hears of it."""
    outbox, set_up = one_lane()
    destination = FakeDestination()

    async with Replica(outbox, set_up, destination) as replica:
        outbox.owe(make_owed())
        await all_ended(outbox)
        await until(lambda: outbox.calls["rest"])
        await pass_time(1.0)
        with outbox.outage("survey"):
            outbox.owe(make_owed(), wake=replica.relay.wake)
            await all_ended(outbox)

    assert outbox.statuses() == {"delivered": 2}
    assert outbox.calls["lease"] == 1


@in_virtual_time
async def test_the_survey_alone_wakes_a_resting_lane() -> None:
    """Without any hint, the lane is seen to be awake."""
    outbox, set_up = one_lane()
    destination = FakeDestination()

    async with Replica(outbox, set_up, destination):
        outbox.owe(make_owed())
        await all_ended(outbox)
        await pass_time(2.0)
        outbox.owe(make_owed())
        await all_ended(outbox, within_seconds=1.0)

    assert outbox.statuses() == {"delivered": 2}
    assert outbox.calls["lease"] == 1


@in_virtual_time
async def test_the_sweep_wakes_a_lane_that_nobody_woke() -> None:
    """A lane asleep over something due is served all the same."""
    outbox, set_up = one_lane()
    outbox.owe(make_owed())
    outbox.lanes[make_owed().lane_id].wake_at = float("inf")

    async with Replica(outbox, set_up, FakeDestination()):
        await all_ended(outbox)

    assert outbox.statuses() == {"delivered": 1}


@in_virtual_time
async def test_a_lane_idle_for_long_is_given_back() -> None:
    """A held lane without work goes back, so that others can have it when work comes."""
    outbox, set_up = one_lane()

    async with Replica(outbox, set_up, FakeDestination()):
        outbox.owe(make_owed())
        await all_ended(outbox)
        await pass_time(15.0)

        assert not outbox.holders()


@in_virtual_time
async def test_an_idle_replica_asks_the_database_seldom() -> None:
    """Without work there is one survey a tick and nothing else but the sweep and few renewals."""
    outbox, set_up = one_lane()

    async with Replica(outbox, set_up, FakeDestination()):
        outbox.owe(make_owed())
        await all_ended(outbox)
        before = outbox.calls.copy()
        await pass_time(9.0)
        asked = outbox.calls - before

    assert asked["fetch"] + asked["rest"] <= 6
    assert asked["survey"] <= 9.0 / 0.05
    assert asked["settle"] == 0


def _counted(counter: Counter) -> float:
    return next(each.value for each in next(iter(counter.collect())).samples if each.name.endswith("_total"))
