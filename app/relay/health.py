"""How a lane fares: failures in a row, how long sends take, and what of that is worth writing down.

What follows from failures is breaker.py's; what from both for the slots of the process, slots.py's.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Final

from app.domain.configuration import Endpoint
from app.domain.delivery import Health, Lease, Settlement
from app.domain.verdict import consequence_of
from app.relay.breaker import Breaker, Cause, Doubt, Sign
from app.relay.slots import SlotClass

SLOW_SECONDS: Final = 1.0
FAILING: Final = 3
# Two, so that one that hangs does not hold up the next.
FIRST_SENDS: Final = 2
# How much the newest send counts in the average.
_NEWEST_SHARE: Final = 0.2
# An average is worth writing down when it doubled or halved; below this they are all the same.
_SMALLEST_SECONDS: Final = SLOW_SECONDS / 2
_MATERIAL: Final = 2.0
# That it still fails is worth a word so often.
STILL_FAILS_SECONDS: Final = 60.0


class LaneHealth:
    """One lane's, for as long as one lease lasts."""

    def __init__(self, lease: Lease, *, monotonic: Callable[[], float], doubt: Doubt | None = None) -> None:
        """Take how the lane fared when it was leased."""
        is_failing = lease.health.failures > 0
        self.breaker = Breaker(
            failures=lease.health.failures,
            failing_since=monotonic() - lease.failing_seconds if is_failing else None,
            is_on_trial=lease.is_on_trial,
            doubt=doubt,
        )
        self.latency_seconds = lease.health.latency_seconds
        self._written = lease.health
        self._written_at = -math.inf
        self._has_heard = False
        self._monotonic = monotonic
        self._started: dict[int, float] = {}
        self._ended = 0
        self._numbers = itertools.count()

    @property
    def slot_class(self) -> SlotClass:
        """Tell which of the process's slots the next send may have; one that hangs tells before it has ended."""
        if self.breaker.is_on_trial:
            return "probing"
        is_slow = self.latency_seconds > SLOW_SECONDS or self._longest_under_way() > SLOW_SECONDS
        return "slow" if is_slow or self.breaker.failures >= FAILING else "fast"

    def places(self, most: int) -> int:
        """Tell how many sends may be under way, of the endpoint's own limit.

        Each lease begins with few, and each that ends makes room for one more: lanes that hang from the start are known
        as slow before they have taken much.
        """
        return min(self.breaker.places(most), FIRST_SENDS + self._ended)

    def begin(self) -> int:
        """Note that a send starts; gives its number."""
        number = next(self._numbers)
        self._started[number] = self._monotonic()
        return number

    def end(self, number: int) -> None:
        """Note that a send ended."""
        self._ended += 1
        took = self._monotonic() - self._started.pop(number)
        self.latency_seconds += _NEWEST_SHARE * (took - self.latency_seconds)

    def hear(self, settlements: Sequence[Settlement], endpoint: Endpoint) -> None:
        """Take what came of a send."""
        now = self._monotonic()
        sign = sign_of(settlements, endpoint)
        self._has_heard |= sign != "none"
        asked = [each.outcome.retry_after_seconds for each in settlements if each.outcome]
        self.breaker.hear(
            sign,
            [_cause(each, endpoint) for each in settlements],
            most=endpoint.max_in_flight,
            now=now,
            asked_until=now + max((each for each in asked if each is not None), default=-math.inf),
        )

    def news(self) -> Health | None:
        """Give what is to be written down, once, where it changed enough, and now and then of a lane that fails.

        Nothing for a lane that goes on well, nor before a send said something: what is written is dated by then.
        """
        failures, before, now = self.breaker.failures, self._written, self._monotonic()
        ratio = max(self.latency_seconds, _SMALLEST_SECONDS) / max(before.latency_seconds, _SMALLEST_SECONDS)
        is_the_same = failures == before.failures and 1 / _MATERIAL < ratio < _MATERIAL
        still_fails = failures > 0 and now - self._written_at >= STILL_FAILS_SECONDS
        if not self._has_heard or (is_the_same and not still_fails):
            return None
        self._has_heard, self._written_at = False, now
        self._written = Health(failures=failures, latency_seconds=self.latency_seconds)
        return self._written

    def _longest_under_way(self) -> float:
        oldest = next(iter(self._started.values()), None)
        return 0.0 if oldest is None else self._monotonic() - oldest


def sign_of(settlements: Sequence[Settlement], endpoint: Endpoint) -> Sign:
    """Tell what a send says of its receiver: the best that any of its deliveries says."""
    signs = {_sign(each, endpoint) for each in settlements}
    ranks: tuple[Sign, ...] = ("well", "ill", "rejected")
    return next((sign for sign in ranks if sign in signs), "none")


def _cause(settlement: Settlement, endpoint: Endpoint) -> Cause:
    """Give what a failure may be laid to other than the receiver: the delivery, or its object where that keeps order.

    An object whose changes all fail shows them one after the other, and says no more of the receiver than the first.
    """
    owed = settlement.owed
    if endpoint.ordering == "key" and owed.order_key is not None:
        return "key", owed.order_key
    return "row", owed.row_id


def _sign(settlement: Settlement, endpoint: Endpoint) -> Sign:
    outcome = settlement.outcome
    if settlement.verdict.status == "delivered":
        return "well"
    if outcome is None or outcome.kind in ("too_large", "unsendable"):
        return "none"
    if outcome.kind == "address_refused":
        return "rejected"
    if outcome.kind == "answered" and consequence_of(outcome.status_code or 0, endpoint.answers) != "retry":
        return "rejected"
    return "ill"
