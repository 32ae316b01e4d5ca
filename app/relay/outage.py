"""How a loop lives through a database that is away: a line when it goes and when it comes back, waits between tries."""

from typing import Final

import structlog

from app.domain.ports import Sleep

WAITS_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0)

_log = structlog.get_logger(__name__)


class Outage:
    """One loop's view of the outage."""

    def __init__(self, name: str, *, sleep: Sleep) -> None:
        """Take the name under which it is logged."""
        self._name = name
        self._sleep = sleep
        self._tries = 0

    async def pause(self, error: Exception | None) -> None:
        """Wait before the next try; the first one is logged."""
        if self._tries == 0 and error is not None:
            _log.warning(self._name, error=str(error))
        wait = WAITS_SECONDS[min(self._tries, len(WAITS_SECONDS) - 1)]
        self._tries += 1
        await self._sleep(wait)

    def end(self) -> None:
        """Say that it works; logged when it did not before."""
        if self._tries:
            _log.info(f"{self._name}.over", tries=self._tries)
        self._tries = 0
