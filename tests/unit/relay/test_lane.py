"""How one lane is worked off: how many sends at once, how many rows in memory, what becomes of what cannot be sent."""

from dataclasses import replace

from app.relay.lane import AHEAD_LIMIT
from app.relay.slots import UNSETTLED_LIMIT
from tests.unit.relay.fake_destination import DELIVERED, FakeDestination
from tests.unit.relay.replica import Replica, all_ended, lanes, make_endpoint, make_many, make_owed, one_lane
from tests.unit.relay.virtual_time import in_virtual_time, pass_time, until


@in_virtual_time
async def test_an_endpoint_sees_max_in_flight_sends_at_once() -> None:
    """Sends overlap up to the endpoint's own limit, never beyond."""
    outbox, set_up = one_lane(max_in_flight=3)
    destination = FakeDestination()
    outbox.owe(*make_many(40))

    async with Replica(outbox, set_up, destination):
        await all_ended(outbox)

    assert destination.most_in_flight == 3
    assert outbox.statuses() == {"delivered": 40}
    assert set(destination.started.values()) == {1}


@in_virtual_time
async def test_a_send_takes_a_batch_of_the_destinations_size() -> None:
    """No batch is larger than the destination takes, and a backlog fills them."""
    outbox, set_up = one_lane(max_in_flight=2)
    destination = FakeDestination(batch_limit=10)
    outbox.owe(*make_many(40))

    async with Replica(outbox, set_up, destination):
        await all_ended(outbox)

    assert {len(batch) for batch in destination.batches} == {10}
    assert outbox.statuses() == {"delivered": 40}


@in_virtual_time
async def test_a_slow_delivery_does_not_hold_up_the_next() -> None:
    """One that hangs takes one place; the others go on around it."""
    outbox, set_up = one_lane(max_in_flight=2)
    destination = FakeDestination()
    slow, *others = make_many(20)
    destination.holds = lambda owed: owed.key == slow.key
    destination.gate.clear()
    outbox.owe(slow, *others)

    async with Replica(outbox, set_up, destination):
        await until(lambda: len(outbox.ended) == len(others))
        still_owed = list(outbox.debts)
        destination.gate.set()

    assert still_owed == [slow.row_id]
    assert outbox.statuses() == {"delivered": 20}


@in_virtual_time
async def test_what_comes_while_all_are_under_way_is_found() -> None:
    """A lane with attempts in flight looks for more."""
    outbox, set_up = one_lane(max_in_flight=4)
    destination = FakeDestination()
    slow = make_owed()
    destination.holds = lambda owed: owed.key == slow.key
    destination.gate.clear()
    outbox.owe(slow)

    async with Replica(outbox, set_up, destination):
        await until(lambda: destination.started[slow.key])
        later = make_owed()
        outbox.owe(later)
        await until(lambda: later.key in outbox.ended)
        destination.gate.set()

    assert destination.started == {slow.key: 1, later.key: 1}


@in_virtual_time
async def test_the_processs_limit_bounds_all_lanes_together() -> None:
    """No more sends are in flight than the process allows, however many lanes want."""
    outbox, set_up = lanes(6)
    destination = FakeDestination()
    for lane_id in range(1, 7):
        outbox.owe(*make_many(10, lane_id))

    async with Replica(outbox, set_up, destination, max_in_flight=4):
        await all_ended(outbox)

    assert destination.most_in_flight == 4
    assert outbox.statuses() == {"delivered": 60}


@in_virtual_time
async def test_slots_are_given_first_come_first_served() -> None:
    """A lane that came second gets its slot before the first lane's later sends."""
    outbox, set_up = lanes(2, max_in_flight=2)
    destination = FakeDestination()
    first = make_many(10, 1)
    outbox.owe(*first)

    async with Replica(outbox, set_up, destination, max_in_flight=1):
        await until(lambda: destination.batches)
        second = make_owed(2)
        outbox.owe(second)
        await until(lambda: second.key in outbox.ended)
        served_before = len(outbox.ended)
        await all_ended(outbox)

    assert served_before < len(first)


@in_virtual_time
async def test_memory_is_bounded_while_nothing_can_be_settled() -> None:
    """Sends go on only so far beyond what was written down."""
    outbox, set_up = one_lane(max_in_flight=8, lease_seconds=600.0)
    destination = FakeDestination(takes_seconds=0.001)
    outbox.owe(*make_many(3000))

    async with Replica(outbox, set_up, destination):
        with outbox.outage("settle"):
            await pass_time(30.0)
            sent = len(destination.batches)
        await all_ended(outbox)

    assert sent <= 8 + AHEAD_LIMIT
    assert set(destination.started.values()) == {1}


@in_virtual_time
async def test_what_is_not_written_down_is_bounded_over_all_lanes() -> None:
    """However many lanes there are: a crash sends all of that once more, and each waits in memory."""
    outbox, set_up = lanes(20, lease_seconds=600.0)
    destination = FakeDestination(takes_seconds=0.001)
    outbox.owe(*(owed for lane_id in range(1, 21) for owed in make_many(400, lane_id)))

    async with Replica(outbox, set_up, destination, max_in_flight=100):
        with outbox.outage("settle"):
            await pass_time(30.0)
            sent = len(destination.batches)
        await all_ended(outbox)

    assert UNSETTLED_LIMIT <= sent <= UNSETTLED_LIMIT + 100
    assert set(destination.started.values()) == {1}


@in_virtual_time
async def test_a_delivery_whose_event_is_gone_dies_without_a_try() -> None:
    """What cannot be sent any more is dead as expired, and those around it are sent."""
    outbox, set_up = one_lane()
    destination = FakeDestination(batch_limit=10)
    pruned, kept = make_owed(is_kept=False), make_owed()
    outbox.owe(pruned, kept)

    async with Replica(outbox, set_up, destination):
        await all_ended(outbox)

    ended = outbox.ended[pruned.key]
    assert (ended.status, ended.reason) == ("dead", "expired")
    assert destination.started == {kept.key: 1}
    assert [each.outcome for each in outbox.settled if each.owed.key == pruned.key] == [None]


@in_virtual_time
async def test_a_batch_of_nothing_but_pruned_events_is_no_send() -> None:
    """A destination never sees a delivery without its event."""
    outbox, set_up = one_lane()
    destination = FakeDestination(batch_limit=10)
    outbox.owe(*(make_owed(is_kept=False) for _ in range(25)))

    async with Replica(outbox, set_up, destination):
        await all_ended(outbox)

    assert outbox.statuses() == {"dead": 25}
    assert destination.batches == []


@in_virtual_time
async def test_what_a_deleted_endpoint_owed_is_not_sent() -> None:
    """Deliveries in memory are dropped with the endpoint; those under way are finished."""
    outbox, set_up = one_lane(max_in_flight=2)
    destination = FakeDestination()
    destination.gate.clear()
    outbox.owe(*make_many(10))

    async with Replica(outbox, set_up, destination):
        await until(lambda: len(destination.batches) == 2)
        set_up.delete(make_endpoint())
        destination.gate.set()
        await all_ended(outbox)

    assert len(destination.batches) == 2
    assert outbox.statuses()["cancelled"] >= 8


@in_virtual_time
async def test_a_deleted_endpoints_lane_is_not_taken_over_and_over() -> None:
    """Until the sweep has cancelled what it owed, the lane sleeps."""
    outbox, set_up = one_lane()
    outbox.owe(*make_many(10))
    set_up.delete(make_endpoint())

    async with Replica(outbox, set_up, FakeDestination()):
        with outbox.outage("sweep"):
            await pass_time(30.0)

    assert outbox.calls["lease"] <= 3
    assert set_up.refreshes <= 3


@in_virtual_time
async def test_an_endpoint_this_process_does_not_know_yet_is_looked_up() -> None:
    """A lane set up through another process is served at once."""
    outbox, set_up = one_lane()
    set_up.known = {}
    outbox.owe(make_owed())

    async with Replica(outbox, set_up, FakeDestination()):
        await all_ended(outbox)

    assert outbox.statuses() == {"delivered": 1}
    assert set_up.refreshes == 1


@in_virtual_time
async def test_a_changed_endpoint_counts_from_the_next_send_on() -> None:
    """A new limit holds without a restart."""
    outbox, set_up = one_lane(max_in_flight=1)
    destination = FakeDestination()
    outbox.owe(*make_many(40))

    async with Replica(outbox, set_up, destination):
        await until(lambda: len(outbox.ended) == 5)
        most_before = destination.most_in_flight
        set_up.put(replace(make_endpoint(max_in_flight=4), name="renamed"))
        await all_ended(outbox)

    assert (most_before, destination.most_in_flight) == (1, 4)
    assert destination.endpoints[-1].name == "renamed"
    assert outbox.statuses() == {"delivered": 40}
    assert {each.outcome for each in outbox.settled} == {DELIVERED}


@in_virtual_time
async def test_a_lane_that_is_paced_does_not_look_for_each_delivery_that_comes() -> None:
    """It goes on with what it has read, and reads on in one go when that is nearly sent."""
    outbox, set_up = one_lane()
    set_up.put(replace(make_endpoint(), rate_limit_per_second=1.0))
    outbox.owe(*make_many(60))

    async with Replica(outbox, set_up, FakeDestination()):
        for _ in range(50):
            outbox.owe(make_owed())
            await pass_time(2.0)
        sent, looks = outbox.statuses()["delivered"], outbox.calls["fetch"]
        outbox.debts.clear()

    assert sent >= 95
    assert looks < sent / 4
