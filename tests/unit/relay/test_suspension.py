"""A lane whose receiver fails is left alone, asked now and then by one send, and comes back gently."""

import itertools
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from random import Random

import pytest

from app.domain.ids import LaneId
from app.domain.outcome import Outcome
from app.relay.breaker import FIRST_SECONDS, SHARE, THRESHOLD
from tests.unit.relay.fake_destination import DELIVERED, FAILED, FakeDestination
from tests.unit.relay.receivers import Receivers, failing_until
from tests.unit.relay.replica import Replica, all_ended, lanes, make_endpoint, make_many, make_owed, one_lane
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
    # Three quarters, as random is one half here, of five seconds or of a quarter of what has passed.
    awaited = [0.75 * max(FIRST_SECONDS, SHARE * (at - began)) for at in times[at_first - 1 : -1]]
    assert gaps == pytest.approx(awaited, abs=0.3)
    assert len(gaps) <= 30
    assert fetches <= 3 * len(gaps) + 10
    assert outbox.lanes[LANE].health.failures == THRESHOLD


@in_virtual_time
async def test_what_disables_an_endpoint_is_heard_at_once() -> None:
    """Nothing more is sent to it, though its set-up still says otherwise: only what was under way is dead with it."""
    outbox, set_up = one_lane(max_in_flight=1)
    gone = Outcome(kind="answered", latency_seconds=0.01, status_code=410)
    receivers = Receivers(answer=lambda _: gone)
    outbox.owe(*make_many(200))

    async with Replica(outbox, set_up, receivers):
        await until(lambda: outbox.statuses()["dead"])
        await pass_time(0.02)

    assert len(receivers.asked) <= 2
    assert outbox.statuses()["dead"] == len(receivers.asked)


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
    assert sum(debt.owed.tries for debt in outbox.debts.values()) < 40


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """What receivers saw that failed from the beginning and were back at once.

    `drained_after`: how long after that nothing was owed for long any more; `first_seconds`: how often each was asked
    within a second from when it was first asked then.
    """

    a_second: Counter[int]
    drained_after: float
    first_seconds: list[int]


class Weather:
    """A store that goes on as usual, receivers that are away for so long, and replicas that come and go."""

    def __init__(self, *, receivers: int, outage: float, usual: float, joining: int, seed: int) -> None:
        self.chance = Random(seed)  # noqa: S311 -- a simulation has to come out the same every time
        self.outbox, self.set_up = lanes(receivers, schedule_seconds=(5.0, *(20.0,) * 20))
        self.back_at = now() + outage
        self.receivers = Receivers(answer=failing_until(self.back_at))
        self._lanes = itertools.cycle(range(1, receivers + 1))
        self._outage, self._usual = outage, usual
        # Those that join do it while the backlog is played.
        self._joins_at = [self.back_at + outage * (each + 1) / (joining + 1) for each in range(joining)]

    async def run(self) -> Storm:
        """Let it all happen."""
        behind = 0.0
        async with AsyncExitStack() as replicas:
            await replicas.enter_async_context(self._replica("first"))
            while now() < self.back_at + 2.2 * self._outage:
                for _ in range(int(self._usual)):
                    self.outbox.owe(make_owed(next(self._lanes)))
                    await pass_time(1 / self._usual)
                if any(now() - debt.owed_at > 5.0 for debt in self.outbox.debts.values()):
                    behind = now() - self.back_at
                if self._joins_at and now() > self._joins_at[0]:
                    await replicas.enter_async_context(self._replica(f"joined at {self._joins_at.pop(0)}"))
        return Storm(
            a_second=self.receivers.a_second(since=self.back_at),
            drained_after=behind,
            first_seconds=[self._in_the_first_second(lane) for lane in range(1, len(self.outbox.lanes) + 1)],
        )

    def _replica(self, name: str) -> Replica:
        return Replica(self.outbox, self.set_up, self.receivers, name=name, random=self.chance.random)

    def _in_the_first_second(self, lane: int) -> int:
        times = [at for at in self.receivers.times(lane) if at >= self.back_at]
        return sum(at < times[0] + 1.0 for at in times)


@pytest.mark.parametrize(
    ("receivers", "outage", "usual", "joining"),
    [(100, 40.0, 50.0, 0), (50, 150.0, 20.0, 0), (60, 60.0, 30.0, 2)],
    ids=["a short one", "a long one", "lanes change hands"],
)
def test_the_recovery_of_many_receivers_is_no_storm(receivers: int, outage: float, usual: float, joining: int) -> None:
    """Three times the usual load is never passed, each is asked once at first, and all is made up for in time."""

    @in_virtual_time
    async def story() -> None:
        weather = Weather(receivers=receivers, outage=outage, usual=usual, joining=joining, seed=1)

        seen = await weather.run()

        assert max(seen.a_second.values()) <= 3 * usual
        assert set(seen.first_seconds) == {1}
        assert seen.drained_after <= 2 * outage

    story()


@in_virtual_time
async def test_what_was_under_way_to_another_target_says_nothing_of_the_new_one() -> None:
    """An endpoint whose URL is mended while sends to the old one hang is not suspended for these."""
    outbox, set_up = one_lane(max_in_flight=THRESHOLD, schedule_seconds=(5.0,) * 9)
    mended = replace(make_endpoint(max_in_flight=THRESHOLD, schedule_seconds=(5.0,) * 9), config={"url": "mended"})
    receivers = Receivers(answer=failing_until(now() + 30.0), takes=lambda _: 20.0)
    outbox.owe(*make_many(20))

    async with Replica(outbox, set_up, receivers):
        await until(lambda: receivers.in_flight[1] == 4)
        set_up.put(mended)
        receivers.answer = lambda _: FAILED
        await pass_time(25.0)
        receivers.answer = lambda _: DELIVERED
        await all_ended(outbox, within_seconds=300.0)

    assert outbox.calls["suspend"] == 0


@in_virtual_time
async def test_a_lane_that_hangs_from_the_start_takes_little() -> None:
    """Two at first, so that one that hangs does not hold up the next; one more with each that ended."""
    outbox, set_up = one_lane()
    receivers = Receivers(takes=lambda _: 14.0)
    outbox.owe(*make_many(100))
    most = []

    async with Replica(outbox, set_up, receivers):
        for _ in range(4):
            await pass_time(13.0)
            most.append(receivers.most_in_flight[1])
            await pass_time(1.5)
        outbox.debts.clear()

    assert most == [2, 4, 8, 8]


@in_virtual_time
async def test_a_target_that_was_changed_during_the_last_send_is_asked_at_once() -> None:
    """That the old one is ill says nothing of the new one, though this process has not heard of the change yet."""
    outbox, set_up = one_lane(schedule_seconds=LONG)
    answers, spans = itertools.repeat(FAILED), itertools.chain([5.0], itertools.repeat(0.01))
    receivers = Receivers(answer=lambda _: next(answers), takes=lambda _: next(spans))
    outbox.owe(*make_many(40))

    async with Replica(outbox, set_up, receivers):
        await pass_time(2.0)
        asked, is_open_before_the_last = len(receivers.asked), outbox.calls["suspend"] == 0
        (endpoint,) = set_up.committed.values()
        set_up.committed = {endpoint.id: replace(endpoint, config={"url": "https://elsewhere.example/"})}
        answers = itertools.repeat(DELIVERED)
        await until(lambda: outbox.statuses()["delivered"] >= 20, within_seconds=10.0)

    assert THRESHOLD <= asked < 40
    assert is_open_before_the_last
    assert outbox.calls["suspend"] == 0
