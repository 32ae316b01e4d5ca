"""Group commit: messages that arrive while one transaction runs make up the next. On refusals: bisection.py."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from app.domain.configuration import Source
from app.domain.errors import StoreError, StoreUnavailable
from app.domain.ids import public_id
from app.domain.message import Decoded, Heard, Message, Recorded, Refusal
from app.domain.ports import EventStore, Sleep, Wake
from app.ingest.bisection import record_good
from app.ingest.room import first_of
from app.telemetry import EVENTS

BATCH_MESSAGES: Final = 500
BATCH_BYTES: Final = 8 * 1024 * 1024
# Decoding gives way to the rest of the process after this long.
DECODING_SECONDS: Final = 0.005
FIRST_PAUSE_SECONDS: Final = 0.1
# A commit then comes within a second of the database, so that what waited is delivered within two.
LONGEST_PAUSE_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


Count = Callable[[Sequence[Heard]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Handed:
    """What one call handed in, message by message; the commit resolves `done` with those it left out."""

    messages: Sequence[Message]
    heard: Sequence[Heard]
    size: int
    done: asyncio.Future[Sequence[Message]]


class Recorder:
    """The one way of this process into the event store, shared by all pollers."""

    def __init__(
        self,
        *,
        store: EventStore,
        decode: Callable[..., Decoded],
        wake: Wake,
        count: Count = lambda _: None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Take the parts; `decode(body, *, tenant_id, profile)` never raises; nothing is recorded before `run`.

        `count` is told what was committed, known events too.
        """
        self._store = store
        self._decode = decode
        self._wake = wake
        self._count = count
        self._sleep = sleep
        self._waiting: deque[_Handed] = deque()
        self._arrived = asyncio.Event()
        self._has_ended = False

    async def record(self, source: Source, messages: Sequence[Message]) -> Sequence[Message]:
        """Give the messages that were NOT recorded, once what all others said is committed; nearly always none.

        Those given back the database takes in no form, not even quarantined. They must not be acknowledged; all
        others may be. A message that cannot be decoded is quarantined, and so recorded. While the database is away
        this waits. Raises StoreUnavailable when `run` ended first or failed: then no message may be acknowledged,
        though some may have been recorded, and recording them again is safe. Cancelled: likewise.
        """
        heard = await self._hear(source, messages)
        if self._has_ended:
            raise StoreUnavailable("Recording has ended.")
        done: asyncio.Future[Sequence[Message]] = asyncio.get_running_loop().create_future()
        size = sum(len(message.body) for message in messages)
        self._waiting.append(_Handed(messages=messages, heard=heard, size=size, done=done))
        self._arrived.set()
        return await done

    async def run(self, stop: asyncio.Event) -> None:
        """Record what is handed in, until stopped and nothing waits any more."""
        batch: list[_Handed] = []
        try:
            while self._waiting or not stop.is_set():
                if not self._waiting:
                    self._arrived.clear()
                    await first_of(self._arrived.wait(), stop.wait())
                    continue
                batch = self._take()
                try:
                    await self._record([each for handed in batch for each in handed.heard], batch)
                except Exception as error:  # noqa: BLE001 -- the loop's one; what it had in hand is left unacknowledged
                    _log.error("event.unrecorded", exc_info=error)
                    for handed in batch:
                        _fail(handed, StoreUnavailable(f"Not recorded: {error}"))
        finally:
            self._has_ended = True
            for handed in (*batch, *self._waiting):
                _fail(handed, StoreUnavailable("The process stopped before this was recorded."))
            self._waiting.clear()

    async def _hear(self, source: Source, messages: Sequence[Message]) -> list[Heard]:
        heard: list[Heard] = []
        since = time.monotonic()
        for message in messages:
            decoded = self._decoded(message.body, source)
            heard.append(Heard(source_id=source.id, tenant_id=source.tenant_id, decoded=decoded))
            if time.monotonic() - since > DECODING_SECONDS:
                await asyncio.sleep(0)
                since = time.monotonic()
        return heard

    def _decoded(self, body: bytes, source: Source) -> Decoded:
        try:
            return self._decode(body, tenant_id=source.tenant_id, profile=source.profile)
        except Exception as error:  # noqa: BLE001 -- a bug: in the queue the message would come again for ever
            _log.error("message.undecodable", exc_info=error)
            return Decoded(refusals=(Refusal(reason=f"Decoding failed: {type(error).__name__}.", raw=body),))

    def _take(self) -> list[_Handed]:
        taken: list[_Handed] = []
        messages = size = 0
        while self._waiting:
            messages += len(self._waiting[0].heard)
            size += self._waiting[0].size
            if taken and (messages > BATCH_MESSAGES or size > BATCH_BYTES):
                break
            handed = self._waiting.popleft()
            if not handed.done.done():  # its poller was cancelled: the messages come again
                taken.append(handed)
        return taken

    async def _record(self, heard: Sequence[Heard], batch: Sequence[_Handed]) -> None:
        if not heard:
            return
        started = time.monotonic()
        recorded, hopeless = await record_good(self._record_patiently, heard)
        refused = {id(each) for each, _ in hopeless}
        for handed in batch:
            left = [message for message, each in zip(handed.messages, handed.heard, strict=True) if id(each) in refused]
            _resolve(handed, left)
        for each, error in hopeless:
            _log.error("message.refused", source_id=public_id("src", each.source_id), error=str(error))
        self._count([each for each in heard if id(each) not in refused])
        self._tell(recorded, messages=len(heard), refused=len(hopeless), seconds=time.monotonic() - started)

    async def _record_patiently(self, batch: Sequence[Heard]) -> Recorded:
        """Record, and while the database is away try again: recording twice is safe, giving up is not."""
        tries = 0
        while True:
            try:
                recorded = await self._store.record(batch)
            except StoreUnavailable as error:
                tries += 1
                if tries == 1:
                    _log.warning("event.held", messages=len(batch), error=str(error))
                pause = min(FIRST_PAUSE_SECONDS * 2 ** min(tries - 1, 10), LONGEST_PAUSE_SECONDS)
                await self._sleep(pause * random.uniform(0.5, 1))  # noqa: S311 -- jitter, no secret
            else:
                if tries:
                    _log.info("event.released", messages=len(batch), tries=tries)
                return recorded

    def _tell(self, recorded: Recorded, *, messages: int, refused: int, seconds: float) -> None:
        EVENTS.labels("recorded").inc(recorded.events)
        EVENTS.labels("duplicate").inc(recorded.duplicates)
        EVENTS.labels("quarantined").inc(recorded.quarantined)
        self._wake(recorded.lanes)
        _log.info(
            "event.recorded",
            messages=messages,
            events=recorded.events,
            duplicates=recorded.duplicates,
            deliveries=recorded.deliveries,
            quarantined=recorded.quarantined,
            refused=refused,
            lanes=len(recorded.lanes),
            milliseconds=round(seconds * 1000, 1),
        )


def _resolve(handed: _Handed, left: Sequence[Message]) -> None:
    if not handed.done.done():
        handed.done.set_result(left)


def _fail(handed: _Handed, error: StoreError) -> None:
    if not handed.done.done():
        handed.done.set_exception(error)
