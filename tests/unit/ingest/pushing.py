"""Push sources, and what is around them, for the tests of what is pushed to us."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Self

from app.domain.configuration import Configuration, Source
from app.domain.errors import StoreUnavailable
from app.domain.ids import SourceId
from app.domain.message import Message, Pushed, Road
from app.ingest.push import Arriving, Pushes, PushResult, PushSurroundings
from app.ingest.recorder import Recorder
from app.ingest.room import Room
from tests.unit.ingest.parts import FakeStore, Journal, configuration, decode, reached, source

TOKEN = "right-token"


def pushing(number: int = 1, *, kind: str = "s3", **config: int) -> Source:
    """Make a source that pushes by the road of its kind's name, with a token."""
    return replace(source(number, **config), kind=kind, token_hash=hashlib.sha256(TOKEN.encode()).digest())


class FakePush:
    """A PushSource that takes all, or does what the test says."""

    def __init__(self, wanted: Source) -> None:
        self.source = wanted
        self.seen: list[Pushed] = []
        self.answer: Exception | str | None = "take"
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.closed = 0

    async def accept(self, pushed: Pushed) -> Message | None:
        """Take a push."""
        self.seen.append(pushed)
        await self.may_answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return None if self.answer is None else Message(body=pushed.body, receipt="", message_id="")

    async def aclose(self) -> None:
        """Note the end."""
        self.closed += 1


class Scene:
    """Pushes between fake sources and a fake store, with the recorder between; `known` is what the snapshot holds."""

    def __init__(self, *, max_messages: int = 100, answer_seconds: float = 30.0) -> None:
        self.journal: Journal = []
        self.store = FakeStore(self.journal)
        self.known: Configuration = configuration(pushing())
        self.truth: Configuration | None = None
        self.refreshes = 0
        self.is_database_away = False
        self.may_refresh = asyncio.Event()
        self.may_refresh.set()
        self.opened: list[FakePush] = []
        self.room = Room(max_messages=max_messages, max_bytes=10_000_000)
        self.stop = asyncio.Event()
        self.recorder_stop = asyncio.Event()
        self.recorder = Recorder(store=self.store, decode=decode, wake=lambda _: None)
        self.pushes = Pushes(
            PushSurroundings(
                road_of=_road_of,
                open_push=self._open,
                record=self.recorder.record,
                note=self.store.note_source,
                room=self.room,
                configuration=lambda: self.known,
                refresh=self._refresh,
                answer_seconds=answer_seconds,
            )
        )

    async def __aenter__(self) -> Self:
        self.recording = asyncio.create_task(self.recorder.run(self.recorder_stop))
        self.running = asyncio.create_task(self.pushes.run(self.stop))
        await reached(lambda: self.pushes.is_open)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (self.running, self.recording):
            task.cancel()
        await asyncio.gather(self.running, self.recording, return_exceptions=True)

    async def push(  # noqa: PLR0913 -- what pushes differ in
        self,
        body: str = "a",
        *,
        to: SourceId | None = None,
        road: Road = "s3",
        tokens: tuple[str, ...] = (TOKEN,),
        chunks: AsyncIterator[bytes] | None = None,
        announced_bytes: int | None = None,
    ) -> PushResult:
        """Push a body to a source."""
        size = len(body) if announced_bytes is None else announced_bytes
        arriving = Arriving(headers={}, tokens=tokens, announced_bytes=size, chunks=chunks or _chunks(body.encode()))
        return await self.pushes.take(road, to or pushing().id, arriving)

    def _open(self, wanted: Source) -> FakePush:
        self.opened.append(FakePush(wanted))
        return self.opened[-1]

    async def _refresh(self) -> Configuration:
        self.refreshes += 1
        if self.is_database_away:
            raise StoreUnavailable
        truth = self.truth
        await self.may_refresh.wait()
        self.known = truth or self.known
        return self.known


def no_pushes() -> Pushes:
    """Give pushes of which none come."""
    return Scene().pushes


def _road_of(wanted: Source) -> Road | None:
    return {"s3": "s3", "sns": "sns"}.get(wanted.kind)  # type: ignore[return-value]  # the names are the roads


async def _chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
