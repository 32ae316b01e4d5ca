"""The pulse of sources in one process: what is counted, when it is written down, and that it is in nobody's way."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from app.domain.errors import StoreUnavailable
from app.domain.ids import DEFAULT_TENANT, SourceId
from app.domain.message import Decoded, Heard, QueueMeasure, Refusal
from app.domain.pulse import Pulse
from app.ingest.pulse import NOTE_SECONDS, Pulses
from tests.unit.ingest.parts import NOW, Clock, event, reached

ONE, TWO = SourceId(b"1" * 16), SourceId(b"2" * 16)
QUEUE = QueueMeasure(depth=7, in_flight=2, delayed=1, oldest_seconds=3.5)


class FakePulseStore:
    """A PulseStore that keeps every call, and is away or broken while told so."""

    def __init__(self) -> None:
        self.notes: list[list[Pulse]] = []
        self.trouble: Exception | None = None
        self.tries = 0
        self.left = 0

    async def note(self, pulses: Sequence[Pulse]) -> None:
        """Keep what was noted."""
        self.tries += 1
        if self.trouble is not None:
            raise self.trouble
        self.notes.append(list(pulses))

    async def leave(self) -> None:
        """Count."""
        self.left += 1
        if self.trouble is not None:
            raise self.trouble


class Scene:
    """The pulses of a process whose time the test moves."""

    def __init__(self) -> None:
        self.store = FakePulseStore()
        self.sleeps = Clock()
        self.seconds = 1000.0
        self.stop = asyncio.Event()
        self.pulses = Pulses(
            self.store,
            sleep=self.sleeps.sleep,
            clock=lambda: self.seconds,
            utc=lambda: NOW + timedelta(seconds=self.seconds - 1000),
        )
        self.running = asyncio.create_task(self.pulses.run(self.stop))

    async def after(self, seconds: float = NOTE_SECONDS) -> list[Pulse]:
        """Let time pass until the next note, and give what was noted then."""
        known = len(self.store.notes)
        self.seconds += seconds
        await self.sleeps.end(NOTE_SECONDS, NOTE_SECONDS)
        await self.sleeps.asleep(NOTE_SECONDS, NOTE_SECONDS)
        return [each for note in self.store.notes[known:] for each in note]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """Run the pulses."""
    made = Scene()
    yield made
    made.stop.set()
    await made.running


def _heard(source_id: SourceId, *ages: float, refusals: int = 0) -> Heard:
    """Let a message tell of events of that many seconds before the clock's start."""
    return Heard(
        source_id=source_id,
        tenant_id=DEFAULT_TENANT,
        decoded=Decoded(
            events=tuple(replace(event("a"), time=NOW - timedelta(seconds=age)) for age in ages),
            refusals=(Refusal(reason="no", raw=b""),) * refusals,
        ),
    )


async def test_events_are_counted_over_the_last_minute(scene: Scene) -> None:
    """The rate is the mean of sixty seconds: what came before counts no more, and then there is nothing to say."""
    scene.pulses.heard([_heard(ONE, 1, 1), _heard(ONE, 1)])
    first = await scene.after()
    scene.pulses.heard([_heard(ONE, 1, 1, 1)])
    second = await scene.after(30)
    third = await scene.after(30)
    fourth = await scene.after(30)
    fifth = await scene.after(30)

    assert [each.events_per_second for each in (*first, *second, *third)] == [3 / 60, 6 / 60, 3 / 60]
    assert fourth == [Pulse(source_id=ONE)]
    assert fifth == []


async def test_the_lag_is_that_of_the_middle_event_of_the_newest_batch(scene: Scene) -> None:
    """One redriven straggler does not make a source look late; a clock ahead of ours is no lag."""
    scene.pulses.heard([_heard(ONE, 4, 90_000), _heard(ONE, 2)])
    first = await scene.after()
    scene.pulses.heard([_heard(ONE, -500)])
    second = await scene.after()

    assert [each.lag_seconds for each in (*first, *second)] == [4, 0]


async def test_what_is_no_event_is_not_counted(scene: Scene) -> None:
    """Refusals and test events are neither fast nor late."""
    scene.pulses.heard([_heard(ONE, refusals=3)])

    assert await scene.after() == []


async def test_sources_are_counted_apart_and_noted_together(scene: Scene) -> None:
    """One note holds them all, in the order of their ids."""
    scene.pulses.heard([_heard(TWO, 1), _heard(ONE, 5, 5)])
    scene.pulses.measured(TWO, QUEUE)

    await scene.after()

    assert scene.store.notes == [
        [
            Pulse(source_id=ONE, events_per_second=2 / 60, lag_seconds=5),
            Pulse(source_id=TWO, events_per_second=1 / 60, lag_seconds=1, queue=QUEUE),
        ]
    ]


async def test_what_did_not_change_is_said_again_before_it_is_held_for_old(scene: Scene) -> None:
    """A source with the same figures is written every ten seconds, not every five."""
    scene.pulses.measured(ONE, QUEUE)

    noted = [len(await scene.after()) for _ in range(6)]

    assert noted == [1, 0, 1, 0, 1, 0]


async def test_a_measure_nobody_renews_is_dropped(scene: Scene) -> None:
    """Its poller has ended, or the queue cannot be looked at any more."""
    scene.pulses.measured(ONE, QUEUE)
    first = await scene.after()
    later = await scene.after(61)
    scene.pulses.measured(ONE, QUEUE)
    again = await scene.after()
    scene.pulses.measured(ONE, None)
    unknown = await scene.after()

    assert [each.queue for each in (*first, *later, *again, *unknown)] == [QUEUE, None, QUEUE, None]


async def test_an_idle_process_writes_nothing(scene: Scene) -> None:
    """Without a source, or with one that says nothing, the store is not called."""
    scene.pulses.measured(ONE, None)

    await scene.after()
    await scene.after()

    assert scene.store.tries == 0
    assert scene.pulses._counts == {}


@pytest.mark.parametrize("trouble", [StoreUnavailable(), ZeroDivisionError("a bug")])
async def test_what_cannot_be_written_is_dropped_and_ends_nothing(scene: Scene, trouble: Exception) -> None:
    """Counting goes on, and the first note afterwards holds the present, even where nothing changed."""
    scene.pulses.measured(ONE, QUEUE)
    scene.store.trouble = trouble
    during = await scene.after()
    scene.store.trouble = None

    afterwards = await scene.after(0)

    assert during == []
    assert afterwards == [Pulse(source_id=ONE, queue=QUEUE)]


@pytest.mark.parametrize("trouble", [None, StoreUnavailable()])
async def test_a_process_that_stops_takes_out_what_it_said(scene: Scene, trouble: Exception | None) -> None:
    """A stop does not wait for the next note, and a database that is away does not keep it."""
    scene.store.trouble = trouble
    await scene.sleeps.asleep(NOTE_SECONDS, NOTE_SECONDS)

    scene.stop.set()
    await reached(scene.running.done)

    assert scene.store.left == 1
