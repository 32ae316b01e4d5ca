"""The leases this replica holds, and until when it may trust each by its own clock. Working them off: lane.py."""

from collections.abc import Callable, Iterable
from typing import Final

import structlog

from app.domain.delivery import Lease
from app.domain.ids import LaneId, public_id
from app.telemetry import LEASES_LOST

# A lease is trusted a little shorter than the database holds it: clocks tick differently, and answers travel.
MARGIN_SECONDS: Final = 2.0
MARGIN_SHARE: Final = 0.2

_log = structlog.get_logger(__name__)


class Leases:
    """What this replica holds. A lease counts from the moment its call was sent, not from when it was answered."""

    def __init__(self, *, lease_seconds: float, monotonic: Callable[[], float]) -> None:
        """Take the span of a lease in seconds and the clock to trust it by."""
        self._span = lease_seconds - min(MARGIN_SECONDS, MARGIN_SHARE * lease_seconds)
        self._monotonic = monotonic
        self._held: dict[LaneId, Lease] = {}
        self._trusted_until: dict[LaneId, float] = {}

    def __len__(self) -> int:
        """Count them."""
        return len(self._held)

    def all(self) -> list[Lease]:
        """Give them."""
        return list(self._held.values())

    def keep(self, leases: Iterable[Lease], *, asked_at: float) -> None:
        """Trust what a call sent at `asked_at` claimed or renewed; a later claim on a lane ends the earlier one."""
        for lease in leases:
            known = self._held.get(lease.lane_id)
            if known is None or known.fence <= lease.fence:
                self._held[lease.lane_id] = lease
                self._trusted_until[lease.lane_id] = asked_at + self._span

    def drop(self, lease: Lease) -> None:
        """Forget one that was released."""
        if self.holds(lease):
            del self._held[lease.lane_id], self._trusted_until[lease.lane_id]

    def lose(self, lease: Lease) -> None:
        """Forget one that is another's by now, and say so: this replica stood still, or the database was away."""
        if self.holds(lease):
            self.drop(lease)
            LEASES_LOST.inc()
            _log.warning(
                "lease.lost",
                lane_id=lease.lane_id,
                endpoint_id=public_id("ep", lease.endpoint_id),
                fence=lease.fence,
            )

    def holds(self, lease: Lease) -> bool:
        """Tell whether it is still this replica's, as far as is known."""
        return self._held.get(lease.lane_id) == lease

    def is_trusted(self, lease: Lease) -> bool:
        """Tell whether a new attempt may start under it."""
        return self.holds(lease) and self._monotonic() < self._trusted_until[lease.lane_id]

    def trusted_seconds(self, lease: Lease) -> float:
        """Tell for how long it is trusted, unless it is prolonged."""
        return max(0.0, self._trusted_until[lease.lane_id] - self._monotonic()) if self.holds(lease) else 0.0
