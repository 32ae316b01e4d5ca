"""How fast a lane may send: its rate limit, the playback of its backlog, its budget of retries, its bytes."""

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from app.domain.delivery import Owed
from app.relay.memory import ROW_BYTES, Memory
from app.relay.pace import LONGEST_GAP_SECONDS, Pace, RateLimit
from app.relay.retry_budget import FEW, FLOOR, RetryBudget, slide_seconds
from tests.unit.relay.replica import DAY, make_owed

RATES = (0.1, 1.0, 7.0, 100.0, 5000.0)


def came(after_seconds: float, *, age_seconds: float = 0.0) -> Owed:
    """Owe a delivery since so long after the first."""
    return replace(make_owed(), created_at=DAY + timedelta(seconds=after_seconds), age_seconds=age_seconds)


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
        pace = Pace(now=0.0)
        pace.recover(came(0.0, age_seconds=300.0), now=10.0)

        assert pace.wait(came(0.0), None, now=10.0) == pytest.approx(1.0)

    def test_a_backlog_is_played_back_in_its_rhythm_only_faster(self) -> None:
        """Twice, and late timers are made up for."""
        pace, now = Pace(now=0.0), 0.0
        pace.recover(came(0.0, age_seconds=300.0), now=0.0)
        for each in (came(float(second)) for second in range(1, 250)):
            now += pace.wait(each, None, now=now) + 0.01
            pace.take([each], None, now=now)

        assert now == pytest.approx(1.0 + 249 / 2, abs=0.1)

    def test_no_pause_of_it_is_long(self) -> None:
        """An hour without anything is not waited for."""
        pace = Pace(now=0.0)
        pace.recover(came(0.0, age_seconds=86_400.0), now=0.0)

        assert pace.wait(came(3600.0), None, now=1.0) == pytest.approx(LONGEST_GAP_SECONDS)
        assert pace.wait(came(3600.0), None, now=3.0) == 0.0

    def test_what_came_at_once_goes_at_once(self) -> None:
        """How many at a time is the ramp's to say."""
        pace = Pace(now=0.0)
        pace.recover(came(0.0, age_seconds=300.0), now=0.0)
        pace.take([came(10.0)], None, now=5.0)

        assert pace.wait(came(10.0), None, now=5.0) == 0.0

    def test_what_failed_before_goes_between_in_the_same_rhythm(self) -> None:
        """A heap of retries that are due when the receiver is back is no burst."""
        pace, now = Pace(now=0.0), 0.0
        pace.recover(came(100.0, age_seconds=300.0), now=0.0)
        for each in (came(100.0 + second / 10) for second in range(1, 100)):
            now += pace.wait(each, None, now=now)
            pace.take([each], None, now=now)
        before = now
        for each in (came(1.0) for _ in range(100)):
            now += pace.wait(each, None, now=now)
            pace.take([each], None, now=now)

        assert now - before == pytest.approx(5.0, rel=0.05)

    def test_what_came_since_the_receiver_is_back_is_not_held_up(self) -> None:
        """Then there is no recovery any more."""
        pace = Pace(now=0.0)
        pace.recover(came(0.0, age_seconds=300.0), now=0.0)

        assert pace.wait(came(301.0), None, now=0.5) == 0.0


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
