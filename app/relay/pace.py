"""How fast a lane may send: by its endpoint's rate limit, and, after its receiver was away, by how its backlog came.

Pure: the clock is an argument. How many sends at once is another question: breaker.py, slots.py.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from app.domain.delivery import Owed

# A backlog is played back so many times as fast as it came: a receiver that took it then can take it now.
SPEED: Final = 2.0
# What is late, as repeats are and what had to wait for them, is made up for so fast, and no faster.
FASTEST: Final = 2.5
# The success that ended the trial is alone for so long.
FIRST_SECONDS: Final = 1.0
# No pause of what came lasts longer when it is played back.
LONGEST_GAP_SECONDS: Final = 15.0
# What was owed for less than this is no backlog.
_CAUGHT_UP_SECONDS: Final = 0.25
# Fewer first tries do not tell a rhythm anew; before any did, it is taken to be slow.
_FEW: Final = 8
_UNKNOWN_GAP_SECONDS: Final = 2.0
# So much of a second may be made up for when sends came late: timers are coarse.
_BURST_SECONDS: Final = 0.05
_NEARLY: Final = 1e-6


class RateLimit:
    """Tokens of one lease, none at its start: whoever held the lane before may just have used them up."""

    def __init__(self, *, now: float) -> None:
        """Start empty."""
        self._tokens = 0.0
        self._counted_at = now

    def wait(self, rate: float, *, now: float) -> float:
        """Tell how long to wait until one may go."""
        return 0.0 if self.count(rate, now=now) else (1.0 - self._tokens) / rate

    def count(self, rate: float, *, now: float) -> int:
        """Tell how many may go now."""
        self._tokens = min(max(1.0, rate * _BURST_SECONDS), self._tokens + (now - self._counted_at) * rate)
        self._counted_at = now
        return int(self._tokens + _NEARLY)

    def take(self, count: int) -> None:
        """Use tokens."""
        self._tokens -= count


class Rhythm:
    """How often deliveries came to a lane, and what time it is for the database, by what was read of it."""

    def __init__(self) -> None:
        """Start: nothing was read."""
        self.gap_seconds = _UNKNOWN_GAP_SECONDS
        self._is_known = False
        self._read: tuple[datetime, float] | None = None

    def note_read(self, rows: Sequence[Owed], *, now: float) -> None:
        """Hear what was read together. Repeats come in a rhythm of their own."""
        if rows:
            self._read = rows[-1].owed_at + timedelta(seconds=rows[-1].age_seconds), now
        firsts = [row.owed_at for row in rows if row.failures == 0]
        if len(firsts) >= (_FEW if self._is_known else 2):
            self.gap_seconds = (max(firsts) - min(firsts)).total_seconds() / (len(firsts) - 1)
            self._is_known = True

    def age(self, row: Owed, *, now: float) -> float:
        """Tell for how long a delivery that was read is owed by now."""
        if self._read is None:
            return row.age_seconds
        read, read_at = self._read
        return (read - row.owed_at).total_seconds() + now - read_at


class Recovery:
    """Plays back what came while a lane's receiver was away in the rhythm it came in, only faster.

    So hundreds of receivers that come back at once see no more than so many times their usual load, each its own, and
    it takes as long again as they were away. What comes meanwhile stands behind what came before. Repeats go between:
    what stands behind them is then late, and made up for.
    """

    def __init__(self, first: Owed, *, now: float) -> None:
        """Take the delivery that is played first, and when."""
        self._came_at = first.owed_at
        self._turn_at = now
        self._sent_at = now

    def wait(self, following: Owed, gap_seconds: float, *, now: float) -> float:
        """Tell how long to wait until what goes next may go, where what came had such gaps."""
        return max(0.0, max(self._turn(following), self._sent_at + _spacing(gap_seconds)) - now)

    def take(self, batch: Sequence[Owed], gap_seconds: float, *, now: float) -> None:
        """Go on behind deliveries that go now; timers that were late are made up for, though not all at once."""
        self._turn_at = self._turn(batch[-1])
        self._came_at = max(self._came_at, batch[-1].owed_at)
        self._sent_at = max(self._sent_at + len(batch) * _spacing(gap_seconds), now - _BURST_SECONDS)

    def _turn(self, following: Owed) -> float:
        gap = (following.owed_at - self._came_at).total_seconds() / SPEED
        return self._turn_at + min(max(0.0, gap), LONGEST_GAP_SECONDS)


def _spacing(gap_seconds: float) -> float:
    return min(gap_seconds / FASTEST, LONGEST_GAP_SECONDS)


class Pace:
    """Both, for one lease of a lane."""

    def __init__(self, *, now: float, is_recovering: bool = False) -> None:
        """Start. `is_recovering`: the lane changed hands while its backlog was played, or may have been."""
        self._limit = RateLimit(now=now)
        self._rhythm = Rhythm()
        self._recovery: Recovery | None = None
        self._is_to_go_on = is_recovering

    def note_read(self, rows: Sequence[Owed], *, now: float) -> None:
        """Hear what was read."""
        self._rhythm.note_read(rows, now=now)

    def age(self, row: Owed, *, now: float) -> float:
        """Tell for how long a delivery is owed by now, of those that were read."""
        return self._rhythm.age(row, now=now)

    def recover(self, first: Owed, *, now: float) -> None:
        """Say that the receiver is back, and took this."""
        self._recovery = Recovery(first, now=now + FIRST_SECONDS)
        self._is_to_go_on = False

    def wait(self, following: Owed, rate: float | None, *, now: float) -> float:
        """Tell how long to wait until what goes next may go."""
        self._begin_or_end(following, now)
        return max(
            0.0 if rate is None else self._limit.wait(rate, now=now),
            0.0 if self._recovery is None else self._recovery.wait(following, self._rhythm.gap_seconds, now=now),
        )

    def count(self, most: int, rate: float | None, *, now: float) -> int:
        """Tell how many may go in one send now, where at least one may."""
        return most if rate is None else max(1, min(most, self._limit.count(rate, now=now)))

    def take(self, batch: Sequence[Owed], rate: float | None, *, now: float) -> None:
        """Say that these go now."""
        if rate is not None:
            self._limit.take(len(batch))
        if self._recovery is not None and batch:
            self._recovery.take(batch, self._rhythm.gap_seconds, now=now)

    def _begin_or_end(self, following: Owed, now: float) -> None:
        if self._is_to_go_on:
            self._recovery = Recovery(following, now=now)
            self._is_to_go_on = False
        if self._recovery is not None and self._rhythm.age(following, now=now) <= _CAUGHT_UP_SECONDS:
            self._recovery = None
