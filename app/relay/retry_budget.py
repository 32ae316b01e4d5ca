"""How many of a lane's sends may be repeats: a share of the first ones, so that failures do not become the load."""

from typing import Final

SHARE: Final = 0.2
FLOOR: Final = 10
# A lane with fewer first tries a minute is bounded by its deliveries' schedules alone.
FEW: Final = 100
_SPAN_SECONDS: Final = 60.0
# Those beyond the budget come again within a minute, spread out.
_SHORTEST_SLIDE_SECONDS: Final = 10.0


class RetryBudget:
    """Counts the last minute of one lane: this minute's, and of the one before as much as has not passed yet."""

    def __init__(self, *, now: float) -> None:
        """Start with nothing spent."""
        self._since = now
        self._firsts, self._firsts_before = 0, 0
        self._retries, self._retries_before = 0, 0

    def note_first(self, *, now: float) -> None:
        """Count a first try."""
        self._go_on(now)
        self._firsts += 1

    def allows_retry(self, *, now: float) -> bool:
        """Tell whether one more try of something that failed fits in, and count it if so."""
        self._go_on(now)
        left = max(0.0, 1.0 - (now - self._since) / _SPAN_SECONDS)
        firsts = self._firsts + left * self._firsts_before
        retries = self._retries + left * self._retries_before
        fits = firsts < FEW or retries < max(FLOOR, SHARE * firsts)
        self._retries += fits
        return fits

    def _go_on(self, now: float) -> None:
        passed = int((now - self._since) // _SPAN_SECONDS)
        if passed:
            is_next = passed == 1
            self._firsts_before, self._retries_before = (self._firsts, self._retries) if is_next else (0, 0)
            self._firsts = self._retries = 0
            self._since += passed * _SPAN_SECONDS


def slide_seconds(random: float) -> float:
    """Tell after how long one that did not fit in comes again."""
    return _SHORTEST_SLIDE_SECONDS + (_SPAN_SECONDS - _SHORTEST_SLIDE_SECONDS) * random
