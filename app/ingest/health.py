"""How a source fares, as people see it: written down only when it changes, beside the polls and never in their way."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Literal

import structlog

from app.domain.configuration import SourceState
from app.domain.errors import StoreUnavailable
from app.domain.ids import SourceId, public_id
from app.domain.ports import Sleep

Call = Literal["receive", "acknowledge", "extend"]
Note = Callable[[SourceId, SourceState, str | None], Awaitable[None]]

RETRY_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


class Health:
    """The troubles of one source, by the call that has them; it fares well when there are none."""

    def __init__(self, source_id: SourceId, *, note: Note, stop: asyncio.Event, sleep: Sleep) -> None:
        """Start without knowing; once `stop` is set nothing is noted, since a successor may be at work."""
        self._source_id = source_id
        self._note = note
        self._stop = stop
        self._sleep = sleep
        self._troubles: dict[Call, str] = {}
        self._state: tuple[SourceState, str | None] | None = None
        self._changed = asyncio.Event()

    def well(self, call: Call) -> None:
        """A call succeeded."""
        self._troubles.pop(call, None)
        # A delete that works says little of a source that was never read.
        if call == "receive" or self._state is not None:
            self._settle()

    def trouble(self, call: Call, error: str) -> None:
        """A call failed."""
        self._troubles[call] = error
        self._settle()

    def _settle(self) -> None:
        error = next(iter(self._troubles.values()), None)
        state: tuple[SourceState, str | None] = ("ok", None) if error is None else ("failing", error)
        if state == self._state or self._stop.is_set():
            return
        self._state = state
        self._changed.set()
        if error is not None:
            _log.warning("source.failed", source_id=public_id("src", self._source_id), error=error)
        else:
            _log.info("source.recovered", source_id=public_id("src", self._source_id))

    async def run(self) -> None:
        """Write down each change; its owner cancels it."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            state = self._state
            if state is None or self._stop.is_set():
                continue
            try:
                await self._note(self._source_id, *state)
            except StoreUnavailable:
                await self._sleep(RETRY_SECONDS)
                self._changed.set()
            except Exception:
                _log.exception("source.unnoted", source_id=public_id("src", self._source_id))
