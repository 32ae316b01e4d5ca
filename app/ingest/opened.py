"""One push source at work: vouches for what comes in its name, until it is retired and its last push is through."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final

import structlog

from app.domain.configuration import Source
from app.domain.errors import PushRefused, SourceError
from app.domain.ids import public_id
from app.domain.message import Message, Pushed
from app.domain.ports import PushSource, Sleep
from app.ingest.health import Health, Note
from app.ingest.room import SOURCE_BYTES, SOURCE_MESSAGES, Room

# SNS waits 15 s for an answer, and after the vouching comes the commit.
VOUCH_SECONDS: Final = 8.0

_log = structlog.get_logger(__name__)

OpenPush = Callable[[Source], PushSource]


class Opened:
    """A push source, opened when it is first needed, and how it fares."""

    def __init__(self, source: Source, *, open_push: OpenPush, note: Note, sleep: Sleep) -> None:
        """Take the source as it is set up; nothing is opened yet."""
        self.room = Room(max_messages=SOURCE_MESSAGES, max_bytes=SOURCE_BYTES)
        self._source = source
        self._open_push = open_push
        self._health = Health(source.id, note=note, sleep=sleep)
        self._push: PushSource | None = None
        self._visits = 0
        self._retired = asyncio.Event()
        self._through = asyncio.Event()

    def is_outdated(self, wanted: Source | None) -> bool:
        """Tell whether the source is gone, rests, or is set up otherwise now."""
        return wanted is None or wanted.is_paused or self._source.setup != wanted.setup

    async def run(self) -> None:
        """Write down how the source fares until it is retired and nobody visits it any more, then close it."""
        try:
            async with asyncio.TaskGroup() as noting:
                writing = noting.create_task(self._health.run(self._retired))
                await self._through.wait()
                writing.cancel()
        finally:
            await self._close()

    def retire(self) -> None:
        """Let it end once those who visit it now have gone."""
        self._retired.set()
        self._look_around()

    @contextlib.contextmanager
    def visit(self) -> Iterator[None]:
        """Keep it open meanwhile."""
        self._visits += 1
        try:
            yield
        finally:
            self._visits -= 1
            self._look_around()

    async def vouch(self, pushed: Pushed) -> Message | None:
        """Have the source vouch for a push; see PushSource. Raises nothing but PushRefused and SourceError.

        A refusal says nothing of how the source fares: anybody can send a forgery.
        """
        try:
            message = await self._accept(pushed)
        except PushRefused:
            raise
        except Exception as error:
            self._health.failed("receive", error)
            raise SourceError(str(error)) from error
        self._health.worked("receive")
        return message

    async def _accept(self, pushed: Pushed) -> Message | None:
        if self._push is None:
            self._push = self._open_push(self._source)
        try:
            async with asyncio.timeout(VOUCH_SECONDS):
                return await self._push.accept(pushed)
        except TimeoutError:
            raise SourceError(f"It took longer than {VOUCH_SECONDS:g} s to vouch for a push.") from None

    async def _close(self) -> None:
        try:
            if self._push is not None:
                await self._push.aclose()
        except Exception as error:  # noqa: BLE001 -- a bug in one source is not the others' end
            _log.error("source.unclosed", source_id=public_id("src", self._source.id), exc_info=error)

    def _look_around(self) -> None:
        if self._retired.is_set() and self._visits == 0:
            self._through.set()
