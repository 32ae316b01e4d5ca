"""One source: receive, have recorded, acknowledge. Nothing is acknowledged that is not committed."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from app.domain.configuration import Source
from app.domain.errors import StoreError
from app.domain.ids import public_id
from app.domain.message import Message
from app.domain.ports import PullSource, Sleep
from app.ingest.health import Health, Note
from app.ingest.room import Hold, Room, first_of
from app.telemetry import MESSAGES_HELD

# What one source may hold until it is acknowledged: a source whose deletes hang fills only this.
SOURCE_MESSAGES: Final = 1000
SOURCE_BYTES: Final = 32 * 1024 * 1024
FIRST_BACKOFF_SECONDS: Final = 0.5
LONGEST_BACKOFF_SECONDS: Final = 30.0
ACK_PAUSES_SECONDS: Final = (0.2, 1.0, 3.0)
# An empty answer that came at once (a source that does not wait) is not asked again before this.
EMPTY_PAUSE_SECONDS: Final = 0.2

_log = structlog.get_logger(__name__)


OpenSource = Callable[[Source], PullSource]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all pollers of a process share. `room` bounds what is received and not yet recorded."""

    open_source: OpenSource
    record: Callable[[Source, Sequence[Message]], Awaitable[None]]
    note: Note
    room: Room
    sleep: Sleep = asyncio.sleep


class Poller:
    """Works one source off until stopped."""

    def __init__(self, source: Source, around: Surroundings) -> None:
        """Take the source as it is set up; nothing is opened yet."""
        self.source = source
        self._around = around
        self._own_room = Room(max_messages=SOURCE_MESSAGES, max_bytes=SOURCE_BYTES)
        self._health = Health(source.id, note=around.note, sleep=around.sleep)
        self._pull: PullSource | None = None
        self._polling: asyncio.Timeout | None = None
        self._log = _log.bind(source_id=public_id("src", source.id))

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until stopped, then finish: the poll under way ends by itself, what it brings is recorded and acked.

        It is not broken off, because a broken poll strands messages until their visibility ends, and handing them
        back would count as one more receive toward the dead-letter queue. Who has less time cancels.
        """
        try:
            async with asyncio.TaskGroup() as noting:
                writing = noting.create_task(self._health.run(stop))
                async with asyncio.TaskGroup() as handling:
                    await self._poll(stop, handling)
                writing.cancel()
        finally:
            await self._close()

    def cut_short(self, within_seconds: float) -> None:
        """Break the poll under way off when it has not ended by then; what is held is still finished."""
        if self._polling is not None:
            self._polling.reschedule(asyncio.get_running_loop().time() + within_seconds)

    async def _poll(self, stop: asyncio.Event, handling: asyncio.TaskGroup) -> None:
        failures = 0
        clock = asyncio.get_running_loop().time
        while await self._has_room(stop):
            began = clock()
            messages = await self._health.attempt("receive", self._receive())
            if messages is None:
                failures += 1
                await self._back_off(failures, stop)
                continue
            failures = 0
            if messages and self._pull is not None:
                self._take_on(self._pull, messages, handling)
            elif clock() - began < EMPTY_PAUSE_SECONDS:
                await first_of(self._pause(EMPTY_PAUSE_SECONDS), stop.wait())

    async def _has_room(self, stop: asyncio.Event) -> bool:
        """Wait until there is room for what a poll may bring; False once stopped."""
        while not stop.is_set():
            crowded = next((room for room in (self._own_room, self._around.room) if not room.is_free), None)
            if crowded is None:
                return True
            await first_of(crowded.free(), stop.wait())
        return False

    async def _receive(self) -> Sequence[Message]:
        if self._pull is None:
            self._pull = self._around.open_source(self.source)
        try:
            async with asyncio.timeout(None) as self._polling:
                return await self._pull.receive()
        except TimeoutError:
            # Only cut_short sets a limit.
            return ()
        finally:
            self._polling = None

    async def _back_off(self, failures: int, stop: asyncio.Event) -> None:
        if self._own_room.is_empty:
            # Opened anew for the next try: credentials and names are then looked up afresh.
            await self._close()
        longest = min(FIRST_BACKOFF_SECONDS * 2 ** min(failures - 1, 16), LONGEST_BACKOFF_SECONDS)
        await first_of(self._pause(longest * random.uniform(0.5, 1)), stop.wait())  # noqa: S311 -- jitter, no secret

    def _take_on(self, pull: PullSource, messages: Sequence[Message], handling: asyncio.TaskGroup) -> None:
        """Count received messages at once, so that the next poll knows of them, and start seeing them through."""
        unrecorded, held = self._around.room.hold(messages), self._own_room.hold(messages)
        MESSAGES_HELD.inc(len(messages))

        def let_go(_: "asyncio.Task[None]") -> None:
            unrecorded.release()
            held.release()
            MESSAGES_HELD.dec(len(messages))

        handling.create_task(self._handle(pull, messages, unrecorded)).add_done_callback(let_go)

    async def _handle(self, pull: PullSource, messages: Sequence[Message], unrecorded: Hold) -> None:
        """See messages through: hidden until they are recorded and acknowledged, or left to come again."""
        async with asyncio.TaskGroup() as hiding:
            keeping = hiding.create_task(self._keep_hidden(pull, messages))
            try:
                await self._around.record(self.source, messages)
            except StoreError as error:
                self._log.error("message.unrecorded", messages=len(messages), error=str(error))
            else:
                unrecorded.release()
                await self._acknowledge(pull, messages)
            keeping.cancel()
            self._health.forget("extend")

    async def _acknowledge(self, pull: PullSource, messages: Sequence[Message]) -> None:
        left = messages
        for pause in (*ACK_PAUSES_SECONDS, None):
            refused = await self._health.attempt("acknowledge", pull.ack(left))
            left = left if refused is None else refused
            if not left:
                return
            if pause is not None:
                await self._pause(pause)
        self._log.warning("message.unacknowledged", messages=len(left), advice="They come again, as duplicates.")

    async def _keep_hidden(self, pull: PullSource, messages: Sequence[Message]) -> None:
        while True:
            await self._pause(pull.visibility_seconds / 3)
            await self._health.attempt("extend", pull.extend(messages))

    async def _pause(self, seconds: float) -> None:
        await self._around.sleep(seconds)

    async def _close(self) -> None:
        pull, self._pull = self._pull, None
        if pull is not None:
            await pull.aclose()
