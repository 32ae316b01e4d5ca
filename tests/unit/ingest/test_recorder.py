"""How messages become transactions. How a refused batch is split is in test_bisection.py."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from app.domain.configuration import Profile
from app.domain.errors import StoreError, StoreUnavailable
from app.domain.ids import LaneId, TenantId
from app.domain.message import Decoded, Heard, Message
from app.ingest.recorder import Recorder
from tests.unit.ingest.parts import Clock, FakeStore, decode, message, source


@asynccontextmanager
async def _running(recorder: Recorder) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(recorder.run(stop))
    yield
    stop.set()
    await task


def _recorder(store: FakeStore, clock: Clock | None = None, woken: list[frozenset[LaneId]] | None = None) -> Recorder:
    return Recorder(
        store=store,
        decode=decode,
        wake=(woken if woken is not None else []).append,
        sleep=(clock or Clock()).sleep,
    )


def _recording(recorder: Recorder, *bodies: str) -> "asyncio.Task[Sequence[Message]]":
    return asyncio.create_task(recorder.record(source(), [message(body) for body in bodies]))


async def test_record_returns_after_the_commit_and_wakes_the_lanes() -> None:
    """Nothing is said to be recorded before the store has returned; then the lanes it named are woken."""
    store, woken = FakeStore([]), list[frozenset[LaneId]]()
    store.may_commit.clear()
    recorder = _recorder(store, woken=woken)
    async with _running(recorder):
        recording = _recording(recorder, "a bcd")
        await store.asked.wait()
        was_done = recording.done()

        store.may_commit.set()
        await recording

    assert not was_done
    assert woken == [frozenset({1, 3})]


async def test_what_arrives_while_a_transaction_runs_is_the_next_batch() -> None:
    """The first goes alone and at once; the others, from several pollers, share the second transaction."""
    store = FakeStore([])
    store.may_commit.clear()
    recorder = _recorder(store)
    async with _running(recorder):
        first = _recording(recorder, "first")
        await store.asked.wait()
        others = [_recording(recorder, f"poller{number}", "more") for number in range(5)]
        await asyncio.sleep(0)

        store.may_commit.set()
        await asyncio.gather(first, *others)

    assert [len(batch) for batch in store.batches] == [1, 10]


async def test_a_batch_is_bounded() -> None:
    """No transaction takes more than 500 messages."""
    store = FakeStore([])
    store.may_commit.clear()
    recorder = _recorder(store)
    async with _running(recorder):
        first = _recording(recorder, "first")
        await store.asked.wait()
        others = [_recording(recorder, *(f"w{number}" for number in range(10))) for _ in range(60)]
        await asyncio.sleep(0)

        store.may_commit.set()
        await asyncio.gather(first, *others)

    assert [len(batch) for batch in store.batches] == [1, 500, 100]


async def test_a_refused_message_does_not_fail_its_neighbours() -> None:
    """The offender is quarantined, and every poller may acknowledge."""
    store = FakeStore([])
    recorder = _recorder(store)
    async with _running(recorder):
        await asyncio.gather(*(_recording(recorder, body) for body in ("a", "bad!", "c")))

    assert sorted(store.committed) == ["a", "c"]
    assert [each.raw for each in store.quarantine] == [b"bad!"]


async def test_what_was_committed_is_counted() -> None:
    """After the commit, message by message; what no form of the database takes is not."""
    store, counted = FakeStore([]), list[Sequence[Heard]]()
    recorder = Recorder(store=store, decode=decode, wake=lambda _: None, count=counted.append)
    async with _running(recorder):
        await asyncio.gather(*(_recording(recorder, body) for body in ("a", "bad!", "?worse!!")))

    told = [each.decoded for batch in counted for each in batch]
    assert sorted(event.record for each in told for event in each.events) == [b"a", b"bad!"]
    assert not [refusal for each in told for refusal in each.refusals]


async def test_a_hopeless_message_alone_is_given_back() -> None:
    """What the database takes in no form must not be acknowledged; its neighbours, also of its own call, may be."""
    store = FakeStore([])
    store.may_commit.clear()
    recorder = _recorder(store)
    async with _running(recorder):
        recordings = [_recording(recorder, *bodies) for bodies in (("a",), ("b", "c ?worse!!", "d"), ("e",))]
        store.may_commit.set()
        left = await asyncio.gather(*recordings)

    assert [list(each) for each in left] == [[], [message("c ?worse!!")], []]
    assert sorted(store.committed) == ["a", "b", "c", "d", "e"]


async def test_of_two_equal_messages_each_is_told_apart() -> None:
    """Copies of one hopeless message in one call are both given back, though they are equal."""
    store = FakeStore([])
    recorder = _recorder(store)
    async with _running(recorder):
        left = await _recording(recorder, "?worse!!", "good", "?worse!!")

    assert [each.body for each in left] == [b"?worse!!", b"?worse!!"]


async def test_an_absent_database_is_waited_for() -> None:
    """The same batch is tried with pauses that grow to a second until the database is back."""
    store, clock = FakeStore([]), Clock()
    store.is_away = True
    recorder = _recorder(store, clock)
    async with _running(recorder):
        recording = _recording(recorder, "held")
        spans = [await clock.end(0, 60) for _ in range(12)]
        await clock.asleep(0, 60)
        was_done = recording.done()

        store.is_away = False
        await clock.end(0, 60)
        await recording

    assert not was_done
    assert spans[0] <= 0.1
    assert 0.5 <= spans[-1] <= 1
    assert store.committed == ["held"]


async def test_a_decoder_that_fails_has_its_message_quarantined() -> None:
    """A bug in decoding keeps the bytes where people see them, rather than in a loop through the queue."""
    store = FakeStore([])

    def broken(body: bytes, *, tenant_id: TenantId, profile: Profile = "auto") -> Decoded:
        raise KeyError((body, tenant_id, profile))

    recorder = Recorder(store=store, decode=broken, wake=lambda _: None)
    async with _running(recorder):
        await recorder.record(source(), [message("odd")])

    assert [each.raw for each in store.quarantine] == [b"odd"]


async def test_a_bug_in_the_store_ends_nothing() -> None:
    """An error nobody foresaw fails the waits of its batch, and the next batch is recorded."""
    store = FakeStore([])
    recorder = _recorder(store)
    async with _running(recorder):
        store.bug = ZeroDivisionError("nobody foresaw this")
        with pytest.raises(StoreError, match="Not recorded: nobody foresaw this"):
            await recorder.record(source(), [message("first")])
        store.bug = None
        await recorder.record(source(), [message("next")])

    assert store.committed == ["next"]


async def test_a_stop_records_what_was_handed_in() -> None:
    """After the stop everything that waits is still committed, and only then does it end."""
    store = FakeStore([])
    store.may_commit.clear()
    recorder, stop = _recorder(store), asyncio.Event()
    task = asyncio.create_task(recorder.run(stop))
    recordings = [_recording(recorder, "a")]
    await store.asked.wait()
    recordings.append(_recording(recorder, "b"))
    await asyncio.sleep(0)

    stop.set()
    store.may_commit.set()
    await task

    assert store.committed == ["a", "b"]
    assert [recording.exception() for recording in recordings if await asyncio.wait([recording])] == [None, None]


async def test_an_end_without_a_commit_leaves_nobody_waiting() -> None:
    """Cancelled while the database is away, it fails every wait, so that nothing is acknowledged."""
    store = FakeStore([])
    store.is_away = True
    recorder = _recorder(store)
    task = asyncio.create_task(recorder.run(asyncio.Event()))
    recordings = [_recording(recorder, "a")]
    await store.asked.wait()
    recordings.append(_recording(recorder, "b"))
    await asyncio.sleep(0)

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    for recording in recordings:
        with pytest.raises(StoreUnavailable):
            await recording
    with pytest.raises(StoreUnavailable):
        await recorder.record(source(), [message("late")])
