"""What is pushed to us, from its headers to its commit.

The HTTP of it is in api/ingest.py, whose it is in recognition.py, and one source at work in opened.py.
"""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import structlog

from app.domain.configuration import Configuration, Source
from app.domain.errors import Forged, PushRefused, SourceError, StoreUnavailable
from app.domain.ids import SourceId, public_id
from app.domain.message import Message, Pushed, Road, Token
from app.domain.ports import Sleep
from app.ingest.custody import Record
from app.ingest.health import Note
from app.ingest.opened import Opened, OpenPush
from app.ingest.recognition import Recognition, RoadOf
from app.ingest.room import Hold, Room, first_of
from app.telemetry import MESSAGES_HELD, PUSHES

PushResult = Literal["recorded", "unknown", "unauthorized", "forged", "paused", "busy", "late", "troubled", "closed"]
"""What became of a push. Only `recorded` may be answered with success; from `paused` on the sender should try again."""

# Senders give up after 3 s (versitygw) to 30 s; what is recorded after that comes again, as a duplicate.
ANSWER_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.25
# On all other roads a message may vouch for itself; here nobody's body is read without the token.
_TOKEN_ROADS: Final[frozenset[Road]] = frozenset({"s3"})
# A body of unknown length takes room in these steps.
_STEP_BYTES: Final = 64 * 1024

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arriving:
    """A push of which the body is still to come: names of headers in lower case, every token it brought."""

    headers: Mapping[str, str]
    tokens: Sequence[str]
    announced_bytes: int
    chunks: AsyncIterable[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class PushSurroundings:
    """What pushes need of the process. `room` bounds what is held and not yet recorded, pulled messages included.

    `configuration` gives the newest snapshot, the same object while nothing changed; `refresh` reads it anew.
    """

    road_of: RoadOf
    open_push: OpenPush
    record: Record
    note: Note
    room: Room
    configuration: Callable[[], Configuration]
    refresh: Callable[[], Awaitable[Configuration]]
    answer_seconds: float = ANSWER_SECONDS
    sleep: Sleep = asyncio.sleep


class Pushes:
    """Takes what is pushed while it runs."""

    def __init__(self, around: PushSurroundings) -> None:
        """Take what is around; nothing is taken before `run`."""
        self._around = around
        self._recognition = Recognition(
            road_of=around.road_of, configuration=around.configuration, refresh=around.refresh
        )
        self._opened: dict[SourceId, Opened] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._is_open = False

    @property
    def is_open(self) -> bool:
        """Tell whether pushes are taken."""
        return self._is_open

    async def run(self, stop: asyncio.Event) -> None:
        """Take pushes until stopped, then see through those under way. The caller bounds it by cancelling."""
        seen: Configuration | None = None
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._is_open = True
                while not stop.is_set():
                    seen = self._align(seen)
                    await first_of(stop.wait(), self._pause())
                self._is_open = False
                self._retire(list(self._opened))
        finally:
            self._is_open = False

    async def find(self, road: Road, source_id: SourceId) -> Source | None:
        """Give the source that a path names, if it lives and comes by this road. Raises StoreUnavailable."""
        source, _ = await self._recognition.recognise(road, source_id, ())
        return source

    async def take(self, road: Road, source_id: SourceId, arriving: Arriving) -> PushResult:
        """Have a push vouched for and recorded, and tell what became of it, within `answer_seconds`.

        `recorded` is said after the commit. Raises StoreUnavailable when it cannot tell whose push it is, and what
        reading the body raises. Cancelled: it may or may not be recorded.
        """
        try:
            async with asyncio.timeout(self._around.answer_seconds):
                result = await self._take(road, source_id, arriving)
        except TimeoutError:
            result = "late"
        PUSHES.labels(road, result).inc()
        if result not in ("recorded", "unknown"):
            _log.info("push.refused", road=road, source_id=public_id("src", source_id), result=result)
        return result

    async def _take(self, road: Road, source_id: SourceId, arriving: Arriving) -> PushResult:
        source, token = await self._recognition.recognise(road, source_id, arriving.tokens)
        if source is None:
            return "unknown"
        opened = self._admit(road, source, token)
        if not isinstance(opened, Opened):
            return opened
        with ExitStack() as held:
            held.enter_context(opened.visit())
            body = await self._read(arriving, opened, held)
            if body is None:
                return "busy"
            message = await self._vouch(source, opened, Pushed(headers=arriving.headers, body=body, token=token))
            if not isinstance(message, Message):
                return message
            return await self._record(source, message, held.pop_all())

    def _admit(self, road: Road, source: Source, token: Token) -> Opened | PushResult:
        """Say no to what can be told without the body, and else give the source at work."""
        if not self._is_open:
            return "closed"
        if road in _TOKEN_ROADS and token != "right":  # noqa: S105 -- no token, but what is said of one
            return "unauthorized"
        if source.is_paused:
            return "paused"
        return self._at_work(source) or "closed"

    async def _vouch(self, source: Source, opened: Opened, pushed: Pushed) -> Message | PushResult:
        try:
            message = await opened.vouch(pushed)
        except Forged as forged:
            _log.warning("push.forged", source_id=public_id("src", source.id), reason=str(forged))
            return "forged"
        except PushRefused:
            return "unauthorized"
        except SourceError:
            return "troubled"
        return "recorded" if message is None else message

    async def _read(self, arriving: Arriving, opened: Opened, held: ExitStack) -> bytes | None:
        """Read a body into room that is taken beforehand; None when there is none."""
        rooms = (self._around.room, opened.room)
        if not all(room.is_free for room in rooms):
            return None
        taken = arriving.announced_bytes
        held.callback(Hold(opened.room, 1, taken).release)
        body = bytearray()
        async for chunk in arriving.chunks:
            body += chunk
            while len(body) > taken:
                if not all(room.is_free for room in rooms):
                    return None
                held.callback(Hold(opened.room, 0, _STEP_BYTES).release)
                taken += _STEP_BYTES
        return bytes(body)

    async def _record(self, source: Source, message: Message, held: ExitStack) -> PushResult:
        """Hand a message in and wait for its commit.

        Who gives up waiting leaves it behind in the recorder, where it is recorded when the database is back; until
        then it takes its room, so that an outage fills no memory.
        """
        held.callback(self._around.room.hold([message]).release)
        MESSAGES_HELD.inc()
        held.callback(MESSAGES_HELD.dec)
        recording = self._start(self._hand_in(source, message))
        if recording is None:
            held.close()
            return "closed"
        recording.add_done_callback(lambda _: held.close())
        # Neither the sender's going nor the end of its time cancels the recording.
        await asyncio.wait((recording,))
        return "closed" if recording.cancelled() else recording.result()

    async def _hand_in(self, source: Source, message: Message) -> PushResult:
        try:
            left = await self._around.record(source, [message])
        except StoreUnavailable:
            return "late"
        except Exception as error:  # noqa: BLE001 -- a bug must not end the other pushes
            _log.error("push.unrecorded", source_id=public_id("src", source.id), exc_info=error)
            return "troubled"
        return "troubled" if left else "recorded"

    def _at_work(self, source: Source) -> Opened | None:
        """Give a source as it is set up now, opened; None when everything is ending."""
        opened = self._opened.get(source.id)
        if opened is not None and not opened.is_outdated(source):
            return opened
        self._retire([source.id])
        opened = Opened(source, open_push=self._around.open_push, note=self._around.note, sleep=self._around.sleep)
        if self._start(opened.run()) is None:
            return None
        self._opened[source.id] = opened
        return opened

    def _align(self, seen: Configuration | None) -> Configuration | None:
        """Retire what is gone from the newest set-up, or is otherwise there; gives the set-up it looked at."""
        try:
            configuration = self._around.configuration()
            if configuration is not seen:
                wanted = configuration.sources
                self._retire([each for each, opened in self._opened.items() if opened.is_outdated(wanted.get(each))])
        except Exception as error:  # noqa: BLE001 -- the loop's one; the sources at work go on
            _log.error("sources.unfollowed", exc_info=error)
            return None
        return configuration

    def _retire(self, source_ids: Sequence[SourceId]) -> None:
        for source_id in source_ids:
            if (opened := self._opened.pop(source_id, None)) is not None:
                opened.retire()

    async def _pause(self) -> None:
        await self._around.sleep(LOOK_SECONDS)

    def _start(self, work: Coroutine[None, None, _T]) -> "asyncio.Task[_T] | None":
        """Start a task of the group; None when the group is ending, cut off or not begun."""
        try:
            if self._tasks is not None:
                return self._tasks.create_task(work)
        except RuntimeError:
            # asyncio's word for a group that takes no more.
            pass
        work.close()
        return None
