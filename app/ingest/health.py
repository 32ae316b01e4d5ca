"""How a source fares, as people see it: written down only when it changes, beside the polls and never in their way."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeVar

import structlog

from app.domain.configuration import SourceState
from app.domain.errors import SourceError, StoreUnavailable
from app.domain.ids import SourceId, public_id
from app.domain.ports import Sleep

Call = Literal["receive", "acknowledge", "extend"]
Note = Callable[[SourceId, SourceState, str | None], Awaitable[None]]

RETRY_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


class Health:
    """The troubles of one source, by the call that has them; it fares well when it was read and there are none."""

    def __init__(self, source_id: SourceId, *, note: Note, sleep: Sleep) -> None:
        """Start without knowing; nothing is written before `run`."""
        self._source_id = source_id
        self._note = note
        self._sleep = sleep
        self._troubles: dict[Call, str] = {}
        self._was_read = False
        self._state: tuple[SourceState, str | None] | None = None
        self._changed = asyncio.Event()
        self._log = _log.bind(source_id=public_id("src", source_id))

    async def attempt(self, call: Call, work: Awaitable[_T]) -> _T | None:
        """Await a call of the source and remember how it went; None when it failed, whatever the reason."""
        try:
            result = await work
        except Exception as error:  # noqa: BLE001 -- the one place where a source's bugs end; they are logged
            self.failed(call, error)
            return None
        self.worked(call)
        return result

    def worked(self, call: Call) -> None:
        """Remember that a call of the source went well."""
        self._was_read |= call == "receive"
        self._troubles.pop(call, None)
        self._settle()

    def failed(self, call: Call, error: Exception) -> None:
        """Remember that a call of the source failed; what is not a SourceError is a bug, and logged as one."""
        if isinstance(error, SourceError):
            self._troubles[call] = str(error)
        else:
            self._log.error("source.broken", call=call, exc_info=error)
            self._troubles[call] = f"{type(error).__name__}: {error}"
        self._settle()

    def forget(self, call: Call) -> None:
        """Drop the trouble of a call that has nothing left to do, and so cannot succeed by itself any more."""
        if self._troubles.pop(call, None) is not None:
            self._settle()

    async def run(self, stop: asyncio.Event) -> None:
        """Write down each change until stopped: from then on a successor may speak for the source. Cancel to end."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._state is None or stop.is_set():
                continue
            try:
                await self._note(self._source_id, *self._state)
            except StoreUnavailable:
                await self._sleep(RETRY_SECONDS)
                self._changed.set()
            except Exception as error:  # noqa: BLE001 -- a state that cannot be written must not end the source
                self._log.error("source.unnoted", exc_info=error)

    def _settle(self) -> None:
        error = next(iter(self._troubles.values()), None)
        if error is None and not self._was_read:
            return
        state: tuple[SourceState, str | None] = ("ok", None) if error is None else ("failing", error)
        if state == self._state:
            return
        if error is None:
            self._log.info("source.read")
        else:
            self._log.warning("source.failed", error=error)
        self._state = state
        self._changed.set()
