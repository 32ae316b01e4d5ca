"""What time it is by the database's clock, for what cannot ask it each time: signatures, and others' dates.

The database is asked now and then and its answer carried on by the monotonic clock, so a machine whose clock is wrong,
or is set while we run, signs with the right time all the same. How far off that machine is, is said aloud.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog
from sqlalchemy import select

from app.domain.errors import StoreUnavailable
from app.store.columns import now
from app.store.database import Database
from app.telemetry import CLOCK_SKEW

READ_SECONDS: Final = 5.0
# Receivers refuse what is minutes off; AWS too. Short of that somebody should hear of it.
SKEW_SECONDS: Final = 5.0

_log = structlog.get_logger(__name__)


class DatabaseClock:
    """One for the process; this machine's clock until the database was asked for the first time."""

    def __init__(
        self,
        database: Database,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        machine: Callable[[], float] = time.time,
    ) -> None:
        """Take the database, and this machine's two clocks."""
        self._database = database
        self._monotonic = monotonic
        self._machine = machine
        self._ahead_of_monotonic: float | None = None
        self._is_skewed = False

    def now(self) -> datetime:
        """Tell the time."""
        if self._ahead_of_monotonic is None:
            return datetime.fromtimestamp(self._machine(), UTC)
        return datetime.fromtimestamp(self._monotonic() + self._ahead_of_monotonic, UTC)

    async def read(self) -> None:
        """Ask the database. Raises StoreUnavailable."""
        async with self._database.read() as connection:
            asked_at = self._monotonic()
            told: datetime = (await connection.execute(select(now()))).scalar_one()
            answered_at = self._monotonic()
        # Off by half of the call's time at most.
        self._ahead_of_monotonic = told.timestamp() - (asked_at + answered_at) / 2
        self._compare()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep it right until stopped; while the database is away it is carried on."""
        while not stop.is_set():
            try:
                async with asyncio.timeout(READ_SECONDS):
                    await stop.wait()
            except TimeoutError:
                pass
            else:
                return
            try:
                await self.read()
            except StoreUnavailable as error:
                _log.debug("clock.unread", error=str(error))
            except Exception:  # noqa: BLE001 -- the one of this loop, which logs and goes on
                _log.exception("clock.unread")

    def _compare(self) -> None:
        skew = self._machine() - self.now().timestamp()
        CLOCK_SKEW.set(skew)
        was_skewed, self._is_skewed = self._is_skewed, abs(skew) > SKEW_SECONDS
        if self._is_skewed and not was_skewed:
            _log.error(
                "clock.skewed",
                seconds=round(skew, 1),
                advice="This machine's clock or the database's is wrong; signatures go by the database's.",
            )
        elif was_skewed and not self._is_skewed:
            _log.info("clock.agrees", seconds=round(skew, 1))
