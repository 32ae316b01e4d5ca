"""How one source is worked off. How messages become transactions is in test_recorder.py."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Self

import pytest

from app.domain.errors import SourceError
from app.domain.message import Message, QueueMeasure
from app.ingest.poller import Poller, Surroundings
from app.ingest.recorder import Recorder
from app.ingest.room import Room
from tests.unit.ingest.parts import Clock, FakePull, FakeStore, Journal, decode, message, reached, source


class Scene:
    """A poller between a fake source and a fake store, with a recorder of its own."""

    def __init__(self, *, max_messages: int = 100, max_polls: int = 1) -> None:
        self.journal: Journal = []
        self.store = FakeStore(self.journal)
        self.pull = FakePull(self.journal, max_polls=max_polls)
        self.measured: asyncio.Queue[QueueMeasure | None] = asyncio.Queue()
        self.clock = Clock()
        self.stop = asyncio.Event()
        self.recorder = Recorder(store=self.store, decode=decode, wake=lambda _: None, sleep=self.clock.sleep)
        self.room = Room(max_messages=max_messages, max_bytes=1_000_000)
        self.poller = Poller(
            source(),
            Surroundings(
                open_source=self.pull.open,
                record=self.recorder.record,
                note=self.store.note_source,
                room=self.room,
                measured=lambda _, measure: self.measured.put_nowait(measure),
                sleep=self.clock.sleep,
            ),
        )
        self.running: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self.running = [
            asyncio.create_task(self.poller.run(self.stop)),
            asyncio.create_task(self.recorder.run(asyncio.Event())),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)

    def give(self, *bodies: str) -> None:
        """Let the next poll bring these."""
        self.pull.feed.put_nowait([message(body) for body in bodies])

    async def ended(self) -> None:
        """Wait until the poller has ended by itself."""
        await self.running[0]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """Run a poller."""
    async with Scene() as made:
        yield made


async def test_nothing_is_acknowledged_before_its_commit(scene: Scene) -> None:
    """The journal of store and source: commit, then ack, for each batch."""
    scene.store.may_commit.clear()
    scene.give("a", "b c")
    await scene.store.asked.wait()
    before = list(scene.journal)

    scene.store.may_commit.set()
    await scene.pull.acked.get()

    assert before == []
    assert scene.journal == [("commit", ("a", "b", "c")), ("ack", ("a", "b c"))]


async def test_polling_goes_on_while_a_transaction_runs(scene: Scene) -> None:
    """What later polls bring shares the second transaction."""
    scene.store.may_commit.clear()
    scene.give("a")
    await scene.store.asked.wait()
    scene.give("b")
    scene.give("c")
    await reached(lambda: scene.pull.polls == 4)

    scene.store.may_commit.set()
    acked = [await scene.pull.acked.get() for _ in range(3)]

    assert sorted(acked) == [("a",), ("b",), ("c",)]
    assert [events for what, events in scene.journal if what == "commit"] == [("a",), ("b", "c")]


async def test_test_events_and_refusals_are_acknowledged_too(scene: Scene) -> None:
    """What says nothing of an object is recorded as such and does not come again."""
    scene.give("", "?odd", "bad!")

    acked = await scene.pull.acked.get()

    assert acked == ("", "?odd", "bad!")
    assert [each.raw for each in scene.store.quarantine if each.raw != b"bad!"] == [b"?odd"]


async def test_what_the_database_takes_in_no_form_is_not_acknowledged(scene: Scene) -> None:
    """It stays with the source; the others of its poll are acknowledged, and polling goes on."""
    scene.give("a", "?worse!!", "b")
    first = await scene.pull.acked.get()
    scene.give("?worse!!")
    scene.give("good")

    acked = await scene.pull.acked.get()

    assert (first, acked) == (("a", "b"), ("good",))
    assert scene.pull.acked.empty()
    await reached(lambda: scene.room.is_empty)


async def test_messages_are_kept_hidden_while_the_database_is_away(scene: Scene) -> None:
    """Extended at a third of their span, again and again; then recorded, acknowledged and extended no more."""
    scene.store.is_away = True
    scene.give("held", "too")

    for _ in range(3):
        await scene.clock.end(10, 10)
        assert await scene.pull.extended.get() == ("held", "too")
    journal_while_away = list(scene.journal)
    scene.store.is_away = False
    await scene.clock.end(0.05, 0.1)
    acked = await scene.pull.acked.get()
    await reached(lambda: scene.room.is_empty)

    assert journal_while_away == []
    assert acked == ("held", "too")
    assert scene.pull.extended.empty()


async def test_a_failing_extension_is_tried_again(scene: Scene) -> None:
    """It shows as the source's state, and the next one comes a third of the span later."""
    scene.store.may_commit.clear()
    calls: list[int] = []

    async def extend(messages: Sequence[Message]) -> None:
        calls.append(len(messages))
        if len(calls) == 1:
            raise SourceError("AccessDenied: not you")

    scene.pull.extend = extend  # type: ignore[method-assign]  # a fake that fails once
    scene.give("a")

    await scene.clock.end(10, 10)
    await scene.clock.end(10, 10)
    await scene.clock.asleep(10, 10)

    assert calls == [1, 1]


async def test_without_room_there_is_no_poll() -> None:
    """As long as more is held than may be, nothing is asked for; with the commit polling goes on."""
    async with asyncio.timeout(10), Scene(max_messages=3) as scene:
        scene.store.may_commit.clear()
        scene.give("a", "b")
        scene.give("c")
        scene.give("d")
        await scene.store.asked.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        polls_while_full = scene.pull.polls

        scene.store.may_commit.set()
        acked = [await scene.pull.acked.get() for _ in range(3)]

        assert polls_while_full == 2
        assert sorted(acked) == [("a", "b"), ("c",), ("d",)]


async def test_messages_that_could_not_be_acknowledged_are_tried_again(scene: Scene) -> None:
    """Those given back, and all of a call that failed, are acknowledged a little later."""
    scene.pull.ack_answers += [lambda messages: messages[1:], _failing]
    scene.give("a", "b", "c")

    first = await scene.clock.end(0.2, 0.2)
    second = await scene.clock.end(1, 1)
    acked = await scene.pull.acked.get()

    assert (first, second, acked) == (0.2, 1.0, ("b", "c"))


async def test_messages_that_cannot_be_acknowledged_are_left(scene: Scene) -> None:
    """After four tries they are let go: they come again as duplicates, and take no room meanwhile."""
    scene.pull.ack_answers += [lambda messages: messages] * 4
    scene.give("a")
    for pause in (0.2, 1.0, 3.0):
        await scene.clock.end(pause, pause)
    scene.give("b")

    acked = await scene.pull.acked.get()

    assert acked == ("b",)
    assert scene.pull.ack_answers == []


async def test_a_first_empty_answer_makes_the_source_ok(scene: Scene) -> None:
    """It can be read; whether it has something to say does not matter."""
    scene.give()

    await scene.store.noted.wait()

    assert scene.store.states == [(source().id, "ok", None)]


async def test_a_source_that_fails_says_why_and_is_tried_again(scene: Scene) -> None:
    """Its state is written once per change, its tries come slower and slower up to 30 s, each opened anew."""
    denied = SourceError("AccessDenied: not you")
    for _ in range(9):
        scene.pull.feed.put_nowait(denied)
    spans = [await scene.clock.end(0.25, 30) for _ in range(9)]
    scene.give("a")
    await scene.pull.acked.get()
    await reached(lambda: len(scene.store.states) == 2)

    assert [state for _, *state in scene.store.states] == [["failing", "AccessDenied: not you"], ["ok", None]]
    assert 0.25 <= spans[0] <= 0.5
    assert 15 <= spans[-1] <= 30
    assert (scene.pull.opened, scene.pull.closed) == (10, 9)


async def test_a_source_that_fails_while_messages_are_held_is_not_opened_anew(scene: Scene) -> None:
    """The messages held belong to what is open."""
    scene.store.may_commit.clear()
    scene.give("held")
    await scene.store.asked.wait()
    scene.pull.feed.put_nowait(SourceError("Throttled: slower"))
    await scene.clock.end(0.25, 0.5)

    scene.store.may_commit.set()
    await scene.pull.acked.get()

    assert (scene.pull.opened, scene.pull.closed) == (1, 0)


async def test_a_denied_acknowledgement_is_seen_though_polls_succeed(scene: Scene) -> None:
    """The source stays failing until an acknowledgement succeeds."""
    scene.pull.ack_answers += [_failing] * 2
    scene.give("a")
    await scene.clock.end(0.2, 0.2)
    await scene.clock.asleep(1, 1)
    scene.give("b")
    await scene.pull.acked.get()
    await scene.clock.end(1, 1)
    await scene.pull.acked.get()
    await reached(lambda: scene.store.states[-1][1] == "ok")

    assert (source().id, "failing", "AccessDenied: no deleting") in scene.store.states


async def test_an_unforeseen_error_is_a_state_too(scene: Scene) -> None:
    """A bug in a source shows as its last error and ends nothing."""
    scene.pull.feed.put_nowait(KeyError("Messages"))
    await scene.clock.end(0.25, 0.5)
    scene.give("a")

    acked = await scene.pull.acked.get()

    assert acked == ("a",)
    assert scene.store.states[0][1:] == ("failing", "KeyError: 'Messages'")


async def test_a_state_is_written_when_the_database_is_back(scene: Scene) -> None:
    """While it is away polling goes on, and the newest state is what is written in the end."""
    scene.store.is_away = True
    scene.pull.feed.put_nowait(SourceError("AccessDenied: not you"))
    scene.give()
    await scene.clock.end(0.25, 0.5)
    await scene.clock.end(0.2, 0.2)
    await scene.clock.asleep(1, 1)

    scene.store.is_away = False
    await scene.clock.end(1, 1)
    await scene.store.noted.wait()

    assert scene.store.states == [(source().id, "ok", None)]


async def test_a_source_that_answers_at_once_is_not_hammered() -> None:
    """An empty answer without any waiting is followed by a pause."""
    scene = Scene()
    scene.give()

    async with scene:
        await scene.clock.asleep(0.2, 0.2)

    assert scene.pull.polls == 1


async def test_a_stop_sees_everything_through(scene: Scene) -> None:
    """No new poll; what the poll under way brings and what is held is recorded and acknowledged; then it closes."""
    scene.store.may_commit.clear()
    scene.give("held")
    await scene.store.asked.wait()
    await reached(lambda: scene.pull.polls == 2)

    scene.stop.set()
    scene.give("last")
    scene.give("never received")
    scene.store.may_commit.set()
    await scene.ended()

    assert scene.journal == [("commit", ("held",)), ("ack", ("held",)), ("commit", ("last",)), ("ack", ("last",))]
    assert (scene.pull.polls, scene.pull.closed) == (2, 1)


async def test_a_poll_can_be_cut_short(scene: Scene) -> None:
    """The poll ends without messages, what is held is still seen through."""
    scene.give("held")
    await scene.pull.acked.get()
    await reached(lambda: scene.pull.polls == 2)

    scene.stop.set()
    scene.poller.cut_short(0)
    await scene.ended()

    assert scene.pull.closed == 1


async def test_cancelling_acknowledges_nothing_uncommitted(scene: Scene) -> None:
    """Who has no more time cancels: the source is closed, and what was held comes again."""
    scene.store.may_commit.clear()
    scene.give("held")
    await scene.store.asked.wait()

    scene.running[0].cancel()
    await asyncio.gather(scene.running[0], return_exceptions=True)

    assert scene.running[0].cancelled()
    assert scene.journal == []
    assert scene.pull.closed == 1
    assert scene.room.is_empty


def _failing(_: Sequence[Message]) -> Sequence[Message]:
    raise SourceError("AccessDenied: no deleting")


def _full(name: str) -> list[str]:
    return [f"{name}{number}" for number in range(FakePull.full_poll)]


async def test_full_polls_start_others_up_to_the_most() -> None:
    """One poll while nothing comes; each full one starts another beside it, and there are never more than allowed."""
    async with asyncio.timeout(10), Scene(max_polls=3) as scene:
        await reached(lambda: scene.pull.polls == 1)
        seen = [scene.pull.under_way]
        for name in "abcd":
            scene.give(*_full(name))
            await scene.pull.acked.get()
            seen.append(scene.pull.under_way)

    assert seen == [1, 2, 3, 3, 3]


async def test_polls_that_are_not_full_leave_one() -> None:
    """The others end with their first poll that is not full; the lead goes on, and the next full one starts anew."""
    async with asyncio.timeout(10), Scene(max_polls=4) as scene:
        for name in "abc":
            scene.give(*_full(name))
            await scene.pull.acked.get()
        await reached(lambda: scene.pull.under_way == 4)
        most = scene.pull.under_way
        for word in ("d", "e", "f", "g", "h", "i", "j", "k"):
            scene.give(word)
            await scene.pull.acked.get()
        await reached(lambda: scene.pull.under_way == 1)
        scene.give(*_full("l"))
        await reached(lambda: scene.pull.under_way == 2)

    assert most == 4


async def test_a_failing_poll_ends_beside_the_lead_alone_backs_off() -> None:
    """Four polls that fail are one failing source with one pause, not four."""
    async with asyncio.timeout(10), Scene(max_polls=4) as scene:
        for name in "abc":
            scene.give(*_full(name))
            await scene.pull.acked.get()
        await reached(lambda: scene.pull.under_way == 4)

        for _ in range(4):
            scene.pull.feed.put_nowait(SourceError("OverLimit: too many messages in flight"))
        await scene.clock.end(0.25, 0.5)
        await reached(lambda: scene.pull.under_way == 1)

    assert len([span for span in scene.clock.spans if 0.25 <= span <= 0.5]) == 1
    assert scene.store.states[-1][1:] == ("failing", "OverLimit: too many messages in flight")


async def test_polls_under_way_count_as_held() -> None:
    """Polls beside the lead start only where there is room for what they may bring."""
    async with asyncio.timeout(10), Scene(max_messages=25, max_polls=8) as scene:
        scene.store.may_commit.clear()
        scene.give(*_full("a"))
        await scene.store.asked.wait()
        await reached(lambda: scene.pull.polls == 3)
        for _ in range(50):
            await asyncio.sleep(0)
        seen = scene.pull.under_way
        scene.give(*_full("b"))
        await reached(lambda: scene.pull.under_way == 1)
        for _ in range(50):
            await asyncio.sleep(0)

        assert (seen, scene.pull.polls) == (2, 3)


async def test_a_stop_ends_every_poll_after_what_it_brings() -> None:
    """Each poll under way may still bring its messages, which are seen through; no other is started."""
    async with asyncio.timeout(10), Scene(max_polls=3) as scene:
        for name in "ab":
            scene.give(*_full(name))
            await scene.pull.acked.get()
        await reached(lambda: scene.pull.under_way == 3)
        polls = scene.pull.polls

        scene.stop.set()
        for name in "cde":
            scene.give(*_full(name))
        await scene.ended()

        assert scene.pull.polls == polls
        assert len([what for what, _ in scene.journal if what == "ack"]) == 5
        assert scene.pull.closed == 1


async def test_every_poll_can_be_cut_short() -> None:
    """All that are under way end without messages."""
    async with asyncio.timeout(10), Scene(max_polls=3) as scene:
        for name in "ab":
            scene.give(*_full(name))
            await scene.pull.acked.get()
        await reached(lambda: scene.pull.under_way == 3)

        scene.stop.set()
        scene.poller.cut_short(0)
        await scene.ended()

        assert scene.pull.under_way == 0


async def test_a_source_that_is_read_is_measured_again_and_again(scene: Scene) -> None:
    """First when it was read, then every 15 s; what cannot be measured is told as unknown and fails nothing."""
    measure = QueueMeasure(depth=3, in_flight=2, delayed=1, oldest_seconds=4.5)
    scene.pull.measures.put_nowait(measure)
    scene.pull.measures.put_nowait(SourceError("AccessDenied: no attributes"))
    scene.pull.measures.put_nowait(measure)
    scene.give("a")
    seen = [await scene.measured.get()]
    for _ in range(2):
        await scene.clock.end(15, 15)
        seen.append(await scene.measured.get())
    await reached(lambda: scene.store.states)

    assert seen == [measure, None, measure]
    assert [state for _, *state in scene.store.states] == [["ok", None]]
