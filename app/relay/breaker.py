"""Whether a lane's receiver is worth asking now: not at all, by one attempt at a time, a few more with each success.

Pure: what a lane is told is written down by others (health.py), and its pause is the outbox's (`Outbox.suspend`).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

# What a send says of the receiver: it took something; it is there, though it took nothing; it is unwell; nothing.
Sign = Literal["well", "rejected", "ill", "none"]
# What a failure may be laid to instead: one delivery, or one object whose deliveries go in order.
Cause = tuple[Literal["row", "key"], int]

# So many failed sends in a row, each of a delivery (in order: of an object) that had not failed before,
# open the breaker.
THRESHOLD: Final = 5
# A receiver is let be for a part of the time it was away so far, so it is found again soon after it is back, however
# long that took; between these bounds.
SHARE: Final = 1 / 4
FIRST_SECONDS: Final = 5.0
LONGEST_SECONDS: Final = 600.0
# Spans differ by so much of them, or receivers that failed together would be asked together.
_SPREAD: Final = 1 / 2
# A receiver that says when to come back is heard beyond our own span, up to this.
LONGEST_ASKED_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Failed sends that have not opened the breaker yet, and what they may be laid to."""

    failed: frozenset[Cause]
    sends: int


class Breaker:
    """Closed; open for the rest of the lease; on trial in the next one; then on a ramp until it is closed again.

    A delivery that fails again and again, or an object, is paced by its own schedule: it counts once.
    """

    def __init__(
        self,
        *,
        failures: int = 0,
        failing_since: float | None = None,
        is_on_trial: bool = False,
        doubt: Doubt | None = None,
    ) -> None:
        """Take what the lease says: failures in a row, since when, and whether it opened since they began.

        `doubt` is what the lease before it was left with, where this process had that too.
        """
        self.failures = failures
        self.is_open = False
        self.is_on_trial = is_on_trial
        self._failing_since = failing_since
        # How many sends may be under way; None: no limit of ours.
        self._places: int | None = 1 if is_on_trial else None
        self._failed: set[Cause] = set(doubt.failed) if doubt else set()
        self._failed_sends = doubt.sends if doubt else 0
        self._asked_until = -math.inf

    @property
    def doubt(self) -> Doubt | None:
        """Give what speaks against the receiver so far: leases may end before that is enough."""
        if self.is_open or not self._failed_sends:
            return None
        return Doubt(failed=frozenset(self._failed), sends=self._failed_sends)

    def places(self, most: int) -> int:
        """Tell how many sends may be under way, of the endpoint's own limit."""
        if self.is_open:
            return 0
        return most if self._places is None else min(most, self._places)

    def hear(
        self, sign: Sign, causes: Iterable[Cause], *, most: int, now: float, asked_until: float = -math.inf
    ) -> None:
        """Take what a send of these said; `asked_until`: when the receiver asked to be tried again."""
        if sign == "none":
            return
        if sign == "ill":
            self._asked_until = max(self._asked_until, asked_until)
        self._count(sign, now)
        if self.is_open:
            return
        if sign == "ill":
            self._fall_ill(set(causes))
        else:
            self._get_well(most)

    def span(self, *, now: float, random: float) -> float:
        """Tell for how long to let the receiver be: longer the longer it is away."""
        away = 0.0 if self._failing_since is None else now - self._failing_since
        longest = min(LONGEST_SECONDS, max(FIRST_SECONDS, SHARE * away))
        planned = longest * (1.0 - _SPREAD * random)
        return max(planned, min(self._asked_until - now, LONGEST_ASKED_SECONDS))

    def _count(self, sign: Sign, now: float) -> None:
        if sign == "well":
            self.failures, self._failing_since = 0, None
            return
        self.failures = min(self.failures + 1, THRESHOLD)
        if self._failing_since is None:
            self._failing_since = now

    def _fall_ill(self, causes: set[Cause]) -> None:
        if self._failed.isdisjoint(causes):
            self._failed_sends += 1
        self._failed |= causes
        if self._places is not None or self._failed_sends >= THRESHOLD:
            self.is_open = True
            self.failures = THRESHOLD

    def _get_well(self, most: int) -> None:
        self._failed.clear()
        self._failed_sends = 0
        self.is_on_trial = False
        if self._places is not None:
            # One more with each success: twice as many each time all of them came back well.
            self._places = self._places + 1 if self._places + 1 < most else None
