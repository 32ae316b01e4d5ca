"""A lane whose receiver fails is left alone, asked now and then by one send, and comes back gently."""

import itertools
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from app.domain.delivery import Owed
from app.domain.ids import LaneId
from app.domain.outcome import Outcome
from app.relay.breaker import THRESHOLD
from tests.unit.relay.fake_destination import DELIVERED, FAILED, FakeDestination
from tests.unit.relay.fake_outbox import FakeOutbox
from tests.unit.relay.receivers import Receivers, failing_until
from tests.unit.relay.replica import DAY, Replica, all_ended, lanes, make_many, make_owed, one_lane
from tests.unit.relay.virtual_time import in_virtual_time, now, pass_time, until

LANE = LaneId(1)
LONG = (3600.0,) * 9


@in_virtual_time
async def test_a_dead_receiver_with_a_backlog_costs_one_send_an_interval() -> None:
    """However much it is owed; nothing else is spent on it, and the others' deliveries go on."""
    outbox, set_up = lanes(2, schedule_seconds=LONG)
    receivers = Receivers(answer=lambda lane: FAILED if lane == 1 else DELIVERED)
    outbox.owe(*make_many(3000))

    async with Replica(outbox, set_up, receivers):
        began = now()
        await pass_time(1000.0)
        fetches = outbox.calls["fetch"]
        outbox.owe(make_owed(2))
        await until(lambda: outbox.statuses()["delivered"] == 1, within_seconds=1.0)

    times = receivers.times(1)
    at_first = sum(at - began < 1.0 for at in times)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times[at_first - 1 :])]
    assert THRESHOLD <= at_first <= 2 * 8
    # Half of 5, 10, 20 … 600 s: random is one half here.
    assert gaps == pytest.approx([2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0], abs=0.3)
    assert fetches <= 3 * len(gaps) + 10
    assert outbox.lanes[LANE].health.failures == THRESHOLD + 7


@in_virtual_time
async def test_while_it_is_suspended_no_hint_and_no_sweep_shortens_it() -> None:
    """What comes meanwhile waits with the rest."""
    outbox, set_up = one_lane(schedule_seconds=LONG)
    receivers = Receivers(answer=lambda _: FAILED)
    outbox.owe(*make_many(20))

    async with Replica(outbox, set_up, receivers) as replica:
        await until(lambda: outbox.calls["suspend"])
        asked = len(receivers.asked)
        ends_at = outbox.lanes[LANE].breaker_until
        while now() < ends_at - 0.2:
            outbox.owe(make_owed(), wake=replica.relay.wake)
            await pass_time(0.1)

        assert len(receivers.asked) == asked
        assert outbox.lanes[LANE].breaker_until == ends_at


@in_virtual_time
async def test_what_waits_for_a_receiver_spends_no_attempts() -> None:
    """Deliveries frozen behind it are as they were."""
    outbox, set_up = one_lane(schedule_seconds=LONG)
    outbox.owe(*make_many(500))

    async with Replica(outbox, set_up, Receivers(answer=lambda _: FAILED)):
        await pass_time(600.0)

    assert outbox.statuses() == {}
    assert sum(debt.owed.tries for debt in outbox.debts.values()) < 20


@pytest.mark.parametrize("count", [1, 4])
@in_virtual_time
async def test_few_deliveries_are_tried_by_their_schedules_alone(count: int) -> None:
    """However often they fail, also over many leases: the lane is not suspended."""
    outbox, set_up = one_lane(schedule_seconds=(0.5, 1.0, 30.0, 1.0, 30.0, 1.0))
    receivers = Receivers(answer=lambda _: FAILED)
    outbox.owe(*make_many(count))

    async with Replica(outbox, set_up, receivers):
        await all_ended(outbox)

    assert outbox.calls["suspend"] == 0
    assert len(receivers.asked) == 7 * count
    assert outbox.statuses() == {"dead": count}


@in_virtual_time
async def test_a_receiver_that_comes_back_is_asked_by_a_ramp() -> None:
    """One send, then twice as many at a time with each round."""
    outbox, set_up = one_lane(schedule_seconds=LONG)
    receivers = Receivers(answer=failing_until(now() + 60.0), takes=lambda _: 1.0)
    outbox.owe(*make_many(100))

    async with Replica(outbox, set_up, receivers):
        await until(lambda: outbox.statuses()["delivered"])
        back_at = now()
        await until(lambda: outbox.statuses()["delivered"] >= 60)

    rounds = Counter(round(at - back_at) for at in receivers.times(1) if at > back_at - 1.5)
    assert [rounds[each] for each in (-1, 1, 2, 3)] == [1, 2, 4, 8]
    assert outbox.lanes[LANE].health.failures == 0


@in_virtual_time
async def test_when_a_receiver_asks_for_time_it_has_it() -> None:
    """`Retry-After` beyond the planned span counts for the lane, not only for the delivery it came with."""
    outbox, set_up = one_lane(schedule_seconds=LONG)
    busy = replace(FAILED, status_code=429, retry_after_seconds=200.0)
    receivers = Receivers(answer=lambda _: busy)
    outbox.owe(*make_many(50))

    async with Replica(outbox, set_up, receivers):
        await pass_time(300.0)

    gaps = [later - earlier for earlier, later in itertools.pairwise(receivers.times(1))]
    assert max(gaps) == gaps[-1] == pytest.approx(200.0, abs=0.5)


@in_virtual_time
async def test_a_suspended_lane_is_on_trial_wherever_it_is_leased_next() -> None:
    """The next holder knows from the lane itself."""
    outbox, set_up = one_lane(schedule_seconds=LONG)
    receivers = Receivers(answer=lambda _: FAILED, takes=lambda _: 0.5)
    outbox.owe(*make_many(100))

    async with Replica(outbox, set_up, receivers, name="a"):
        await until(lambda: outbox.calls["suspend"])
    receivers.most_in_flight.clear()
    async with Replica(outbox, set_up, receivers, name="b"):
        await pass_time(60.0)

    assert receivers.most_in_flight == {1: 1}


@in_virtual_time
async def test_deliveries_that_a_receiver_refuses_do_not_suspend_its_lane() -> None:
    """It is there, and says so: each goes by its own short schedule."""
    outbox, set_up = one_lane(schedule_seconds=(1.0,) * 9)
    refusal = Outcome(kind="answered", latency_seconds=0.01, status_code=422)
    outbox.owe(*make_many(30))

    async with Replica(outbox, set_up, Receivers(answer=lambda _: refusal)):
        await all_ended(outbox)

    assert outbox.calls["suspend"] == 0
    assert outbox.statuses() == {"dead": 30}


@in_virtual_time
async def test_a_healthy_lane_is_never_written_down() -> None:
    """How it fares is news only when it changes: not through a thousand successes."""
    outbox, set_up = one_lane()
    outbox.owe(*make_many(1000))

    async with Replica(outbox, set_up, FakeDestination(takes_seconds=0.3)):
        await all_ended(outbox)

    assert outbox.calls["health"] == 0


@in_virtual_time
async def test_a_lane_that_turns_slow_or_fails_is_written_down_a_few_times() -> None:
    """Not with every attempt."""
    outbox, set_up = lanes(2, schedule_seconds=(1.0,) * 300)
    slow_or_failing = Receivers(
        takes=lambda lane: 3.0 if lane == 1 else 0.01, answer=lambda lane: DELIVERED if lane == 1 else FAILED
    )
    outbox.owe(*make_many(100), make_owed(2))

    async with Replica(outbox, set_up, slow_or_failing):
        await pass_time(100.0)

    assert outbox.lanes[LANE].health.latency_seconds > 1.0
    assert outbox.lanes[LaneId(2)].health.failures == THRESHOLD
    assert outbox.calls["health"] <= 3 + THRESHOLD


def steadily(outbox: FakeOutbox, lane_id: int, *, began: float) -> Owed:
    """Owe one more delivery, which came now."""
    owed = replace(make_owed(lane_id), created_at=DAY + timedelta(seconds=now() - began))
    outbox.owe(owed)
    return owed


def test_the_recovery_of_two_hundred_receivers_is_no_storm() -> None:
    """They fail for two minutes and are back at once: three times the usual load is never passed, none waits long."""

    @in_virtual_time
    async def story() -> None:
        chance = Random(1)  # noqa: S311 -- a simulation has to come out the same every time
        count, a_second, outage = 200, 20.0, 120.0
        outbox, set_up = lanes(count, schedule_seconds=(5.0, *(20.0,) * 20))
        began = now()
        receivers = Receivers(answer=failing_until(began + outage))
        async with Replica(outbox, set_up, receivers, random=chance.random):
            for lane_id in itertools.cycle(range(1, count + 1)):
                steadily(outbox, lane_id, began=began)
                await pass_time(1 / a_second)
                if now() > began + 5 * outage:
                    break
            still_owed = len(outbox.debts)

        after = receivers.a_second(since=began + outage)
        assert max(after.values()) <= 3 * a_second
        assert still_owed < 0.02 * outage * a_second

    story()
