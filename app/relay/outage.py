"""How the relay lives through a database that is away: a line when it goes, one when it is back, waits in between."""

from collections.abc import Callable
from typing import Final

import structlog

from app.domain.errors import StoreUnavailable
from app.domain.ports import Sleep

WAITS_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0)

_log = structlog.get_logger(__name__)


class Outage:
    """What all loops of the process see of the database together, so that a thousand lanes log one outage once."""

    def __init__(self, *, sleep: Sleep, monotonic: Callable[[], float]) -> None:
        """Take how to wait and the clock that tells how long it lasted."""
        self._sleep = sleep
        self._monotonic = monotonic
        self._since: float | None = None

    async def wait(self, seconds: float) -> None:
        """Wait before the next try."""
        await self._sleep(seconds)

    def begin(self, error: StoreUnavailable, *, part: str) -> None:
        """Hear from a loop that the database did not answer."""
        if self._since is None:
            self._since = self._monotonic()
            _log.warning("store.lost", part=part, error=str(error))

    def end(self) -> None:
        """Hear from a loop that had failed that the database answers it."""
        if self._since is not None:
            _log.info("store.recovered", seconds=round(self._monotonic() - self._since, 3))
            self._since = None


class Retry:
    """One loop's tries against the database."""

    def __init__(self, outage: Outage, *, part: str, longest_seconds: float = WAITS_SECONDS[-1]) -> None:
        """Take the outage it shares with the other loops, the loop's name for the log, and its longest wait."""
        self._outage = outage
        self._part = part
        self._longest_seconds = longest_seconds
        self._tries = 0

    async def pause(self, error: Exception | None = None) -> None:
        """Wait before the next try, longer the more there were; what is no outage is logged by whoever met it."""
        if isinstance(error, StoreUnavailable):
            self._outage.begin(error, part=self._part)
        wait = WAITS_SECONDS[min(self._tries, len(WAITS_SECONDS) - 1)]
        self._tries += 1
        await self._outage.wait(min(wait, self._longest_seconds))

    def succeeded(self) -> None:
        """Say that a try went well: the next failure is the first again."""
        if self._tries:
            self._tries = 0
            self._outage.end()
