"""A source, a store and messages for the tests of the left half: in one journal what happened, in order."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime

from app.domain.configuration import Configuration, Profile, Source, SourceState
from app.domain.errors import StoreRefused, StoreUnavailable
from app.domain.event import Event
from app.domain.ids import DEFAULT_TENANT, EventId, LaneId, SourceId, TenantId
from app.domain.message import Decoded, Heard, Message, QueueMeasure, Recorded, Refusal

NOW = datetime(2026, 11, 24, tzinfo=UTC)
Journal = list[tuple[str, tuple[str, ...]]]


def source(number: int = 1, **config: int) -> Source:
    """Make a source."""
    return Source(
        id=SourceId(bytes([number]) * 16),
        tenant_id=DEFAULT_TENANT,
        name=f"source {number}",
        kind="fake",
        config=dict(config),
        created_at=NOW,
        updated_at=NOW,
    )


def configuration(*sources: Source) -> Configuration:
    """Make a set-up of sources alone."""
    return Configuration(epoch=1, endpoints={}, subscriptions={}, sources={each.id: each for each in sources})


def message(body: str) -> Message:
    """Make a message; its id and receipt are its body."""
    return Message(body=body.encode(), receipt=body, message_id=body)


def decode(body: bytes, *, tenant_id: TenantId, profile: Profile = "auto") -> Decoded:  # noqa: ARG001 -- the signature is decode's
    """Read a body: words are events, `?word` is a refusal, an empty body a test event."""
    assert tenant_id == DEFAULT_TENANT
    words = body.decode().split()
    return Decoded(
        events=tuple(event(word) for word in words if not word.startswith("?")),
        refusals=tuple(Refusal(reason=word, raw=word.encode()) for word in words if word.startswith("?")),
        is_test_event=not words,
    )


def event(word: str) -> Event:
    """Make an event whose record is a word."""
    return Event(
        id=EventId(word.encode().ljust(16)[:16]),
        day=date(2026, 11, 24),
        type="s3:ObjectCreated:Put",
        change="created",
        bucket="photos",
        key=word.encode(),
        received_key=word,
        version_id=None,
        size=None,
        etag=None,
        sequencer=None,
        time=NOW,
        region=None,
        actor=None,
        source_ip=None,
        request_id=None,
        host_id=None,
        extra=None,
        dialect="aws",
        record=word.encode(),
    )


class FakeStore:
    """An EventStore that refuses words with `!`, is away while told so, and holds transactions while told so."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.batches: list[list[Heard]] = []
        self.committed: list[str] = []
        self.quarantine: list[Refusal] = []
        self.states: list[tuple[SourceId, SourceState, str | None]] = []
        self.noted = asyncio.Event()
        self.asked = asyncio.Event()
        self.is_away = False
        self.bug: Exception | None = None
        self.may_commit = asyncio.Event()
        self.may_commit.set()

    async def record(self, batch: Sequence[Heard]) -> Recorded:
        """Take a batch, or refuse all of it."""
        self.asked.set()
        await self.may_commit.wait()
        if self.is_away:
            raise StoreUnavailable
        if self.bug is not None:
            raise self.bug
        self.batches.append(list(batch))
        events = [each.record.decode() for heard in batch for each in heard.decoded.events]
        refusals = [each for heard in batch for each in heard.decoded.refusals]
        if any("!" in word for word in events) or any("!!" in each.raw.decode() for each in refusals):
            raise StoreRefused("a NUL\0 in it")
        self.committed += events
        self.quarantine += refusals
        self.journal.append(("commit", tuple(events)))
        lanes = frozenset(LaneId(len(word)) for word in events)
        return Recorded(
            events=len(events), duplicates=0, deliveries=len(events), quarantined=len(refusals), lanes=lanes
        )

    async def note_source(self, source_id: SourceId, state: SourceState, error: str | None) -> None:
        """Keep a state."""
        if self.is_away:
            raise StoreUnavailable
        self.states.append((source_id, state, error))
        self.noted.set()


class FakePull:
    """A source fed by the test: each poll gives the next batch or raises the next error, or waits for one."""

    visibility_seconds = 30.0
    full_poll = 10

    def __init__(self, journal: Journal, *, max_polls: int = 1) -> None:
        self.journal = journal
        self.max_polls = max_polls
        self.measures: asyncio.Queue[QueueMeasure | Exception] = asyncio.Queue()
        self.feed: asyncio.Queue[Sequence[Message] | Exception] = asyncio.Queue()
        self.polls = self.under_way = 0
        self.acked: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()
        self.extended: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()
        self.ack_answers: list[Callable[[Sequence[Message]], Sequence[Message]]] = []
        self.opened = 0
        self.closed = 0

    def open(self, _: Source) -> "FakePull":
        """Open it, the first time or again."""
        self.opened += 1
        return self

    async def receive(self) -> Sequence[Message]:
        """Poll."""
        self.polls += 1
        self.under_way += 1
        try:
            given = await self.feed.get()
        finally:
            self.under_way -= 1
        if isinstance(given, Exception):
            raise given
        return given

    async def ack(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Forget messages, or do with them what the test said."""
        if self.ack_answers:
            return self.ack_answers.pop(0)(messages)
        receipts = tuple(each.receipt for each in messages)
        self.journal.append(("ack", receipts))
        self.acked.put_nowait(receipts)
        return ()

    async def extend(self, messages: Sequence[Message]) -> None:
        """Note the extension."""
        self.extended.put_nowait(tuple(each.receipt for each in messages))

    async def measure(self) -> QueueMeasure:
        """Give the next measure or raise the next error, or wait for one."""
        given = await self.measures.get()
        if isinstance(given, Exception):
            raise given
        return given

    async def aclose(self) -> None:
        """Note the end."""
        self.closed += 1


class Clock:
    """Sleeps that end when the test says so; `asked` tells what is being slept."""

    def __init__(self) -> None:
        self._sleeping: list[tuple[float, asyncio.Event]] = []
        self.spans: list[float] = []
        self._changed = asyncio.Condition()

    async def sleep(self, seconds: float) -> None:
        """Sleep until the test ends it."""
        woken = asyncio.Event()
        entry = (seconds, woken)
        self._sleeping.append(entry)
        self.spans.append(seconds)
        async with self._changed:
            self._changed.notify_all()
        try:
            await woken.wait()
        finally:
            if entry in self._sleeping:
                self._sleeping.remove(entry)

    async def asleep(self, at_least: float, at_most: float) -> None:
        """Wait until somebody sleeps for a span in these bounds."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: self._find(at_least, at_most) is not None)

    async def end(self, at_least: float, at_most: float) -> float:
        """Wait until somebody sleeps for a span in these bounds, end the sleep, and give the span."""
        await self.asleep(at_least, at_most)
        entry = self._find(at_least, at_most)
        assert entry is not None
        self._sleeping.remove(entry)
        entry[1].set()
        return entry[0]

    def _find(self, at_least: float, at_most: float) -> tuple[float, asyncio.Event] | None:
        return next((entry for entry in self._sleeping if at_least <= entry[0] <= at_most), None)


async def reached(condition: Callable[[], object], *, within: float = 10) -> None:
    """Wait until something is so; for what has no signal of its own."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 -- what is looked at is plain state of many kinds
            await asyncio.sleep(0.001)
