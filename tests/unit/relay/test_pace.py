"""How fast a lane may send: its rate limit, the playback of its backlog, its budget of retries, its bytes."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from app.domain.delivery import Owed
from app.relay.memory import ROW_BYTES, Memory
from app.relay.pace import FIRST_SECONDS, LONGEST_GAP_SECONDS, Pace, RateLimit
from app.relay.retry_budget import FEW, FLOOR, RetryBudget, slide_seconds
from tests.unit.relay.replica import DAY, make_owed

RATES = (0.1, 1.0, 7.0, 100.0, 5000.0)


def came(after_seconds: float, *, read_after: float = 0.0, tries: int = 0) -> Owed:
    """Owe a delivery since so long after the first, and read it so long after that."""
    owed_at = DAY + timedelta(seconds=after_seconds)
    return replace(make_owed(tries=tries), owed_at=owed_at, age_seconds=read_after - after_seconds)


class Lane:
    """A lane whose receiver was away for so long while deliveries came, and is back at the moment 0."""

    def __init__(self, outage: float, *, every: float = 1.0) -> None:
        self.now = 0.0
        self.pace = Pace(now=0.0)
        self.outage = outage
        self.rows = [came(number * every, read_after=outage) for number in range(int(outage / every))]
        self.pace.note_read(self.rows[:64], now=0.0)
        self.pace.recover(self.rows.pop(0), now=0.0)

    def play(self, rows: Sequence[Owed], *, late: float = 0.0) -> list[float]:
        """Send rows in turn, each as soon as it may, and tell when."""
        times = []
        for row in rows:
            self.now += self.pace.wait(row, None, now=self.now) + late
            self.pace.take([row], None, now=self.now)
            times.append(self.now)
        return times


def most_a_second(times: Sequence[float]) -> int:
    """Count what went within the fullest second."""
    return max(sum(first <= each < first + 1.0 for each in times) for first in times)


class TestRateLimit:
    """Tokens of a lease."""

    @pytest.mark.parametrize("rate", RATES)
    def test_a_new_lease_starts_empty(self, rate: float) -> None:
        """Whoever held the lane before may have sent a moment ago."""
        assert RateLimit(now=50.0).wait(rate, now=50.0) == pytest.approx(1 / rate)

    @pytest.mark.parametrize("rate", RATES)
    def test_whoever_waits_as_told_keeps_the_rate(self, rate: float) -> None:
        """Neither more nor, over a while, less."""
        limit, now, sent = RateLimit(now=0.0), 0.0, 0
        while sent < 500:
            now += limit.wait(rate, now=now)
            count = limit.count(rate, now=now)
            assert count >= 1
            limit.take(count)
            sent += count

        assert now == pytest.approx(sent / rate, rel=0.01)

    @pytest.mark.parametrize("rate", RATES)
    def test_hands_that_change_at_any_moment_cannot_burst(self, rate: float) -> None:
        """In no span more go than the rate allows in it and one twentieth of a second, however often lanes move."""
        chance = Random(1)  # noqa: S311 -- it has to come out the same every time
        now, sent = 0.0, list[float]()
        while len(sent) < 1000:
            limit = RateLimit(now=now)
            until = now + chance.uniform(0.0, 10.0 / rate)
            while True:
                now += limit.wait(rate, now=now) + chance.choice((0.0, chance.uniform(0.0, 3.0 / rate)))
                if now > until:
                    break
                count = limit.count(rate, now=now)
                limit.take(count)
                sent += [now] * count

        burst = max(1.0, rate / 20)
        for first in range(0, len(sent), 7):
            for last in range(first, min(len(sent), first + 200), 3):
                assert last - first + 1 <= (sent[last] - sent[first]) * rate + burst + 1e-3


class TestRecovery:
    """The playback of what came while a receiver was away."""

    def test_what_was_in_flight_alone_stays_alone_for_a_second(self) -> None:
        """The first success is no invitation for all."""
        lane = Lane(300.0)

        assert lane.play(lane.rows[:1])[0] >= FIRST_SECONDS

    @pytest.mark.parametrize("every", [0.1, 1.0, 10.0])
    def test_a_backlog_is_played_back_in_its_rhythm_only_faster(self, every: float) -> None:
        """Twice, and late timers are made up for."""
        lane = Lane(300.0, every=every)

        times = lane.play(lane.rows, late=0.01)

        assert times[-1] == pytest.approx(FIRST_SECONDS + 150.0, abs=0.5 * every + 0.2)
        assert most_a_second(times) <= 1 + 2.5 / every

    def test_no_pause_of_it_is_long(self) -> None:
        """An hour without anything is not waited for."""
        lane = Lane(300.0)
        row = came(3600.0, read_after=86_400.0)
        lane.pace.note_read([row], now=0.0)

        assert lane.play([row]) == [FIRST_SECONDS + LONGEST_GAP_SECONDS]

    def test_what_came_at_once_is_spread(self) -> None:
        """As far as the lane's usual rhythm allows."""
        lane = Lane(300.0)

        times = lane.play([came(20.0, read_after=300.0) for _ in range(20)])

        assert most_a_second(times) <= 3

    def test_repeats_go_between_and_cost_no_time(self) -> None:
        """A heap of them that is due when the receiver is back is no burst; what stood behind is made up for."""
        lane = Lane(300.0)
        repeats = [came(1.0, read_after=300.0, tries=1) for _ in range(40)]

        times = lane.play([*lane.rows[:10], *repeats, *lane.rows[10:]])

        assert most_a_second(times) <= 3
        assert times[-1] == pytest.approx(FIRST_SECONDS + 150.0, abs=1.0)

    def test_what_came_while_a_backlog_was_played_is_played_too(self) -> None:
        """Behind it, until what goes next came just now: that it is over is no invitation either."""
        lane = Lane(60.0)
        later = [came(60.0 + number, read_after=60.0) for number in range(300)]

        times = lane.play(lane.rows)
        for row in later:
            came_at = (row.owed_at - DAY).total_seconds() - 60.0
            lane.now = max(lane.now, came_at)
            times += lane.play([row])

        behind = [at - (came_at - 60.0) for at, came_at in zip(times[59:], range(60, 360), strict=True)]
        assert most_a_second(times) <= 3
        assert times[-1] == pytest.approx(299.0)
        assert next(each for each, gap in enumerate(behind) if gap <= 1.0) == pytest.approx(60, abs=5)

    def test_what_comes_when_all_is_played_is_not_held_up(self) -> None:
        """Then there is no recovery any more."""
        lane = Lane(300.0)

        assert lane.pace.wait(came(300.4, read_after=300.4), None, now=0.5) == 0.0

    @pytest.mark.parametrize("every", [0.5, 5.0])
    def test_a_lane_that_changes_hands_goes_on_at_its_pace(self, every: float) -> None:
        """However often: the next holder knows that it recovers, and sees the rhythm."""
        lane = Lane(300.0, every=every)
        rows, times = lane.rows, list[float]()
        while rows:
            lane.pace = Pace(now=lane.now, is_recovering=True)
            lane.pace.note_read(rows[:64], now=lane.now - 300.0)
            times += lane.play(rows[:7])
            rows = rows[7:]

        assert most_a_second(times) <= 1 + 2.5 / every
        assert times[-1] < 200.0

    def test_a_lane_whose_backlog_is_gone_is_paced_no_more(self) -> None:
        """Whoever has it then."""
        pace = Pace(now=0.0, is_recovering=True)
        rows = [came(500.0, read_after=500.0) for _ in range(100)]
        pace.note_read(rows, now=0.0)

        assert pace.wait(rows[0], None, now=0.0) == 0.0


class TestRetryBudget:
    """How many sends may be repeats."""

    def test_a_lane_with_few_deliveries_has_no_limit(self) -> None:
        """However often they fail."""
        budget = RetryBudget(now=0.0)
        for _ in range(FEW - 1):
            budget.note_first(now=0.0)

        assert all(budget.allows_retry(now=1.0) for _ in range(1000))

    def test_a_busy_lane_repeats_a_fifth(self) -> None:
        """Of what it tried for the first time within a minute."""
        budget = RetryBudget(now=0.0)
        for _ in range(1000):
            budget.note_first(now=0.0)

        assert sum(budget.allows_retry(now=1.0) for _ in range(1000)) == 200

    def test_a_minute_passes_gradually(self) -> None:
        """What was spent comes back as the minute before goes by."""
        budget = RetryBudget(now=0.0)
        for _ in range(1000):
            budget.note_first(now=0.0)
        spent = sum(budget.allows_retry(now=30.0) for _ in range(300))
        for _ in range(1000):
            budget.note_first(now=60.0)

        assert spent == 200
        assert sum(budget.allows_retry(now=90.0) for _ in range(1000)) == 200
        assert sum(budget.allows_retry(now=600.0) for _ in range(1000)) == 1000
        assert FLOOR < FEW

    def test_what_slides_comes_within_a_minute_spread_out(self) -> None:
        """Not all of it at once again."""
        assert (slide_seconds(0.0), slide_seconds(1.0)) == (10.0, 60.0)


class TestMemory:
    """The bytes of all windows."""

    def test_lanes_leave_room_for_others(self) -> None:
        """Each reads on only while it has less than a part of what is free, so some is always free."""
        memory = Memory(1000 * ROW_BYTES)
        held = [0] * 20
        for _ in range(50):
            for lane, before in enumerate(held):
                for _ in range(min(16, memory.room(before, row_bytes=ROW_BYTES))):
                    held[lane] += memory.take(make_owed())

        assert memory.taken_bytes <= 1000 * ROW_BYTES
        assert memory.room(0, row_bytes=ROW_BYTES) > 1
        assert min(held) >= 20 * ROW_BYTES

    def test_a_lane_with_nothing_may_always_read_one(self) -> None:
        """Else lanes could wait for each other for ever."""
        memory = Memory(ROW_BYTES)
        memory.take(make_owed())
        memory.take(make_owed())

        assert (memory.room(0, row_bytes=ROW_BYTES), memory.room(1, row_bytes=ROW_BYTES)) == (1, 0)

    def test_rows_that_weigh_more_are_read_in_smaller_numbers(self) -> None:
        """What rows weighed lately is what the next ones are expected to."""
        memory = Memory(1000 * ROW_BYTES)
        light = memory.room(0, row_bytes=ROW_BYTES)
        heavy = make_owed()
        assert heavy.stored is not None
        event = replace(heavy.stored.event, record=b"x" * 100 * ROW_BYTES)
        row = replace(heavy, stored=replace(heavy.stored, event=event))
        weights = [memory.take(row) for _ in range(100)]
        for weight in weights:
            memory.give_back(weight)

        assert memory.taken_bytes == 0
        assert memory.room(0, row_bytes=ROW_BYTES) * 90 < light
