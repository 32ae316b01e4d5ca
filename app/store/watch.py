"""The set-up as this process knows it: a snapshot, kept fresh by looking at the epoch."""

import asyncio
from typing import Final

import structlog

from app.domain.configuration import Configuration
from app.domain.errors import StoreUnavailable
from app.domain.ports import ConfigurationStore

# Running pollers and relays follow a change within 2 s.
LOOK_SECONDS: Final = 0.5

_log = structlog.get_logger(__name__)


class ConfigurationWatch:
    """Holds the newest snapshot; one for the whole process."""

    def __init__(self, store: ConfigurationStore) -> None:
        """Take the store; `refresh` must have run once before `current`."""
        self._store = store
        self._current: Configuration | None = None
        self._looking = asyncio.Lock()
        self._hint = asyncio.Event()

    def current(self) -> Configuration:
        """Give the newest snapshot."""
        if self._current is None:
            raise RuntimeError("The configuration was asked for before it was read.")
        return self._current

    def hint(self) -> None:
        """Say that something was changed in this process, so that the next look comes at once."""
        self._hint.set()

    async def refresh(self) -> Configuration:
        """Read the snapshot anew if the epoch moved. Raises StoreUnavailable."""
        async with self._looking:
            if self._current is None or await self._store.epoch() != self._current.epoch:
                self._current = await self._store.load()
            return self._current

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the snapshot fresh until stopped; while the database is away the last one holds."""
        while not stop.is_set():
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._hint.wait()
            except TimeoutError:
                pass
            self._hint.clear()
            try:
                await self.refresh()
            except StoreUnavailable as error:
                _log.debug("configuration.unread", error=str(error))
