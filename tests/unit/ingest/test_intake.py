"""Which sources are polled, and how the left half stops. How one source is worked off is in test_poller.py."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from app.domain.configuration import Configuration, Source
from app.ingest.intake import MAX_BYTES, Intake
from app.ingest.recorder import Recorder
from app.ingest.room import Room
from tests.unit.ingest.parts import FakePull, FakeStore, Journal, configuration, decode, message, reached, source
from tests.unit.ingest.pushing import no_pushes, pushing


class Scene:
    """The left half between fake sources and a fake store; the test changes `configuration`."""

    def __init__(self) -> None:
        self.journal: Journal = []
        self.store = FakeStore(self.journal)
        self.opened: asyncio.Queue[tuple[Source, FakePull]] = asyncio.Queue()
        self.configuration: Configuration = configuration()
        self.stop = asyncio.Event()
        self.intake = Intake(
            open_source=self._open,
            recorder=Recorder(store=self.store, decode=decode, wake=lambda _: None),
            store=self.store,
            configuration=lambda: self.configuration,
            is_polled=lambda each: each.kind != "s3",
            room=Room(max_messages=100, max_bytes=MAX_BYTES),
            pushes=no_pushes(),
        )
        self.running = asyncio.create_task(self.intake.run(self.stop))

    def _open(self, wanted: Source) -> FakePull:
        pull = FakePull(self.journal)
        self.opened.put_nowait((wanted, pull))
        return pull

    async def add(self, *sources: Source) -> list[FakePull]:
        """Set up just these sources and give those that were opened for it, in the order asked for."""
        new = [each for each in sources if each.kind == "fake" and self.configuration.sources.get(each.id) != each]
        self.configuration = configuration(*sources)
        opened = dict([await self._next() for _ in new])
        return [opened[each.id] for each in new]

    async def _next(self) -> tuple[bytes, FakePull]:
        wanted, pull = await self.opened.get()
        return wanted.id, pull


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """Run the left half without any source."""
    made = Scene()
    yield made
    made.running.cancel()
    await asyncio.gather(made.running, return_exceptions=True)


async def test_every_source_has_a_poller(scene: Scene) -> None:
    """Each is read, recorded and acknowledged by itself."""
    first, second = await scene.add(source(1), source(2))

    first.feed.put_nowait([message("a")])
    second.feed.put_nowait([message("b")])

    assert await first.acked.get() == ("a",)
    assert await second.acked.get() == ("b",)


async def test_a_source_added_later_is_polled(scene: Scene) -> None:
    """Without a restart, and the one at work is left alone."""
    [first] = await scene.add(source(1))

    [second] = await scene.add(source(1), source(2))
    second.feed.put_nowait([message("b")])

    assert await second.acked.get() == ("b",)
    assert (first.polls, first.closed) == (1, 0)


async def test_a_deleted_source_is_polled_no_more(scene: Scene) -> None:
    """Its poll under way ends within a moment, and the source is closed."""
    [pull] = await scene.add(source(1))
    pull.feed.put_nowait([message("a")])
    await pull.acked.get()

    await scene.add()
    await reached(lambda: pull.closed)

    assert pull.polls == 2


async def test_a_changed_source_is_opened_as_it_is_now(scene: Scene) -> None:
    """A new config opens it anew at once; a new name or state does not."""
    [first] = await scene.add(source(1))

    [second] = await scene.add(source(1, wait_seconds=3))
    scene.configuration = configuration(replace(source(1, wait_seconds=3), name="renamed", state="failing"))
    second.feed.put_nowait([message("a")])
    acked = await second.acked.get()
    await reached(lambda: first.closed)

    assert acked == ("a",)
    assert (second.closed, scene.opened.empty()) == (0, True)


async def test_what_pushes_or_is_paused_is_not_polled(scene: Scene) -> None:
    """A source that is paused later is polled no more, and polled again when it is not."""
    [pull] = await scene.add(source(1))
    scene.configuration = configuration(replace(source(1), is_paused=True), pushing(2))
    await reached(lambda: pull.closed)

    [again] = await scene.add(source(1), pushing(2))
    again.feed.put_nowait([message("a")])

    assert await again.acked.get() == ("a",)
    assert scene.opened.empty()


async def test_one_source_that_cannot_be_opened_stops_no_other(scene: Scene) -> None:
    """A kind this version does not know shows as the source's state; its neighbour is worked off."""
    good_open = scene.intake._around.open_source

    def open_source(wanted: Source) -> FakePull:
        if wanted.kind == "unknown":
            raise KeyError(wanted.kind)
        pull = good_open(wanted)
        assert isinstance(pull, FakePull)
        return pull

    scene.intake._around = replace(scene.intake._around, open_source=open_source)
    scene.configuration = configuration(replace(source(1), kind="unknown"), source(2))
    _, pull = await scene.opened.get()
    pull.feed.put_nowait([message("a")])

    assert await pull.acked.get() == ("a",)
    await reached(lambda: len(scene.store.states) == 2)
    assert (source(1).id, "failing", "KeyError: 'unknown'") in scene.store.states


async def test_a_configuration_that_cannot_be_read_ends_nothing(scene: Scene) -> None:
    """The pollers at work go on."""
    [pull] = await scene.add(source(1))
    del scene.configuration

    pull.feed.put_nowait([message("a")])

    assert await pull.acked.get() == ("a",)
    assert not scene.running.done()


async def test_a_stop_sees_through_what_was_received(scene: Scene) -> None:
    """Everything received is recorded and acknowledged, then all of it ends."""
    first, second = await scene.add(source(1), source(2))
    scene.store.may_commit.clear()
    first.feed.put_nowait([message("a")])
    await scene.store.asked.wait()

    scene.stop.set()
    first.feed.put_nowait([])
    second.feed.put_nowait([message("b")])
    second.feed.put_nowait([])
    scene.store.may_commit.set()
    await scene.running

    assert sorted(scene.journal) == [("ack", ("a",)), ("ack", ("b",)), ("commit", ("a",)), ("commit", ("b",))]
    assert (first.closed, second.closed) == (1, 1)


async def test_a_cancelled_end_acknowledges_nothing_uncommitted(scene: Scene) -> None:
    """When the time is over while the database is away, what is held is left to come again."""
    [pull] = await scene.add(source(1))
    scene.store.is_away = True
    pull.feed.put_nowait([message("a")])
    await scene.store.asked.wait()
    scene.stop.set()

    scene.running.cancel()
    await asyncio.gather(scene.running, return_exceptions=True)

    assert scene.running.cancelled()
    assert scene.journal == []
    assert pull.closed == 1
