"""How fast a lane may send: by its endpoint's rate limit, and, after its receiver was away, by how its backlog came.

Pure: the clock is an argument. How many sends at once is another question: breaker.py, slots.py.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from app.domain.delivery import Owed

# A backlog is sent at most so many times as fast as it came: a receiver that took it then can take it now.
SPEED: Final = 2.0
# The success that ended the trial is alone for so long.
FIRST_SECONDS: Final = 1.0
# No pause of what came lasts longer when it is played back.
LONGEST_GAP_SECONDS: Final = 2.0
_NEWEST_SHARE: Final = 0.1
_LATE_SECONDS: Final = 0.25
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


class Recovery:
    """Plays back what came while a lane's receiver was away in the rhythm it came in, only faster.

    So hundreds of receivers that come back at once see no more than so many times their usual load, each its own,
    and it takes as long again as they were away. What comes meanwhile stands behind what came before; what came
    earlier and failed goes between, as if it had come in the same rhythm.
    """

    def __init__(self, first: Owed, *, now: float) -> None:
        """Take the delivery by which the receiver showed that it is back."""
        self._back_at = first.created_at + timedelta(seconds=first.age_seconds)
        self._came_at = first.created_at
        self._played_at = now + FIRST_SECONDS
        self._usual_gap = LONGEST_GAP_SECONDS

    def is_over(self, following: Owed) -> bool:
        """Tell whether what goes next came after the receiver was back."""
        return following.created_at >= self._back_at

    def wait(self, following: Owed, *, now: float) -> float:
        """Tell how long to wait until what goes next may go."""
        return max(0.0, self._played_at + self._gap(following) - now)

    def take(self, last: Owed, *, now: float) -> None:
        """Go on behind a delivery that goes now; what came late is made up for, though not all at once."""
        self._played_at = max(self._played_at + self._gap(last), now - _LATE_SECONDS)
        self._usual_gap += _NEWEST_SHARE * (self._gap(last) - self._usual_gap)
        self._came_at = max(self._came_at, last.created_at)

    def _gap(self, following: Owed) -> float:
        gap = (following.created_at - self._came_at).total_seconds() / SPEED
        return min(gap, LONGEST_GAP_SECONDS) if gap >= 0 else self._usual_gap


class Pace:
    """Both, for one lease of a lane."""

    def __init__(self, *, now: float) -> None:
        """Start: nothing is known of the receiver."""
        self._limit = RateLimit(now=now)
        self._recovery: Recovery | None = None

    def recover(self, first: Owed, *, now: float) -> None:
        """Say that the receiver is back, and took this."""
        self._recovery = Recovery(first, now=now)

    def wait(self, following: Owed, rate: float | None, *, now: float) -> float:
        """Tell how long to wait until what goes next may go."""
        if self._recovery is not None and self._recovery.is_over(following):
            self._recovery = None
        return max(
            0.0 if rate is None else self._limit.wait(rate, now=now),
            0.0 if self._recovery is None else self._recovery.wait(following, now=now),
        )

    def count(self, most: int, rate: float | None, *, now: float) -> int:
        """Tell how many may go in one send now, where at least one may."""
        return most if rate is None else max(1, min(most, self._limit.count(rate, now=now)))

    def take(self, batch: Sequence[Owed], rate: float | None, *, now: float) -> None:
        """Say that these go now."""
        if rate is not None:
            self._limit.take(len(batch))
        if self._recovery is not None and batch:
            self._recovery.take(batch[-1], now=now)
