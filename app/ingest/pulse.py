"""The pulse of each source in this process: how many events a second, how late, what waits in its queue.

Counted in memory, in nobody's way, and written down now and then; what cannot be written is dropped.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from statistics import median_low
from typing import Final

import structlog

from app.domain.errors import StoreError
from app.domain.ids import SourceId
from app.domain.message import Heard, QueueMeasure
from app.domain.ports import Now, PulseStore, Sleep
from app.domain.pulse import Pulse
from app.ingest.room import first_of

NOTE_SECONDS: Final = 5.0
# Readers hold what is older than 15 s for the word of a dead process.
KEEP_ALIVE_SECONDS: Final = 10.0
RATE_SECONDS: Final = 60.0
# A measure that nobody renewed for so long says nothing any more: its poller has ended, or cannot look.
QUEUE_SECONDS: Final = 60.0
LEAVING_SECONDS: Final = 1.0

# The minute, and the span that has only begun.
_SPANS: Final = int(RATE_SECONDS / NOTE_SECONDS) + 1

_log = structlog.get_logger(__name__)


class Pulses:
    """Counts for every source of the process, and writes down what changed."""

    def __init__(
        self,
        store: PulseStore,
        *,
        utc: Now,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the store; nothing is written before `run`."""
        self._store = store
        self._sleep = sleep
        self._clock = clock
        self._utc = utc
        self._counts: dict[SourceId, _Count] = {}
        self._was_written = True

    def heard(self, batch: Iterable[Heard]) -> None:
        """Count what was just committed."""
        times: dict[SourceId, list[datetime]] = {}
        for each in batch:
            if each.decoded.events:
                times.setdefault(each.source_id, []).extend(event.time for event in each.decoded.events)
        for source_id, happened in times.items():
            # An event's own time may be of a clock ahead of ours.
            lag_seconds = max(0.0, (self._utc() - median_low(happened)).total_seconds())
            self._count(source_id).add(len(happened), lag_seconds=lag_seconds, at=self._clock())

    def measured(self, source_id: SourceId, queue: QueueMeasure | None) -> None:
        """Take what waits in a source; None when nobody could look."""
        self._count(source_id).measure(queue, at=self._clock())

    async def run(self, stop: asyncio.Event) -> None:
        """Write down now and then until stopped, then take it out: what this process measured is over."""
        while not stop.is_set():
            await first_of(self._pause(), stop.wait())
            if not stop.is_set():
                await self._note_safely()
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(LEAVING_SECONDS):
                await self._store.leave()

    async def _pause(self) -> None:
        await self._sleep(NOTE_SECONDS)

    async def _note_safely(self) -> None:
        try:
            if pulses := self._take():
                await self._store.note(pulses)
        except StoreError as error:
            self._forget_noted()
            if self._was_written:
                _log.debug("pulse.dropped", error=str(error))
            self._was_written = False
        except Exception:  # noqa: BLE001 -- the loop's one; figures for people must end nothing
            self._forget_noted()
            _log.exception("pulse.unnoted")
        else:
            self._was_written = True

    def _take(self) -> Sequence[Pulse]:
        """Give what is to be written, in the order of the ids, and let go of sources that have gone quiet."""
        at = self._clock()
        pulses = []
        for source_id, count in sorted(self._counts.items()):
            pulse = count.pulse(source_id, at=at)
            if count.is_to_be_noted(pulse, at=at):
                count.noted, count.noted_at = pulse, at
                pulses.append(pulse)
            elif pulse.is_quiet:
                del self._counts[source_id]
        return pulses

    def _forget_noted(self) -> None:
        for count in self._counts.values():
            count.noted = None

    def _count(self, source_id: SourceId) -> "_Count":
        return self._counts.setdefault(source_id, _Count())


class _Count:
    """What was counted of one source, in spans of a few seconds, and what was written of it last."""

    def __init__(self) -> None:
        self._spans: deque[tuple[int, int]] = deque()
        self._lag_seconds: float | None = None
        self._queue: QueueMeasure | None = None
        self._queue_at = 0.0
        self.noted: Pulse | None = None
        self.noted_at = 0.0

    def add(self, events: int, *, lag_seconds: float, at: float) -> None:
        """Count events that were committed together."""
        span = _span(at)
        if self._spans and self._spans[-1][0] == span:
            events += self._spans.pop()[1]
        self._spans.append((span, events))
        self._lag_seconds = lag_seconds
        self._drop_old(at)

    def measure(self, queue: QueueMeasure | None, *, at: float) -> None:
        """Keep the newest measure of the queue."""
        self._queue, self._queue_at = queue, at

    def pulse(self, source_id: SourceId, *, at: float) -> Pulse:
        """Tell how the source fares; old counts and measures are dropped."""
        self._drop_old(at)
        if not self._spans:
            self._lag_seconds = None
        if at - self._queue_at > QUEUE_SECONDS:
            self._queue = None
        counted_seconds = RATE_SECONDS + at % NOTE_SECONDS
        return Pulse(
            source_id=source_id,
            events_per_second=sum(count for _, count in self._spans) / counted_seconds,
            lag_seconds=self._lag_seconds,
            queue=self._queue,
        )

    def is_to_be_noted(self, pulse: Pulse, *, at: float) -> bool:
        """Tell whether the table needs it: it changed, or would soon be held for old."""
        if pulse.is_quiet:
            return self.noted is not None and not self.noted.is_quiet
        return pulse != self.noted or at - self.noted_at >= KEEP_ALIVE_SECONDS

    def _drop_old(self, at: float) -> None:
        while self._spans and self._spans[0][0] <= _span(at) - _SPANS:
            self._spans.popleft()


def _span(at: float) -> int:
    return int(at // NOTE_SECONDS)
