"""One source: how many polls are under way and when the next begins. What becomes of what they bring: custody.py."""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from app.domain.configuration import Source
from app.domain.ids import SourceId, public_id
from app.domain.message import Message, QueueMeasure
from app.domain.ports import PullSource, Sleep
from app.ingest.custody import Custody, Record
from app.ingest.health import Health, Note
from app.ingest.room import Hold, Room, first_of
from app.telemetry import MESSAGES_HELD

# What one source may hold until it is acknowledged: a source whose deletes hang fills only this.
SOURCE_MESSAGES: Final = 1000
SOURCE_BYTES: Final = 32 * 1024 * 1024
FIRST_BACKOFF_SECONDS: Final = 0.5
LONGEST_BACKOFF_SECONDS: Final = 30.0
# An empty answer that came at once (a source that does not wait) is not asked again before this.
EMPTY_PAUSE_SECONDS: Final = 0.2
MEASURE_SECONDS: Final = 15.0

_log = structlog.get_logger(__name__)


OpenSource = Callable[[Source], PullSource]
Measured = Callable[[SourceId, QueueMeasure | None], None]
"""Take what waits in a source; None when it cannot be told any more."""


def _drop(_: SourceId, __: QueueMeasure | None) -> None:
    """Take a measure nobody asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all pollers of a process share. `room` bounds what is received and not yet recorded."""

    open_source: OpenSource
    record: Record
    note: Note
    room: Room
    measured: Measured = _drop
    sleep: Sleep = asyncio.sleep


class Poller:
    """Works one source off until stopped.

    One poll is always under way, the lead. Each poll that comes back full starts another beside it, up to what the
    source allows; those end with their first poll that is not full, fails, or finds no room.
    """

    def __init__(self, source: Source, around: Surroundings) -> None:
        """Take the source as it is set up; nothing is opened yet."""
        self.source = source
        self._around = around
        self._own_room = Room(max_messages=SOURCE_MESSAGES, max_bytes=SOURCE_BYTES)
        self._health = Health(source.id, note=around.note, sleep=around.sleep)
        self._custody = Custody(source, record=around.record, health=self._health, sleep=around.sleep)
        self._pull: PullSource | None = None
        self._polls: set[asyncio.Timeout] = set()
        self._beside = 0
        self._largest_poll_bytes = 0
        self._was_read = asyncio.Event()
        self._log = _log.bind(source_id=public_id("src", source.id))

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until stopped, then finish: polls under way end by themselves, what they bring is recorded and acked.

        They are not broken off, because a broken poll strands messages until their visibility ends, and handing them
        back would count as one more receive toward the dead-letter queue. Who has less time cancels.
        """
        try:
            async with asyncio.TaskGroup() as beside:
                tasks = [beside.create_task(self._health.run(stop)), beside.create_task(self._keep_measuring())]
                async with asyncio.TaskGroup() as working:
                    await self._lead(stop, working)
                for task in tasks:
                    task.cancel()
        finally:
            await self._close()

    def cut_short(self, within_seconds: float) -> None:
        """Break the polls under way off that have not ended by then; what is held is still finished."""
        until = asyncio.get_running_loop().time() + within_seconds
        for poll in self._polls:
            poll.reschedule(until)

    async def _lead(self, stop: asyncio.Event, working: asyncio.TaskGroup) -> None:
        failures = 0
        clock = asyncio.get_running_loop().time
        while await self._has_room(stop):
            began = clock()
            messages = await self._poll(stop, working)
            if messages is None:
                failures += 1
                await self._back_off(failures, stop)
                continue
            failures = 0
            if not messages and clock() - began < EMPTY_PAUSE_SECONDS:
                await first_of(self._pause(EMPTY_PAUSE_SECONDS), stop.wait())

    async def _follow(self, stop: asyncio.Event, working: asyncio.TaskGroup) -> None:
        """Poll beside the lead while polls come back full. The lead alone waits, backs off and pauses."""
        is_full = True
        try:
            while is_full and not stop.is_set() and self._crowded() is None:
                with self._expecting():
                    messages = await self._poll(stop, working)
                is_full = self._is_full(messages)
        finally:
            self._beside -= 1

    async def _poll(self, stop: asyncio.Event, working: asyncio.TaskGroup) -> Sequence[Message] | None:
        """Poll once and take on what comes; None when it failed."""
        messages = await self._health.attempt("receive", self._receive())
        if messages is not None:
            self._was_read.set()
        if messages and self._pull is not None:
            self._take_on(self._pull, messages, working)
            if self._is_full(messages) and self._beside + 1 < self._pull.max_polls and not stop.is_set():
                self._beside += 1
                working.create_task(self._follow(stop, working))
        return messages

    def _is_full(self, messages: Sequence[Message] | None) -> bool:
        return messages is not None and self._pull is not None and len(messages) >= self._pull.full_poll

    async def _has_room(self, stop: asyncio.Event) -> bool:
        """Wait until there is room for what a poll may bring; False once stopped."""
        while not stop.is_set():
            crowded = self._crowded()
            if crowded is None:
                return True
            await first_of(crowded.free(), stop.wait())
        return False

    def _crowded(self) -> Room | None:
        return next((room for room in (self._own_room, self._around.room) if not room.is_free), None)

    @contextmanager
    def _expecting(self) -> Iterator[None]:
        """Count what a poll may bring before it comes, or many polls at once would overrun the rooms by as much.

        The lead does without: a source that is idle must not take room from the others.
        """
        messages = self._pull.full_poll if self._pull is not None else 0
        with ExitStack() as expected:
            for room in (self._own_room, self._around.room):
                expected.callback(Hold(room, messages, self._largest_poll_bytes).release)
            yield

    async def _receive(self) -> Sequence[Message]:
        if self._pull is None:
            self._pull = self._around.open_source(self.source)
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._polls.add(limit)
                return await self._pull.receive()
        except TimeoutError:
            # Only cut_short sets a limit.
            return ()
        finally:
            self._polls.discard(limit)

    async def _back_off(self, failures: int, stop: asyncio.Event) -> None:
        if self._own_room.is_empty:
            # Opened anew for the next try: credentials and names are then looked up afresh.
            await self._close()
        longest = min(FIRST_BACKOFF_SECONDS * 2 ** min(failures - 1, 16), LONGEST_BACKOFF_SECONDS)
        await first_of(self._pause(longest * random.uniform(0.5, 1)), stop.wait())  # noqa: S311 -- jitter, no secret

    def _take_on(self, pull: PullSource, messages: Sequence[Message], working: asyncio.TaskGroup) -> None:
        """Count received messages at once, so that the next poll knows of them, and start seeing them through."""
        unrecorded, held = self._around.room.hold(messages), self._own_room.hold(messages)
        self._largest_poll_bytes = max(self._largest_poll_bytes, sum(len(each.body) for each in messages))
        MESSAGES_HELD.inc(len(messages))

        def let_go(_: "asyncio.Task[None]") -> None:
            unrecorded.release()
            held.release()
            MESSAGES_HELD.dec(len(messages))

        working.create_task(self._custody.see_through(pull, messages, unrecorded)).add_done_callback(let_go)

    async def _keep_measuring(self) -> None:
        """Measure what waits in the source, once it was read and then again and again. Cancel to end."""
        await self._was_read.wait()
        said = ""
        while True:
            measure: QueueMeasure | None = None
            try:
                if self._pull is not None:
                    measure = await self._pull.measure()
                said = ""
            except Exception as error:  # noqa: BLE001 -- what cannot be measured can still be read; each is said once
                if str(error) != said:
                    self._log.warning("source.unmeasured", error=str(error))
                said = str(error)
            self._around.measured(self.source.id, measure)
            await self._pause(MEASURE_SECONDS)

    async def _pause(self, seconds: float) -> None:
        await self._around.sleep(seconds)

    async def _close(self) -> None:
        pull, self._pull = self._pull, None
        if pull is not None:
            await pull.aclose()
