"""Lanes whose receivers are slow or dead cost the others next to nothing; limits hold over all replicas."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from statistics import quantiles

import pytest

from app.domain.configuration import Endpoint
from app.domain.delivery import TRIALS_HELD, Health, Owed
from app.domain.ids import LaneId, TenantId
from app.domain.outcome import Outcome
from app.relay.breaker import THRESHOLD
from tests.unit.relay.fake_destination import DELIVERED, FAILED
from tests.unit.relay.fake_outbox import FakeOutbox
from tests.unit.relay.receivers import Receivers
from tests.unit.relay.replica import (
    Replica,
    SetUp,
    all_ended,
    lanes,
    make_endpoint,
    make_many,
    make_owed,
    one_lane,
)
from tests.unit.relay.virtual_time import in_virtual_time, now, pass_time, until

RECORD = b"x" * 2**18
HEALTHY = range(1, 21)
# What a healthy delivery may take longer because of the others.
GRACE_SECONDS = 0.25


class Clock:
    """Owes healthy lanes one delivery each now and then, and tells how long each took."""

    def __init__(self, outbox: FakeOutbox, receivers: Receivers) -> None:
        """Take the outbox, and the receivers: what those of the others have under way is looked at too."""
        self._outbox = outbox
        self._owed_at: dict[bytes, float] = {}
        self._receivers = receivers
        self.took: list[float] = []
        self.most_of_others = 0

    async def run(self, seconds: float) -> None:
        """Go on for so long."""
        ends_at = now() + seconds
        while now() < ends_at:
            for lane_id in HEALTHY:
                owed = make_owed(lane_id)
                self._owed_at[owed.key] = now()
                self._outbox.owe(owed)
            for _ in range(50):
                await pass_time(0.01)
                self._note()

    def _note(self) -> None:
        for key in [each for each in self._owed_at if each in self._outbox.ended]:
            self.took.append(now() - self._owed_at.pop(key))
        others = sum(count for lane, count in self._receivers.in_flight.items() if lane not in HEALTHY)
        self.most_of_others = max(self.most_of_others, others)

    @property
    def slowest(self) -> float:
        """Give the 99th percentile; what has not arrived counts as for ever."""
        return float("inf") if self._owed_at else quantiles(self.took, n=100)[-1]


async def alone() -> float:
    """Tell how long healthy deliveries take without the others."""
    outbox, set_up = lanes(len(HEALTHY))
    clock = Clock(outbox, receivers := Receivers())
    async with Replica(outbox, set_up, receivers):
        await clock.run(20.0)
    return clock.slowest


@pytest.mark.parametrize(
    ("others", "takes", "outcome"),
    [(64, 14.0, DELIVERED), (64, 14.0, FAILED), (20, 5.0, Outcome(kind="unreachable", latency_seconds=5.0))],
    ids=["64 that answer late", "64 that fail late", "20 dead names"],
)
@in_virtual_time
async def test_slow_receivers_do_not_slow_the_others_down(others: int, takes: float, outcome: Outcome) -> None:
    """From the moment they begin to be slow, with a backlog for each of them."""
    outbox, set_up = lanes(len(HEALTHY) + others)
    receivers = Receivers(
        takes=lambda lane: 0.01 if lane in HEALTHY else takes,
        answer=lambda lane: DELIVERED if lane in HEALTHY else outcome,
    )
    clock = Clock(outbox, receivers)
    usual = await alone()

    async with Replica(outbox, set_up, receivers):
        for lane_id in range(len(HEALTHY) + 1, len(HEALTHY) + others + 1):
            outbox.owe(*make_many(100, lane_id))
        await clock.run(40.0)
        outbox.debts.clear()

    assert clock.slowest <= usual + GRACE_SECONDS
    # A quarter of 512 slots for the slow ones, a twentieth for those on trial.
    assert clock.most_of_others <= 128 + 25


@in_virtual_time
async def test_receivers_on_trial_leave_lanes_to_the_others() -> None:
    """More of them hang than a process can try, and than it holds lanes; each has been suspended before."""
    outbox, set_up = lanes(len(HEALTHY) + 1_500)
    receivers = Receivers(
        takes=lambda lane: 0.01 if lane in HEALTHY else 15.0,
        answer=lambda lane: DELIVERED if lane in HEALTHY else Outcome(kind="timed_out", latency_seconds=15.0),
    )
    clock = Clock(outbox, receivers)
    usual = await alone()
    for lane_id in range(len(HEALTHY) + 1, len(outbox.lanes) + 1):
        lane = outbox.lanes[LaneId(lane_id)]
        lane.failing_since, lane.breaker_until = now() - 3_600.0, now()
        lane.health = Health(failures=THRESHOLD, latency_seconds=15.0)
        outbox.owe(make_owed(lane_id))

    async with Replica(outbox, set_up, receivers):
        await clock.run(40.0)
        held = sum(outbox.holders().values())
        outbox.debts.clear()

    assert clock.slowest <= usual + GRACE_SECONDS
    assert clock.most_of_others == 25
    assert held <= TRIALS_HELD + len(HEALTHY)


@in_virtual_time
async def test_a_tenant_with_many_lanes_leaves_slots_to_others() -> None:
    """A hundred busy lanes of one, in a small process, do not hold up the one lane of another."""
    outbox, set_up = lanes(101)
    for lane_id in range(2, 102):
        set_up.put(replace(make_endpoint(lane_id), tenant_id=TenantId(2)))
        outbox.owe(*make_many(40, lane_id))
    receivers = Receivers(takes=lambda _: 0.4)

    async with Replica(outbox, set_up, receivers, max_in_flight=16):
        outbox.owe(*make_many(2, 1))
        await pass_time(1.0)
        outbox.owe(*make_many(40, 1))
        await pass_time(4.0)
        mine, theirs = receivers.most_in_flight[1], sum(receivers.in_flight.values()) - receivers.in_flight[1]
        outbox.debts.clear()

    assert mine >= 2
    assert theirs <= 14


def at_most(times: list[float], rate: float) -> bool:
    """Tell whether no span saw more than the rate allows, one apart."""
    return all(
        last - first <= rate * (times[last] - times[first]) + 1e-6
        for first in range(len(times))
        for last in range(first + 1, len(times))
    )


def limited(rate: float) -> tuple[FakeOutbox, SetUp]:
    """Set up one lane whose endpoint takes so many a second."""
    outbox, set_up = one_lane()
    set_up.put(replace(make_endpoint(), rate_limit_per_second=rate))
    return outbox, set_up


@in_virtual_time
async def test_a_rate_limit_is_kept_and_used() -> None:
    """Neither a backlog nor a wide `max_in_flight` passes it, and nothing of it is lost."""
    outbox, set_up = limited(4.0)
    receivers = Receivers()
    outbox.owe(*make_many(100))
    began = now()

    async with Replica(outbox, set_up, receivers):
        await all_ended(outbox)

    assert at_most(receivers.times(1), 4.0)
    assert now() - began == pytest.approx(25.0, abs=0.5)


@in_virtual_time
async def test_a_rate_limit_holds_while_replicas_come_and_go() -> None:
    """A lane that changes hands again and again sends no faster."""
    outbox, set_up = limited(2.0)
    receivers = Receivers()
    outbox.owe(*make_many(60))

    for number in range(40):
        async with Replica(outbox, set_up, receivers, name=f"life {number}"):
            await pass_time(1.3)

    times = receivers.times(1)
    assert at_most(times, 2.0)
    assert len(times) >= 50


@in_virtual_time
async def test_a_very_slow_rate_is_kept_where_lanes_take_turns() -> None:
    """A lane that waits for its next second is not passed by for ever, nor does it send more often."""
    outbox, set_up = lanes(4)
    set_up.put(replace(make_endpoint(1), rate_limit_per_second=0.1))
    for lane_id in range(1, 5):
        outbox.owe(*make_many(1000, lane_id))
    replica = Replica(outbox, set_up, receivers := Receivers(takes=lambda _: 0.2))
    replica.relay._shares._max_lanes = 2

    async with replica:
        await pass_time(100.0)
        outbox.debts.clear()

    assert at_most(receivers.times(1), 0.1)
    assert len(receivers.times(1)) >= 4
    assert min(len(receivers.times(lane)) for lane in (2, 3, 4)) >= 100


@in_virtual_time
async def test_a_rate_that_is_raised_counts_at_once() -> None:
    """Whoever waits by the old one is told."""
    outbox, set_up = limited(0.01)
    outbox.owe(*make_many(20))

    async with Replica(outbox, set_up, Receivers()):
        await pass_time(5.0)
        set_up.put(replace(make_endpoint(), rate_limit_per_second=None))
        await all_ended(outbox, within_seconds=2.0)


@pytest.mark.parametrize(
    "stop", [lambda each: replace(each, is_paused=True), lambda each: replace(each, disabled_at=each.created_at)]
)
@in_virtual_time
async def test_a_stopped_endpoints_lane_is_given_back_at_once(stop: Callable[[Endpoint], Endpoint]) -> None:
    """Nothing new is sent, what is in flight is finished, and nobody holds the lane; until it is started again."""
    outbox, set_up = one_lane(max_in_flight=2)
    receivers = Receivers(takes=lambda _: 0.5)
    endpoint = make_endpoint(max_in_flight=2)
    outbox.owe(*make_many(50))

    async with Replica(outbox, set_up, receivers):
        await until(lambda: len(receivers.asked) == 10)
        set_up.put(stop(endpoint))
        await until(lambda: not outbox.holders(), within_seconds=1.0)
        leases = outbox.calls["lease"]
        await pass_time(30.0)
        asked, leased = len(receivers.asked), outbox.calls["lease"] - leases
        set_up.put(endpoint)
        await all_ended(outbox)

    assert (asked, leased) == (10, 0)
    assert outbox.statuses() == {"delivered": 50}


@in_virtual_time
async def test_a_resting_lane_of_a_stopped_endpoint_is_given_back_too() -> None:
    """Also where nothing is due."""
    outbox, set_up = one_lane()
    outbox.owe(make_owed())

    async with Replica(outbox, set_up, Receivers()):
        await until(lambda: outbox.calls["rest"] and outbox.holders())
        set_up.put(replace(make_endpoint(), is_paused=True))
        await until(lambda: not outbox.holders(), within_seconds=1.0)


@in_virtual_time
async def test_an_endpoint_started_elsewhere_is_served_though_it_seems_stopped_here() -> None:
    """What this process knows is read anew before the lane is given back."""
    outbox, set_up = one_lane()
    set_up.known = {each.id: replace(each, is_paused=True) for each in set_up.known.values()}
    outbox.owe(make_owed())

    async with Replica(outbox, set_up, Receivers()):
        await all_ended(outbox, within_seconds=2.0)

    assert set_up.refreshes == 1


@in_virtual_time
async def test_a_busy_lanes_retries_beyond_a_fifth_come_later() -> None:
    """Those that fail the first time make no second load of the same size; in the end all arrive, each once."""
    outbox, set_up = one_lane(schedule_seconds=(1.0,) * 40)
    answers = itertools.cycle((FAILED, DELIVERED))
    receivers = Receivers(answer=lambda _: next(answers))
    outbox.owe(*make_many(600))
    began = now()

    async with Replica(outbox, set_up, receivers):
        await pass_time(8.0)
        early = len(receivers.asked)
        await all_ended(outbox, within_seconds=600.0)

    assert early <= 600 * 1.3
    assert outbox.statuses() == {"delivered": 600}
    assert now() - began > 10.0


@in_virtual_time
async def test_what_lanes_have_in_memory_is_bounded_in_bytes() -> None:
    """Large events are read a few at a time, and all of them arrive."""
    outbox, set_up = lanes(30)
    for lane_id in range(1, 31):
        outbox.owe(*(heavy(lane_id) for _ in range(60)))
    replica = Replica(outbox, set_up, Receivers(takes=lambda _: 0.2))
    memory = replica.relay._tools.memory
    most = 0

    async with replica:
        while outbox.debts:
            await pass_time(0.01)
            most = max(most, memory.taken_bytes)

    assert most <= 1.1 * memory._limit_bytes
    assert memory.taken_bytes == 0
    assert outbox.statuses() == {"delivered": 1800}


def heavy(lane_id: int) -> Owed:
    """Owe a delivery of 256 KiB."""
    owed = make_owed(lane_id)
    assert owed.stored is not None
    return replace(owed, stored=replace(owed.stored, event=replace(owed.stored.event, record=RECORD)))
